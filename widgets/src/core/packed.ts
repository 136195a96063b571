// JSON that a trait holds deflated.
import { useEffect, useState } from "preact/hooks";
import { inflate } from "./kernel";
import type { Model } from "./widget";

/** The unpacked value, null while it is being unpacked; and what went wrong. */
export function usePacked<T>(model: Model, unpack: (value: any) => T): [T | null, string] {
  const [value, setValue] = useState<T | null>(null);
  const [trouble, setTrouble] = useState("");
  useEffect(() => {
    let current = true;
    const changed = () =>
      inflate(model.get("packed"))
        .then((data) => unpack(JSON.parse(new TextDecoder().decode(data))))
        .then((found) => {
          if (!current) return;
          setValue(found);
          setTrouble("");
        })
        .catch(() => current && setTrouble("What was stored for this view cannot be read."));
    changed();
    model.on("change:packed", changed);
    return () => {
      current = false;
      model.off("change:packed", changed);
    };
  }, [model]);
  return [value, trouble];
}
