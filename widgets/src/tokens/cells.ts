// A lens grid as it is stored, and what colours and marks its cells.
import type { GridForm } from "../core/wire";
import { type Guess, guesses, limitsOf } from "./strips";

/** As in the kernel's `views/data/strips.py`: how many tokens are likelier than the answer. */
export const RANK = "rank";
const LEAST_LOG = -20; // nats: what is less likely is all of one colour

export interface Grid {
  tokens: string[];
  rows: string[];
  cells: Guess[][][];
  numbers: Record<string, (number | null)[][]>;
  answer: string;
  settled: number[];
}

export function unpackGrid(packed: GridForm): Grid {
  return {
    tokens: packed.tokens.map((k) => packed.words[k]),
    rows: packed.rows,
    cells: packed.cells.map((row) => row.map((flat) => guesses(flat, packed.words))),
    numbers: packed.numbers ?? {},
    answer: packed.answer ?? "",
    settled: packed.settled ?? [],
  };
}

export interface Shading {
  /** the place on the scale, from 0 to 1; null where there is no number */
  at(row: number, column: number): number | null;
  /** the ends of the scale, in words: the quiet one and the strong one */
  ends: [number, number];
}

/** How cells are coloured by a number: ranks by their logarithm, the best strongest; negative
 * logarithms up to 0; without a name by the likeliest token's probability. */
export function shadingOf(grid: Grid, name: string): Shading {
  const values = grid.numbers[name];
  if (!values) return { at: (row, column) => grid.cells[row]?.[column]?.[0]?.p ?? null, ends: [0, 1] };
  const known = values.flat().filter((value): value is number => value !== null);
  const least = Math.min(...known);
  const most = Math.max(...known);
  const read = (row: number, column: number) => values[row]?.[column] ?? null;
  if (name === RANK) {
    const whole = Math.log1p(most) || 1;
    return { at: (row, column) => share(read(row, column), (rank) => 1 - Math.log1p(rank) / whole), ends: [most, 0] };
  }
  if (most <= 0 && least < 0) {
    const low = Math.max(least, LEAST_LOG);
    return { at: (row, column) => share(read(row, column), (log) => Math.max(0, 1 - log / low)), ends: [low, 0] };
  }
  const [low, high] = limitsOf(known);
  return { at: (row, column) => share(read(row, column), (value) => (value - low) / (high - low)), ends: [low, high] };
}

const share = (value: number | null, of: (value: number) => number): number | null =>
  value === null ? null : of(value);

/** Whether the answer is the likeliest token at a place. */
export const isFirst = (grid: Grid, row: number, column: number): boolean => grid.numbers[RANK]?.[row]?.[column] === 0;
