// Colour scales that people with colour blindness can read, on light and on dark ground.

type Rgb = [number, number, number];

// Blue against orange, through the ground's own colour in the middle: small is quiet.
const SCALES: Record<string, { light: string[]; dark: string[] }> = {
  diverging: {
    light: ["#08306b", "#2a6fbb", "#86b8e3", "#f7f7f5", "#f2b380", "#d3621b", "#7a2a02"],
    dark: ["#cfe6ff", "#6fb0f2", "#2a63ad", "#17191e", "#ad4f12", "#f0944d", "#ffe3c9"],
  },
  sequential: {
    light: ["#f7f7f5", "#c3ddf2", "#7fb2e0", "#3a7fc4", "#174a92", "#081f4d"],
    dark: ["#17191e", "#1b3763", "#2a63ad", "#5b9de6", "#a9d3ff", "#f2f9ff"],
  },
  grey: { light: ["#ffffff", "#111111"], dark: ["#111111", "#ffffff"] },
};
export const NAN_COLOUR: Rgb = [217, 70, 176];
export const PLUS_COLOUR: Rgb = [92, 184, 46];
export const MINUS_COLOUR: Rgb = [28, 122, 92];

export type Ground = "light" | "dark";
export type Palette = "diverging" | "sequential" | "grey";

function rgb(hex: string): Rgb {
  const n = parseInt(hex.slice(1), 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
}

const toLinear = (c: number) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
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
  let found = cache.get(key);
  if (!found) cache.set(key, (found = scale(palette, ground)));
  return found;
}

/** Where a value stands on a scale, as a place in its 256 colours. */
export function place(value: number, low: number, high: number): number {
  const at = high > low ? (value - low) / (high - low) : 0.5;
  return Math.min(255, Math.max(0, Math.round(at * 255)));
}

export const css = ([r, g, b]: Rgb) => `rgb(${r},${g},${b})`;

/** Black or white, whichever reads better on a colour. */
export function inkOn([r, g, b]: Rgb): string {
  const luminance = 0.2126 * toLinear(r) + 0.7152 * toLinear(g) + 0.0722 * toLinear(b);
  return luminance > 0.179 ? "#000" : "#fff";
}

const pack = ([r, g, b]: Rgb) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

/** The colour of every code: levels through the scale, and the three marks. */
export function lookup(
  levels: Float64Array,
  [low, high]: [number, number],
  palette: Palette,
  ground: Ground,
): Uint32Array {
  const colours = cachedScale(palette, ground);
  const table = new Uint32Array(256);
  for (let k = 0; k < levels.length; k++) table[k] = pack(colours[place(levels[k], low, high)]);
  table[253] = pack(MINUS_COLOUR);
  table[254] = pack(PLUS_COLOUR);
  table[255] = pack(NAN_COLOUR);
  return table;
}

export interface Marks {
  min?: number;
  max?: number;
  marks?: number[];
}

/** Limits that leave out the last half per cent on each side, and the palette that fits. */
export function robust(stats: Marks): { limits: [number, number]; palette: Palette } {
  if (stats.min === undefined || stats.max === undefined) {
    return { limits: [0, 1], palette: "sequential" };
  }
  let [low, high] = stats.marks ? [stats.marks[0], stats.marks[4]] : [stats.min, stats.max];
  if (!(high > low)) [low, high] = [stats.min, stats.max];
  if (stats.min < 0 && stats.max > 0) {
    const end = Math.max(-low, high) || Math.max(-stats.min, stats.max);
    return { limits: [-end, end], palette: "diverging" };
  }
  if (stats.min >= 0) {
    // A few values far above all others, as in probabilities over a vocabulary: they shall stand
    // out, and the rest not look as large as they do.
    if (high > 0 && stats.max > 20 * high) high = Math.sqrt(high * stats.max);
    return { limits: [0, high > 0 ? high : 1], palette: "sequential" };
  }
  return { limits: [low, -low], palette: "diverging" };
}
