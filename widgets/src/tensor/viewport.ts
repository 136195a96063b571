// Which window of a plane is seen, in whole values: zooming, panning, and where things lie on screen.
import type { Window } from "./picture";

export interface Layout {
  left: number; // of the plot in the canvas, in CSS pixels
  top: number;
  width: number;
  height: number;
  total: [number, number]; // the canvas, width and height
}

export const whole = (rows: number, columns: number): Window => [0, rows, 0, columns];

function scaled(from: number, to: number, size: number, factor: number, at: number): [number, number] {
  const length = Math.min(size, Math.max(1, Math.round((to - from) * factor)));
  const share = (at - from) / Math.max(1, to - from);
  const start = Math.round(at - share * length);
  const first = Math.min(size - length, Math.max(0, start));
  return [first, first + length];
}

/** The window made larger or smaller by `factor`, with the place `at` staying where it is. */
export function zoom(
  [top, bottom, left, right]: Window,
  [rows, columns]: [number, number],
  factor: number,
  at?: [number, number],
): Window {
  const [row, column] = at ?? [(top + bottom) / 2, (left + right) / 2];
  return [...scaled(top, bottom, rows, factor, row), ...scaled(left, right, columns, factor, column)];
}

export function pan(
  [top, bottom, left, right]: Window,
  [rows, columns]: [number, number],
  down: number,
  across: number,
): Window {
  const dr = Math.min(rows - bottom, Math.max(-top, Math.round(down)));
  const dc = Math.min(columns - right, Math.max(-left, Math.round(across)));
  return [top + dr, bottom + dr, left + dc, right + dc];
}

/** The window moved as little as shows a value. */
export function revealing(window: Window, size: [number, number], row: number, column: number): Window {
  const [top, bottom, left, right] = window;
  const down = row < top ? row - top : row >= bottom ? row - bottom + 1 : 0;
  const across = column < left ? column - left : column >= right ? column - right + 1 : 0;
  return pan(window, size, down, across);
}

const TALLEST = 400;
const BARS = 170; // pixels that bars are high
const LARGEST_CELL = 44;
const WIDENED = 360; // a map of few columns is made this wide

/**
 * Width and height of a plane. Planes of like sides get square values, or, where they are few
 * columns, broader ones; others fill the width. Stills and figures are laid out in the same way.
 */
export function plotSize(room: number, tallest: number, [rows, columns]: [number, number]): [number, number] {
  const ratio = rows / columns;
  let plot: [number, number];
  if (ratio > 0.34 && ratio < 4) {
    const cell = Math.min(room / columns, tallest / rows, LARGEST_CELL);
    plot = [cell * columns, cell * rows];
    if (rows > columns) plot[0] = Math.max(plot[0], Math.min(3 * plot[0], columns * LARGEST_CELL, WIDENED, room));
  } else if (ratio >= 4) {
    plot = [
      Math.min(room, Math.max(columns * 6, Math.min(columns * LARGEST_CELL, 200))),
      Math.min(tallest, rows * LARGEST_CELL),
    ];
  } else {
    plot = [
      Math.min(room, columns * LARGEST_CELL),
      Math.min(tallest, Math.max(rows * 5, Math.min(rows * 18, 280), 28)),
    ];
  }
  return [Math.max(8, Math.round(plot[0])), Math.max(14, Math.round(plot[1]))];
}

/** Where the plot lies in a canvas `width` wide; labels get the room they need. */
export function layoutOf(
  width: number,
  [rows, columns]: [number, number],
  labels: { left: number; bottom: number },
  compact: boolean,
  bars = false,
): Layout {
  if (compact) {
    const [w, h] = thumbSize(Math.max(20, width), [rows, columns]);
    return { left: 0, top: 0, width: w, height: h, total: [w, h] };
  }
  // On whole pixels, or the outermost values would be blurred.
  const [top, left] = [6, Math.round(labels.left)];
  const room = Math.max(20, width - left - 10);
  const [w, h] = bars ? [Math.min(room, Math.max(columns * 26, 220)), BARS] : plotSize(room, TALLEST, [rows, columns]);
  return { left, top, width: w, height: h, total: [left + w + 10, Math.round(top + h + labels.bottom)] };
}

/** Of a thumbnail, which lies in a box of few pixels. */
function thumbSize(room: number, [rows, columns]: [number, number]): [number, number] {
  const [tallest, ratio] = [64, rows / columns];
  if (ratio > 0.34 && ratio < 4) {
    const cell = Math.min(room / columns, tallest / rows, 26);
    return [Math.max(8, Math.round(cell * columns)), Math.max(8, Math.round(cell * rows))];
  }
  const high =
    ratio >= 4 ? Math.min(tallest, rows * 26) : Math.min(tallest, Math.max(rows * 5, Math.min(rows * 18, 48)));
  const wide = ratio >= 4 ? Math.max(columns * 6, Math.min(columns * 26, 160)) : columns * 26;
  return [Math.max(8, Math.round(Math.min(room, wide))), Math.max(8, Math.round(high))];
}

/** The value under a point of the canvas, or null. */
export function valueUnder(layout: Layout, window: Window, x: number, y: number): [number, number] | null {
  const [top, bottom, left, right] = window;
  const row = top + Math.floor(((y - layout.top) / layout.height) * (bottom - top));
  const column = left + Math.floor(((x - layout.left) / layout.width) * (right - left));
  return row >= top && row < bottom && column >= left && column < right ? [row, column] : null;
}

/** Places along an axis that get a tick: a round step, so that labels do not touch. */
export function ticks(from: number, to: number, pixels: number, apart: number): number[] {
  const most = Math.max(1, Math.floor(pixels / apart));
  const least = (to - from) / most;
  let step = 1;
  for (let k = 0; step < least; k++) step = [1, 2, 5][k % 3] * 10 ** Math.floor(k / 3);
  const first = Math.ceil(from / step) * step;
  const found: number[] = [];
  for (let at = first; at < to; at += step) found.push(at);
  return found;
}
