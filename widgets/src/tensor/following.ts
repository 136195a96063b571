// What is selected in other views, as places of a tensor's axes, and the other way round.
import { useEffect, useRef } from "preact/hooks";
import { select, useSelected } from "../core/selection";
import type { Model } from "../core/widget";
import { type Axis, numberAt, ofTokens, padding } from "./labels";

/** The row and column of the token that is selected in some view. */
export function useMarked(selection: Model | null, axes: Axis[], drawn: [number, number]) {
  const [token] = useSelected(selection, "token");
  const [layer] = useSelected(selection, "layer");
  const [head] = useSelected(selection, "head");
  const selected = (axis: Axis | undefined) =>
    axis?.role === "layer" || axis?.role === "head"
      ? numbered(axis, axis.role === "layer" ? layer : head)
      : placeOf(token, axis);
  return { rows: selected(axes[drawn[0]]), columns: selected(axes[drawn[1]]) };
}

/** The place of a token on an axis of tokens, behind its padding; null where it has none. */
export function placeOf(token: number, axis: Axis | undefined): number | null {
  if (axis === undefined || token < 0 || !ofTokens(axis)) return null;
  const at = token + padding(axis);
  return at < axis.labels.length ? at : null;
}

/** Where on an axis of layers or heads the one of a number stands; null where it is not there. */
export function numbered(axis: Axis, number: number): number | null {
  if (number < 0) return null;
  const at = axis.labels.length ? axis.labels.indexOf(String(number)) : number;
  return at >= 0 && at < axis.size ? at : null;
}

const FOLLOWED = ["step", "head", "layer"] as const;
type Followed = (typeof FOLLOWED)[number];

/** The index path with the selected places on step and head axes that are not drawn. */
export function followed(
  selected: (role: Followed) => number,
  axes: Axis[],
  drawn: [number, number],
  index: number[],
): number[] {
  return index.map((at, axis) => {
    const role = FOLLOWED.find((each) => each === axes[axis].role);
    const to = role && !drawn.includes(axis) ? selected(role) : -1;
    if (role === "step") return to >= 0 && to < axes[axis].size ? to : at;
    return role ? (numbered(axes[axis], to) ?? at) : at;
  });
}

/** The place on step and head axes of a model's tensor is that of the selection, once there is one. */
export function useFollowed(
  selection: Model | null,
  model: Model,
  axes: Axis[],
  drawn: [number, number],
  setIndex: (index: number[]) => void,
): void {
  const latest = useRef({ axes, drawn });
  latest.current = { axes, drawn };
  useEffect(() => {
    if (!selection) return;
    const changed = () => {
      const now = latest.current;
      // Who set the selection may have set the place on other axes a moment before.
      const index = model.get("index") as number[];
      const next = followed((role) => selection.get(role) as number, now.axes, now.drawn, index);
      if (next.join() !== index.join()) setIndex(next);
    };
    changed();
    for (const role of FOLLOWED) selection.on(`change:${role}`, changed);
    return () => {
      for (const role of FOLLOWED) selection.off(`change:${role}`, changed);
    };
  }, [selection]);
}

export function selectPlace(selection: Model | null, axis: Axis, to: number): void {
  const followed = FOLLOWED.find((each) => each === axis.role);
  if (followed) select(selection, followed, followed === "step" ? to : numberAt(axis, to));
}

export function selectToken(
  selection: Model | null,
  axes: Axis[],
  drawn: [number, number],
  at: [number, number],
): void {
  const token = tokenAt(axes, drawn, at);
  if (token >= 0) select(selection, "token", token);
}

/** The token at a place of what is drawn, the first of a prompt as 0; -1 where there is none. */
export function tokenAt(axes: Axis[], drawn: [number, number], at: [number, number]): number {
  const way = drawn.findIndex((axis) => ofTokens(axes[axis]));
  return way < 0 ? -1 : Math.max(-1, at[way] - padding(axes[drawn[way]]));
}
