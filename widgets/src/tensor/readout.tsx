// The value that is pointed at, in words.
import { useEffect, useState } from "preact/hooks";
import { number, visible } from "../core/format";
import { kernelOf, Refused } from "../core/kernel";
import type { Model } from "../core/widget";
import { type Axis, useSpelled, wordAt } from "./labels";
import { type Picture, valuesAt } from "./picture";
import type { Place } from "./planes";

interface ReadoutProps {
  model: Model;
  at: [number, number] | null;
  axes: Axis[];
  drawn: [number, number];
  index: number[];
  planes: Picture[];
  place: Place;
  order: ArrayLike<number> | null;
}

/** The value under the pointer or the cursor, with its index path: at once as it is drawn, exactly
 * as soon as the kernel has said it. */
export function Readout({ model, at, axes, drawn, index, planes, place, order }: ReadoutProps) {
  const path = at ? pathAt(at, drawn, index, order) : index.slice();
  const [exact, setExact] = useState<{ key: string; text: string; index: number[]; words?: (string | null)[] } | null>(
    null,
  );
  const spelled = useSpelled(model);
  const key = at ? `${path}|${place.part}|${place.ordered}` : "";
  useEffect(() => {
    if (!at || (model.get("about").complex && place.part !== "real") || kernelOf(model).cut) return;
    const timer = setTimeout(() => {
      const ordered = place.ordered && !order;
      kernelOf(model)
        .ask("text", { ...place, index: path, ordered })
        .then(
          ({ info }) => setExact({ key, text: String(info["text"]), index: info["index"], words: info["words"] }),
          (error) => {
            if (error instanceof Refused) setExact({ key, text: "", index: path });
          },
        );
    }, 90);
    return () => clearTimeout(timer);
  }, [key]);
  if (!at)
    return (
      <output class="nnv-readout nnv-dim" aria-live="polite">
        point at a value
      </output>
    );
  const found = planes.map((picture) => valuesAt(picture, at[0], at[1])).find(Boolean);
  const known = exact?.key === key && exact.text ? exact : null;
  const shown = known?.index ?? path;
  const words = shown.map((place, axis) => {
    const label =
      known?.words?.[axis] ?? (axes[axis]?.role === "vocabulary" ? spelled?.[place] : wordAt(axes, axis, shown));
    return label === undefined || label === null ? null : (
      <span class="nnv-token" key={axis}>
        {visible(label)}
      </span>
    );
  });
  const about = found ? roughly(found) : "";
  return (
    <output class="nnv-readout" aria-live="polite">
      <code>[{shown.join(", ")}]</code>
      {words} <b>{known ? known.text.replace("-", "−") : about}</b>
    </output>
  );
}

/** The index path of a value by its row and column; of columns by their norm, by what they are. */
export function pathAt(
  [row, column]: [number, number],
  drawn: [number, number],
  index: number[],
  order: ArrayLike<number> | null,
): number[] {
  const path = index.slice();
  if (drawn[0] >= 0) path[drawn[0]] = row;
  if (drawn[1] >= 0) path[drawn[1]] = order ? order[column] : column;
  return path;
}

/** The two ends between which the values of a drawn cell are. */
export function roughly([low, high]: [number, number]): string {
  return low === high ? `≈ ${number(low)}` : `${number(low)} … ${number(high)}`;
}
