// What is drawn and written around a plane, from the view's traits: its window, its words, its name.
import { shape as shapeText, visible } from "../core/format";
import type { Statistics } from "../core/wire";
import type { Labels } from "./drawn";
import type { Axis } from "./labels";
import { NAME } from "./paint";
import type { Window } from "./picture";
import { whole } from "./viewport";

/** A window from the trait, or everything where the trait is empty or makes no sense. */
export function fitting(window: number[], [rows, columns]: [number, number]): Window {
  const [top, bottom, left, right] = window;
  const fits =
    window.length === 4 && top >= 0 && top < bottom && bottom <= rows && left >= 0 && left < right && right <= columns;
  return fits ? (window as Window) : whole(rows, columns);
}

/** How many there are, or only that there are some. */
export function marksIn(stats: Statistics, kind: "nan" | "inf", name: string): string {
  if (stats[kind]) return `${stats[kind]} ${name}`;
  return stats.some?.includes(kind) ? name : "";
}

/** Columns by their norm are named by what they are, once that is known. */
export function labelsOf(
  axes: Axis[],
  drawn: [number, number],
  ordered: boolean,
  order: ArrayLike<number> | null,
): Labels {
  const of = (axis: number) => (axis < 0 ? [] : axes[axis].labels);
  const name = (axis: number) => (axis < 0 ? "" : axes[axis].role === "axis" ? `axis ${axis}` : axes[axis].role);
  const columns = of(drawn[1]);
  const names: [string, string] = [name(drawn[0]), name(drawn[1])];
  if (!ordered) return { rows: of(drawn[0]), columns, names };
  const named = Array.from(order ?? [], (at) => columns[at] ?? String(at));
  return { rows: of(drawn[0]), columns: named, names: [names[0], order || !drawn[1] ? `${names[1]}, by norm` : ""] };
}

/** The room beside and below a plane that its words need, in CSS pixels. */
export function roomFor(
  labels: Labels,
  [rows, columns]: [number, number],
  ordered: boolean,
): { left: number; bottom: number } {
  const longest = (words: string[]) => Math.min(12, Math.max(...words.map((word) => visible(word).length)));
  const [down, across] = labels.names;
  const upright = labels.columns.length ? longest(labels.columns) : ordered ? String(columns - 1).length : 0;
  return {
    left: !down ? 4 : 14 + NAME + (labels.rows.length ? longest(labels.rows) * 6.8 : String(rows - 1).length * 6.5),
    bottom: !across ? 4 : NAME + (upright ? 8 + upright * 6.5 : 18),
  };
}

/** The name of a picture: the tensor's, with the place on the axes that are not drawn. */
export function titleOf(title: string, axes: Axis[], drawn: [number, number], index: number[]): string {
  const shape = axes.map((axis) => axis.size);
  const places = axes.flatMap((axis, k) =>
    drawn.includes(k) || axis.size < 2
      ? []
      : [`${axis.role === "axis" ? `axis ${k}` : axis.role} ${visible(axis.labels[index[k]] ?? String(index[k]))}`],
  );
  return [`${title} ${shapeText(shape)}`, ...places].join(", ");
}
