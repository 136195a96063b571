// A row of numbers as bars: their height is the value, and a stroke says how far each may be off.
import { cachedScale, css, type Limits, type Stats } from "../core/colour";
import { number } from "../core/format";
import type { Bars, Colouring, Scene } from "./drawn";
import { valuesAt } from "./picture";

export const MOST_BARS = 512;
export const BAR_ROOM = 58; // pixels beside the bars, for numbers

/** Whether one axis alone is drawn, of so few places that each has a bar of its own. */
export const barred = (drawn: [number, number], [, columns]: [number, number]) =>
  drawn[0] < 0 && drawn[1] >= 0 && columns > 1 && columns <= MOST_BARS;

/** From where to where bars reach: 0 is among it; limits that were chosen come first. */
export function reachOf({ min = 0, max = 0 }: Stats, limits: number[]): Limits {
  if (limits.length === 2 && limits[0] < limits[1]) return [limits[0], limits[1]];
  const [low, high] = [Math.min(0, min), Math.max(0, max)];
  return low < high ? [low, high] : [0, 1];
}

/** y of a value in the plot, on a whole pixel. */
export const heightOf = (value: number, [low, high]: Limits, top: number, height: number) =>
  Math.round(top + height - ((Math.min(high, Math.max(low, value)) - low) / (high - low)) * height);

/** The colours of bars below 0 and above: those well inside of the scale's ends. */
export function coloursOf({ palette, ground }: Colouring): [string, string] {
  const colours = cachedScale(palette, ground);
  return palette === "diverging" ? [css(colours[48]), css(colours[207])] : [css(colours[150]), css(colours[150])];
}

export function drawBars(context: CanvasRenderingContext2D, scene: Scene, bars: Bars): void {
  const { layout, window } = scene;
  const [, , left, right] = window;
  const { top, height } = layout;
  const wide = layout.width / (right - left);
  const gap = wide > 4 ? Math.min(6, wide * 0.18) : 0;
  const [below, above] = coloursOf(bars.colouring);
  const zero = heightOf(0, bars.reach, top, height);
  for (let column = left; column < right; column++) {
    const found = scene.layers.map(({ picture }) => valuesAt(picture, 0, column)).find(Boolean);
    const x = layout.left + (column - left) * wide;
    if (!found || Number.isNaN(found[0])) {
      if (found) strokes(context, scene, x, wide);
      continue;
    }
    const value = Math.abs(found[0]) > Math.abs(found[1]) ? found[0] : found[1];
    const y = heightOf(value, bars.reach, top, height);
    context.fillStyle = value < 0 ? below : above;
    context.fillRect(x + gap / 2, Math.min(y, zero), Math.max(1, wide - gap), Math.max(1, Math.abs(zero - y)));
    const off = bars.spread[column];
    if (Number.isFinite(off)) whisker(context, scene, x + wide / 2, value, off, bars.reach);
  }
}

/** Where nothing was computed. */
function strokes(context: CanvasRenderingContext2D, { layout, ink }: Scene, x: number, wide: number): void {
  context.save();
  context.beginPath();
  context.rect(x, layout.top, wide, layout.height);
  context.clip();
  context.globalAlpha = 0.22;
  context.strokeStyle = ink;
  context.beginPath();
  for (let at = x - layout.height; at < x + wide; at += 7) {
    context.moveTo(at, layout.top + layout.height);
    context.lineTo(at + layout.height, layout.top);
  }
  context.stroke();
  context.restore();
}

function whisker(
  context: CanvasRenderingContext2D,
  { layout, ink }: Scene,
  x: number,
  value: number,
  off: number,
  reach: Limits,
): void {
  const [low, high] = [value - off, value + off].map((each) => heightOf(each, reach, layout.top, layout.height));
  const middle = Math.round(x) + 0.5;
  context.strokeStyle = ink;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(middle, low);
  context.lineTo(middle, high);
  for (const y of [low, high]) {
    context.moveTo(middle - 3, y + 0.5);
    context.lineTo(middle + 3, y + 0.5);
  }
  context.stroke();
}

/** The line at 0, and the numbers of the edges beside the plot. */
export function drawReach(context: CanvasRenderingContext2D, scene: Scene, { reach }: Bars): void {
  const { layout } = scene;
  context.fillStyle = scene.ink;
  context.strokeStyle = scene.ink;
  context.font = scene.font;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const value of new Set([reach[0], 0, reach[1]])) {
    if (value < reach[0] || value > reach[1]) continue;
    const y = heightOf(value, reach, layout.top, layout.height);
    const near =
      value === 0 && [reach[0], reach[1]].some((end) => end !== 0 && Math.abs(yOf(scene, reach, end) - y) < 12);
    if (!near) context.fillText(number(value), layout.left - 5, y);
    context.save();
    context.globalAlpha = value === 0 ? 0.7 : 0.15;
    context.fillRect(layout.left, y, layout.width, 1);
    context.restore();
  }
}

const yOf = ({ layout }: Scene, reach: Limits, value: number) => heightOf(value, reach, layout.top, layout.height);
