// A place of a view as a cell: its text is asked of the kernel, copied, and shown.
import { useEffect, useState } from "preact/hooks";
import { kernelOf } from "./kernel";
import { useTrait } from "./model";
import { copy, Notice } from "./parts";
import type { Model } from "./widget";

interface Props {
  model: Model;
  /** the places that the cell is about, as the kernel counts them */
  at: number[];
}

/** A button where the kernel can write such a cell, and below it the cell once it was asked for. */
export function AsCell({ model, at }: Props) {
  const [can] = useTrait<string[]>(model, "can");
  const [text, setText] = useState("");
  const [trouble, setTrouble] = useState("");
  const key = at.join();
  useEffect(() => {
    setText("");
    setTrouble("");
  }, [key]);
  if (!can?.includes("cell")) return null;
  const ask = () =>
    kernelOf(model)
      .ask("cell", { at })
      .then(
        ({ info }) => {
          setText(String(info["text"]));
          return copy(String(info["text"]));
        },
        (error: Error) => setTrouble(error.message),
      );
  return (
    <div class="nnv-as-cell">
      <button type="button" title="a cell that gives these numbers, on the clipboard" onClick={ask}>
        as a cell
      </button>
      {text && (
        <span class="nnv-dim" role="status">
          copied; paste it into a cell of its own
        </span>
      )}
      {text && <pre>{text}</pre>}
      {trouble && <Notice text={trouble} />}
    </div>
  );
}
