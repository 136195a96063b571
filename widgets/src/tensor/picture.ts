// What is drawn: codes of the least and the greatest value of each block of a window of a plane.
// Codes sort as the values they stand for, so pooling works on them directly.

import { type Limits, type Palette, twoSided } from "../core/colour";
import type { PlaneFacts } from "../core/wire";

export const NAN = 255;
export const PLUS = 254;
export const MINUS = 253;

/** top, bottom, left, right, in values */
export type Window = [number, number, number, number];

export interface Picture {
  rows: number;
  columns: number;
  window: Window;
  block: [number, number];
  low: Uint8Array;
  high: Uint8Array | null;
  levels: Float64Array;
  sampled: boolean;
  /** which column of the tensor stands at each place, where they stand by their norm */
  order?: ArrayLike<number>;
}

/** A picture from what the kernel says about it and the codes. */
export function pictureOf(facts: Partial<PlaneFacts>, levels: Float64Array, codes: Uint8Array): Picture | null {
  const { rows = 0, columns = 0, window, block = [1, 1] } = facts;
  const size = rows * columns;
  if (!(size > 0) || !Array.isArray(window) || codes.length < size * (facts.pair ? 2 : 1)) return null;
  return {
    rows,
    columns,
    window: window as Window,
    block: block as [number, number],
    low: codes.subarray(0, size),
    high: facts.pair ? codes.subarray(size, 2 * size) : null,
    levels,
    sampled: Boolean(facts.sampled),
  };
}

/** Steps between neighbours along each axis of a tensor stored row by row. */
export function strides(shape: number[]): number[] {
  const found = new Array<number>(shape.length);
  for (let k = shape.length - 1, step = 1; k >= 0; k--) {
    found[k] = step;
    step *= shape[k];
  }
  return found;
}

export const extent = (shape: number[], axis: number) => (axis < 0 ? 1 : shape[axis]);

/** Reads one plane out of a tensor whose codes are all here. */
export function cut(
  codes: Uint8Array,
  levels: Float64Array,
  shape: number[],
  [down, across]: [number, number],
  index: number[],
  order: number[] | null = null,
): Picture {
  const steps = strides(shape);
  const rows = extent(shape, down);
  const columns = extent(shape, across);
  let start = 0;
  shape.forEach((_, axis) => {
    if (axis !== down && axis !== across) start += index[axis] * steps[axis];
  });
  const low = new Uint8Array(rows * columns);
  const [stepDown, stepAcross] = [down < 0 ? 0 : steps[down], across < 0 ? 0 : steps[across]];
  for (let r = 0, k = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++, k++) {
      low[k] = codes[start + r * stepDown + (order ? order[c] : c) * stepAcross];
    }
  }
  return { rows, columns, window: [0, rows, 0, columns], block: [1, 1], low, high: null, levels, sampled: false };
}

/** The columns of a plane by their norm, the largest first. */
export function byNorm(picture: Picture): number[] {
  const norms = new Float64Array(picture.columns);
  for (let r = 0, k = 0; r < picture.rows; r++) {
    for (let c = 0; c < picture.columns; c++, k++) {
      const value = valueOfCode(picture.levels, picture.low[k]);
      norms[c] += Number.isFinite(value) ? value * value : Infinity;
    }
  }
  return Array.from(norms.keys()).sort((a, b) => norms[b] - norms[a] || a - b);
}

/** A picture with at most `height` × `width` blocks, keeping the least and greatest of each. */
export function pooled(picture: Picture, window: Window, height: number, width: number): Picture {
  const [top, bottom, left, right] = window;
  const down = Math.max(1, Math.ceil((bottom - top) / height));
  const across = Math.max(1, Math.ceil((right - left) / width));
  if (down === 1 && across === 1) return picture;
  const rows = Math.ceil((bottom - top) / down);
  const columns = Math.ceil((right - left) / across);
  const low = new Uint8Array(rows * columns).fill(255);
  const high = new Uint8Array(rows * columns);
  for (let r = top; r < bottom; r++) {
    const into = Math.floor((r - top) / down) * columns;
    const from = r * picture.columns;
    for (let c = left; c < right; c++) {
      const at = into + Math.floor((c - left) / across);
      const code = picture.low[from + c];
      if (low[at] === NAN && high[at] === NAN) continue;
      if (code === NAN) low[at] = high[at] = NAN;
      else {
        if (rank(code) < rank(low[at]) || low[at] === 255) low[at] = code;
        if (rank(code) > rank(high[at])) high[at] = code;
      }
    }
  }
  return { ...picture, rows, columns, window, block: [down, across], low, high };
}

