// The cases that the kernel's part of the rule of the pictures is tested on as well.
import cases from "../../tests/views/colouring.json";

export const CASES = cases as {
  limits: {
    why: string;
    stats: { min?: number; max?: number; drawn?: number[] };
    size: number[];
    limits: number[];
    palette: string;
  }[];
  blocks: { limits: number[]; palette: string; low: number | string; high: number | string; drawn: number | string }[];
  places: { value: number; limits: number[]; place: number }[];
  sizes: { why: string; room: number; tallest: number; size: number[]; plot: number[] }[];
};
