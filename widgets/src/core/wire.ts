// What goes between the kernel and the browser, as types: the twin of nnsight_magic/views/data/wire.py,
// where each is explained. The tests of both read test/fixtures/wire.json.

export interface PlaneFacts {
  rows: number;
  columns: number;
  window: number[];
  block: number[];
  pair: boolean;
  sampled: boolean;
}

export interface StoredPicture extends Partial<PlaneFacts> {
  form: "whole" | "plane" | "none" | "empty";
  part?: string;
  axes?: number[];
  drawn?: number[];
  index?: number[];
}

export interface Statistics {
  count: number;
  looked_at?: number;
  min?: number;
  max?: number;
  mean?: number;
  std?: number;
  norm?: number | null;
  nan?: number;
  inf?: number;
  zero?: number;
  /** the ends of the histogram */
  bins?: [number, number];
  histogram?: number[];
  drawn?: number[];
  some?: string[];
}

export interface About {
  shape: number[];
  dtype: string;
  device: string;
  bytes: number;
  size: number;
  complex: boolean;
  integer: boolean;
}

export interface AxisState {
  role: string;
  size: number;
  labels: string[];
  /** the words of each prompt, and the axis whose place tells which of them hold */
  rows?: string[][];
  along?: number;
}

/** A word's number and its probability, one pair after another. */
export type Flat = (number | null)[];

export interface StripForm {
  name: string;
  tokens: number[];
  top: Flat[];
  clean: Flat[];
  numbers: Record<string, (number | null)[]>;
  generated: number;
  heads?: [string, string];
  words: string[];
}

export interface GridForm {
  tokens: number[];
  rows: string[];
  cells: Flat[][];
  words: string[];
  numbers?: Record<string, (number | null)[][]>;
  answer?: string;
  settled?: number[];
}

export type StepForm = [token: string, p: number | null, candidates: (string | number | null)[], saved: string[]];

export interface TextsForm {
  name: string;
  heads: [string, string];
  columns: [string | null, string | null][];
}

type RunForm = [name: string, kind: number] | [first: string, kind: number, count: number];
export type KindForm = [
  number: number,
  className: string,
  note: string,
  parameters: number,
  bytes: number,
  dtype: string,
  device: string,
  runs: RunForm[],
];

export interface TreeForm {
  root: number;
  size: number;
  parameters: number;
  bytes: number;
  kinds: KindForm[];
  whole: boolean;
}

/** Input and output shape, saved names, written to, not run. */
export interface NoteForm {
  i?: string;
  o?: string;
  s?: string[];
  w?: 1;
  n?: 1;
}

export interface Question {
  do: string;
  id: number;
}

export interface Reply {
  re: number;
  error?: string;
  gone?: boolean;
  again?: number[];
}

/** Whether a check holds; `none` where it does not apply. */
export type CheckState = "holds" | "warns" | "fails" | "none";

/** What was checked of one thing: for each check its state, its name and what was found. */
export interface CheckedForm {
  title: string;
  checks: [CheckState, string, string][];
}

/** A text in pieces, each with whether it differs from the text without; and its loss. */
export type TextForm = [[string, boolean][], number | null];

/** Texts by strength and prompt; `control` has none where none were written. */
export interface WrittenForm {
  prompts: string[];
  strengths: number[];
  said: TextForm[][];
  control: TextForm[][];
}

/** A line of a chart; `low` and `high` are the ends of its intervals. */
export interface LineForm {
  name: string;
  role: "main" | "second" | "spread";
  values: (number | null)[];
  low: (number | null)[] | null;
  high: (number | null)[] | null;
}

/** Lines over places; `numbers` are the blocks that these are, if they are blocks. */
export interface ChartForm {
  across: string;
  labels: string[];
  lines: LineForm[];
  levels: [string, number][];
  numbers: number[] | null;
}
