// Words for the places of a tensor's axes. In a batch they are those of the prompt that is looked at.
import { useEffect, useState } from "preact/hooks";
import { inflate } from "../core/kernel";
import { referred } from "../core/model";
import type { Model } from "../core/widget";
import type { AxisState } from "../core/wire";

export type Axis = AxisState;

const TOKENS = ["token", "position", "query", "key", "from", "to"];
export const PADDING = "‹padding›";

const differs = (axis: Axis) => (axis.rows?.length ?? 0) > 0 && (axis.along ?? -1) >= 0;

/** The axes with the words that hold at a place: none where several prompts are drawn at once. */
export function placed(axes: Axis[], drawn: number[], index: number[]): Axis[] {
  if (!axes.some(differs)) return axes;
  return axes.map((axis) => {
    if (!differs(axis)) return axis;
    return { ...axis, labels: drawn.includes(axis.along!) ? [] : (axis.rows![index[axis.along!]] ?? []) };
  });
}

/** The word at the place that an index path has on an axis. */
export function wordAt(axes: Axis[], k: number, path: number[]): string | undefined {
  const axis = axes[k];
  if (!axis) return undefined;
  return differs(axis) ? axis.rows![path[axis.along!]]?.[path[k]] : axis.labels[path[k]];
}

export const ofTokens = (axis: Axis | undefined) =>
  axis !== undefined && TOKENS.includes(axis.role) && axis.labels.length > 0;

/** What a place on an axis of layers or heads is called, as a number; -1 where it is none. */
export function numberAt(axis: Axis, place: number): number {
  const label = axis.labels[place];
  if (label === undefined) return place;
  const found = /^\d+/.exec(label);
  return found ? Number(found[0]) : -1;
}

/** Places before a prompt's first token: a selected token counts from there. */
export function padding(axis: Axis): number {
  const first = axis.labels.findIndex((word) => word !== PADDING);
  return Math.max(0, first);
}

/** The texts of a vocabulary, where a page has them; a kernel is asked for each instead. */
export function useSpelled(model: Model): string[] | null {
  const [texts, setTexts] = useState<string[] | null>(null);
  useEffect(() => {
    const stored = model.get("spelled") as Uint8Array | string | undefined;
    if (!stored) return;
    const bytes =
      typeof stored === "string"
        ? referred(model, stored).then((other) => other.get("spelled"))
        : Promise.resolve(stored);
    bytes.then(inflate).then(
      (data) => setTexts(JSON.parse(new TextDecoder().decode(data))),
      () => {},
    );
  }, [model]);
  return texts;
}
