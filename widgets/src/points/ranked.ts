// The points of a grid by their rank, and how a path along its axes becomes words and places.
import type { Axis } from "../tensor/labels";

/** As Python's `Points.packed` has it. */
export interface PointsForm {
  /** places along the axes, the point that stands out most first */
  ranked: number[][];
  values: (number | null)[];
  errors?: (number | null)[];
  count: number;
  known: number;
}

/** A point in words: `layer 9, position 3 ·Tower`. */
export const inWords = (axes: Axis[], path: number[]) =>
  axes.map((axis, k) => `${axis.role} ${axis.labels[path[k]] ?? path[k]}`).join(", ");

/** Row and column of a point where it lies in the plane that is drawn; null where it lies in another. */
export function inPlane(path: number[], drawn: [number, number], index: number[]): [number, number] | null {
  const elsewhere = path.some((place, axis) => !drawn.includes(axis) && place !== index[axis]);
  if (elsewhere) return null;
  return [drawn[0] < 0 ? 0 : path[drawn[0]], drawn[1] < 0 ? 0 : path[drawn[1]]];
}

/** The share of a bar, and its side. */
export function barOf(value: number | null, values: (number | null)[]): { share: number; above: boolean } {
  const most = Math.max(1e-30, ...values.map((each) => Math.abs(each ?? 0)));
  return { share: Math.abs(value ?? 0) / most, above: (value ?? 0) >= 0 };
}
