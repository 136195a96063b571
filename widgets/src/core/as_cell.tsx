// A place of a view as a cell: its text is asked of the kernel and put below the view's own cell; where
// the front end lets nobody add cells, it is copied and shown.
import { useEffect, useRef, useState } from "preact/hooks";
import { insertBelow } from "./cell";
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
  const [added, setAdded] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const key = at.join();
  useEffect(() => {
    setText("");
    setTrouble("");
    setAdded(false);
  }, [key]);
  if (!can?.includes("cell")) return null;
  const ask = () =>
    kernelOf(model)
      .ask("cell", { at })
      .then(
        ({ info }) => {
          const written = String(info["text"]);
          if (insertBelow(model, root.current, written)) return setAdded(true);
          setText(written);
          return copy(written);
        },
        (error: Error) => setTrouble(error.message),
      );
  return (
    <div class="nnv-as-cell" ref={root}>
      <button type="button" title="a cell below that gives these numbers" onClick={ask}>
        as a cell
      </button>
      <span class="nnv-dim" role="status">
        {added && "the cell stands below"}
        {text && "copied; paste it into a cell of its own"}
      </span>
      {text && <pre>{text}</pre>}
      {trouble && <Notice text={trouble} />}
    </div>
  );
}
