// Colour scales that people with colour blindness can read, on light and on dark ground.

import { MINUS, NAN, PLUS, SCALES } from "./palette";

type Rgb = [number, number, number];

export const NAN_COLOUR: Rgb = [...NAN];
export const PLUS_COLOUR: Rgb = [...PLUS];
export const MINUS_COLOUR: Rgb = [...MINUS];

export type Ground = "light" | "dark";
export type Palette = "diverging" | "sequential" | "grey";

function rgb(hex: string): Rgb {
  const n = parseInt(hex.slice(1), 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
}

const toLinear = (byte: number) => {
  const c = byte / 255;
  return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
};
const toByte = (c: number) =>
  Math.round(255 * Math.min(1, Math.max(0, c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055)));

function oklab([r, g, b]: Rgb): Rgb {
  const [x, y, z] = [toLinear(r), toLinear(g), toLinear(b)];
  const l = Math.cbrt(0.4122214708 * x + 0.5363325363 * y + 0.0514459929 * z);
  const m = Math.cbrt(0.2119034982 * x + 0.6806995451 * y + 0.1073969566 * z);
  const s = Math.cbrt(0.0883024619 * x + 0.2817188376 * y + 0.6299787005 * z);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

function fromOklab([L, a, b]: Rgb): Rgb {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    toByte(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    toByte(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    toByte(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ];
}

/** A scale as 256 colours, even to the eye between its points. */
export function scale(palette: Palette, ground: Ground): Rgb[] {
  const points = SCALES[palette][ground].map((hex) => oklab(rgb(hex)));
  return Array.from({ length: 256 }, (_, k) => {
    const at = (k / 255) * (points.length - 1);
    const i = Math.min(points.length - 2, Math.floor(at));
    const t = at - i;
    const [p, q] = [points[i], points[i + 1]];
    return fromOklab([0, 1, 2].map((c) => p[c] * (1 - t) + q[c] * t) as Rgb);
  });
}

const cache = new Map<string, Rgb[]>();
export function cachedScale(palette: Palette, ground: Ground): Rgb[] {
  const key = palette + ground;
  const found = cache.get(key) ?? scale(palette, ground);
  cache.set(key, found);
  return found;
}

/** Where a value stands on a scale, as a place in its 256 colours. */
export function place(value: number, low: number, high: number): number {
  if (!(high > low)) return 128;
  // The span of the largest doubles is none of them.
  const at = high - low < Infinity ? (value - low) / (high - low) : (value / 2 - low / 2) / (high / 2 - low / 2);
  return Math.min(255, Math.max(0, Math.round(at * 255)));
}

export const css = ([r, g, b]: Rgb) => `rgb(${r},${g},${b})`;

/** Black or white, whichever reads better on a colour. */
export function inkOn([r, g, b]: Rgb): string {
  const luminance = 0.2126 * toLinear(r) + 0.7152 * toLinear(g) + 0.0722 * toLinear(b);
  return luminance > 0.179 ? "#000" : "#fff";
}

const pack = ([r, g, b]: Rgb) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

/** The colour of every code: levels through the scale, and the three marks; where NaN is nothing that
 * was computed, none. */
export function lookup(
  levels: Float64Array,
  [low, high]: [number, number],
  palette: Palette,
  ground: Ground,
  empty = false,
): Uint32Array {
  const colours = cachedScale(palette, ground);
  const table = new Uint32Array(256);
  for (let k = 0; k < levels.length; k++) table[k] = pack(colours[place(levels[k], low, high)]);
  table[253] = pack(MINUS_COLOUR);
  table[254] = pack(PLUS_COLOUR);
  table[255] = empty ? 0 : pack(NAN_COLOUR);
  return table;
}

export type Limits = [number, number];

/** What limits go by: the least and the greatest value, and of what is drawn the ends without the
 * outermost, with the usual magnitude between them. */
export interface Stats {
  min?: number;
  max?: number;
  drawn?: number[];
}

// As in the kernel's `views/colouring.py`; both are tested on the same cases.
const SEEN = [128, 256];
const FAR = 20;

/** Whether each value of a plane of so many rows and columns can be seen by itself. */
export const allSeen = ([rows, columns]: [number, number]) => rows <= SEEN[0] && columns <= SEEN[1];

/** Limits and palette of a plane: all values, unless they cannot be seen one by one and some lie
 * far above the others; then without the last half per cent. */
export function automatic(stats: Stats, size: [number, number]): { limits: Limits; palette: Palette } {
  if (stats.min === undefined || stats.max === undefined) return { limits: [0, 1], palette: "sequential" };
  const { min, max } = stats;
  let largest = Math.max(-min, max);
  let near: Limits | null = null;
  if (!allSeen(size) && stats.drawn?.length === 3) {
    const [least, usual, most] = stats.drawn;
    if (usual > 0 && largest / FAR > usual) near = [least, most];
  }
  if (min >= 0) {
    let high = max;
    if (near && near[1] > 0) high = max / FAR <= near[1] ? near[1] : Math.sqrt(near[1] * max);
    return { limits: [0, high > 0 ? high : 1], palette: "sequential" };
  }
  if (near) largest = Math.max(-near[0], near[1]) || largest;
  return { limits: [-largest, largest], palette: "diverging" };
}

/** Whether 0 is what the scale calls nothing; else its lower end is. */
export const twoSided = ([low, high]: Limits, palette: Palette) => palette === "diverging" || (low < 0 && high > 0);
