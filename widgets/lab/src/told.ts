// What the kernel tells the panel, as nnsight_magic/lab/session.py says it.
import type { NoteForm } from "../../src/core/wire";

/** The messages that this panel speaks: see `PROTOCOL` in nnsight_magic/lab/comms.py. */
export const PROTOCOL = 1;
export const TARGET = "nnsight_magic";
export const NEWS = `${TARGET}:news`;

export interface Saved {
  name: string;
  form: string;
  dtype: string;
  device: string;
  bytes: number;
  run: number;
  where: string;
}

export interface Run {
  number: number;
  kind: string;
  model: string;
  prompt: string;
  read: string[];
  wrote: string[];
  saved: string[];
  edits: string[];
  best: string;
  ran: string;
  time: string;
  failed: boolean;
  source: string;
}

export interface Edit {
  name: string;
  on: boolean;
  steps: string;
  writes: string[];
}

export interface Told {
  models: { name: string; title: string }[];
  /** the variable of the model that the rest is about, "" for none */
  model: string;
  /** the number of its tree, which changes when the tree does */
  tree: number;
  notes: Record<string, NoteForm>;
  wanted: string[];
  facts: { parameters: number; bytes: number; dtype: string; device: string } | null;
  saved: Saved[];
  runs: Run[];
  edits: Edit[];
  /** the last prompt as a magic's line has it, with its quotation marks; "" for none */
  prompt: string;
}

export interface TreeTold {
  version: number;
  title: string;
  /** base64 */
  packed: string;
  aliases: Record<string, string>;
  expanded: string[];
}
