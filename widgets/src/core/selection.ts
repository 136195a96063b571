// What is selected in the views that share a selection.
import { useEffect, useState } from "preact/hooks";
import { tell } from "./model";
import type { Model } from "./widget";

/** As Python's `Selection` has it. */
interface Selected {
  token: number;
  step: number;
  head: number;
  layer: number;
  module: string;
}

const NOTHING: Selected = { token: -1, step: -1, head: -1, layer: -1, module: "" };

export function select<Name extends keyof Selected>(selection: Model | null, name: Name, value: Selected[Name]): void {
  if (!selection) return;
  selection.set(name, value);
  tell(selection);
}

/** What is selected, kept up to date, and what selects another. Without a selection it is the view's own. */
export function useSelected<Name extends keyof Selected>(
  selection: Model | null,
  name: Name,
): [Selected[Name], (value: Selected[Name]) => void] {
  const [value, setValue] = useState<Selected[Name]>(selection?.get(name) ?? NOTHING[name]);
  useEffect(() => {
    if (!selection) return;
    const changed = () => setValue(selection.get(name));
    changed();
    selection.on(`change:${name}`, changed);
    return () => selection.off(`change:${name}`, changed);
  }, [selection, name]);
  return [
    value,
    (next) => {
      setValue(next);
      select(selection, name, next);
    },
  ];
}
