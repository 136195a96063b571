// What a picture of a plane is drawn from, as types: colours, words, marks, bars.
import type { Ground, Limits, Palette } from "../core/colour";
import type { Picture, Window } from "./picture";
import type { Layout } from "./viewport";

export interface Colouring {
  limits: [number, number];
  palette: Palette;
  ground: Ground;
  /** whether NaN is what was not computed, which is drawn as nothing */
  empty?: boolean;
}

export interface Labels {
  rows: string[];
  columns: string[];
  names: [string, string];
}

export interface Scene {
  layout: Layout;
  window: Window;
  layers: { picture: Picture; image: HTMLCanvasElement }[];
  labels: Labels | null;
  cell: [number, number] | null;
  /** of what is drawn as bars */
  bars?: Bars | null;
  marked: { rows: number | null; columns: number | null };
  ink: string;
  accent: string;
  font: string;
}

export interface Bars {
  /** the values at the lower and the upper edge */
  reach: Limits;
  /** of each bar, how far it may be off; none where that is not known */
  spread: number[];
  colouring: Colouring;
}
