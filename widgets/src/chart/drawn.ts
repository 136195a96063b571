// Where a chart's numbers stand in its drawing, and what is said of a place.
import type { ChartForm, LineForm } from "../core/wire";

export const WIDTH = 560;
export const HEIGHT = 220;
export const LEFT = 34;
export const RIGHT = 12;
export const TOP = 8;
const BOTTOM = 36;
const TICKS = 16; // places that are named at most

export function xOf(at: number, count: number): number {
  return LEFT + ((WIDTH - LEFT - RIGHT) * (at + 0.5)) / count;
}

export function yOf(value: number): number {
  return TOP + (HEIGHT - TOP - BOTTOM) * (1 - Math.min(1, Math.max(0, value)));
}

/** The places that are named: every so many-th. */
export function ticks(count: number): number[] {
  const step = Math.ceil(count / TICKS);
  return Array.from({ length: count }, (_, at) => at).filter((at) => at % step === 0);
}

/** The place below a point of the page. */
export function placeAt(plot: Element, x: number, count: number): number {
  const box = plot.getBoundingClientRect();
  const share = ((x - box.left) / box.width) * WIDTH;
  const at = Math.floor(((share - LEFT) / (WIDTH - LEFT - RIGHT)) * count);
  return Math.min(count - 1, Math.max(0, at));
}

/** The places of numbers, those that follow each other together. */
export function runs(values: (number | null)[]): number[][] {
  const found: number[][] = [[]];
  values.forEach((value, at) => {
    if (value !== null) found[found.length - 1].push(at);
    else if (found[found.length - 1].length) found.push([]);
  });
  return found.filter((run) => run.length);
}

/** The corners of the ground between both ends of a line's intervals; "" where it has none. */
export function ranges(line: LineForm): string {
  const { low, high } = line;
  if (!low || !high) return "";
  const count = low.length;
  const places = low.map((_, at): [number, number] => [at, xOf(at, count)]);
  const wide: [number, number][] =
    count > 1
      ? places
      : [
          [0, places[0][1] - 5],
          [0, places[0][1] + 5],
        ];
  const over = wide.map(([at, x]) => `${x},${yOf(high[at] ?? 0)}`);
  const under = wide.map(([at, x]) => `${x},${yOf(low[at] ?? 0)}`).reverse();
  return [...over, ...under].join(" ");
}

/** All numbers at a place: `layer 23: accuracy 0.98 (0.86 to 1.00), AUC 1.00, majority class 0.50`. */
export function inWords(form: ChartForm, at: number): string {
  const told = form.lines
    .filter((line) => line.values[at] !== null)
    .map((line) => {
      const value = line.values[at]!.toFixed(2);
      const low = line.low?.[at];
      const high = line.high?.[at];
      const interval = low == null || high == null ? "" : ` (${low.toFixed(2)} to ${high.toFixed(2)})`;
      return `${line.name} ${value}${interval}`;
    });
  const levels = form.levels.map(([name, value]) => `${name} ${value.toFixed(2)}`);
  return `${form.across} ${form.labels[at]}: ${[...told, ...levels].join(", ")}`;
}