/** A picture that has more blocks in a window than the screen has pixels, with fewer: drawing would
 * leave out some, and with them a spike. */
export function thinned(picture: Picture, [top, bottom, left, right]: Window, height: number, width: number): Picture {
  const down = Math.max(1, Math.ceil((bottom - top) / picture.block[0] / height));
  const across = Math.max(1, Math.ceil((right - left) / picture.block[1] / width));
  if (down === 1 && across === 1) return picture;
  const rows = Math.ceil(picture.rows / down);
  const columns = Math.ceil(picture.columns / across);
  const low = new Uint8Array(rows * columns);
  const high = new Uint8Array(rows * columns);
  const seen = new Uint8Array(rows * columns);
  for (let r = 0, from = 0; r < picture.rows; r++) {
    const into = Math.floor(r / down) * columns;
    for (let c = 0; c < picture.columns; c++, from++) {
      const at = into + Math.floor(c / across);
      const [least, most] = [picture.low[from], (picture.high ?? picture.low)[from]];
      if (seen[at] && low[at] === NAN) continue;
      if (least === NAN || !seen[at]) [low[at], high[at]] = [least, least === NAN ? NAN : most];
      else {
        if (rank(least) < rank(low[at])) low[at] = least;
        if (rank(most) > rank(high[at])) high[at] = most;
      }
      seen[at] = 1;
    }
  }
  return { ...picture, rows, columns, block: [picture.block[0] * down, picture.block[1] * across], low, high };
}

const rank = (code: number) => (code === MINUS ? -1 : code);

export function valueOfCode(levels: Float64Array, code: number): number {
  if (code < levels.length) return levels[code];
  return code === MINUS ? -Infinity : code === PLUS ? Infinity : NaN;
}

/** The least and greatest value at a place of the plane; null outside of the picture. */
export function valuesAt(picture: Picture, row: number, column: number): [number, number] | null {
  const [top, bottom, left, right] = picture.window;
  if (row < top || row >= bottom || column < left || column >= right) return null;
  const r = Math.floor((row - top) / picture.block[0]);
  const c = Math.floor((column - left) / picture.block[1]);
  const at = r * picture.columns + c;
  const low = valueOfCode(picture.levels, picture.low[at]);
  return [low, picture.high ? valueOfCode(picture.levels, picture.high[at]) : low];
}

/**
 * Of each block the end farther from what the scale calls nothing, as codes: the one of greater
 * magnitude where 0 is that, else the greatest, wherever the limits lie. NaN counts above infinities,
 * and these above all numbers.
 */
export function salient(picture: Picture, { limits, palette }: { limits: Limits; palette: Palette }): Uint8Array {
  if (!picture.high) return picture.low;
  const weight = new Float64Array(256);
  const sided = twoSided(limits, palette);
  for (let k = 0; k < 256; k++) {
    const value = valueOfCode(picture.levels, k);
    weight[k] = !Number.isFinite(value) ? Infinity : sided ? Math.abs(value) : value;
  }
  const codes = new Uint8Array(picture.low.length);
  for (let k = 0; k < codes.length; k++) {
    const [low, high] = [picture.low[k], picture.high[k]];
    codes[k] = weight[low] > weight[high] ? low : high;
  }
  return codes;
}

/** Whether values of a picture lie below the limits, and above them. */
export function outside(picture: Picture, [low, high]: Limits): [boolean, boolean] {
  const below = new Uint8Array(256);
  const above = new Uint8Array(256);
  picture.levels.forEach((value, k) => {
    below[k] = Number(value < low);
    above[k] = Number(value > high);
  });
  const top = picture.high ?? picture.low;
  return [picture.low.some((code) => below[code] > 0), top.some((code) => above[code] > 0)];
}

export function covers(picture: Picture, [top, bottom, left, right]: Window): boolean {
  const own = picture.window;
  return own[0] <= top && own[1] >= bottom && own[2] <= left && own[3] >= right;
}
