// A module tree as rows. Alike blocks, which stand next to each other under numbers, are one row.

import { printable } from "../core/format";
import type { KindForm, NoteForm, TreeForm } from "../core/wire";

export type Notes = Record<string, NoteForm>;

export interface Kind {
  className: string;
  note: string;
  parameters: number;
  bytes: number;
  dtype: string;
  device: string;
  /** runs of children: first name, kind, how many */
  runs: [string, number, number][];
}

export interface Tree {
  root: number;
  size: number;
  parameters: number;
  bytes: number;
  kinds: Map<number, Kind>;
  whole: boolean;
}

export interface Row {
  /** the module's path, or of a run of alike ones the path of the first, "…", and the last number */
  id: string;
  /** a module to look at: of a run its first */
  path: string;
  label: string;
  count: number;
  kind: number;
  depth: number;
  open: boolean;
  opens: boolean;
  /** its place among its siblings, for those who do not see the tree */
  place: number;
  siblings: number;
}

export function unpack({ kinds, ...facts }: TreeForm): Tree {
  const tree: Tree = { ...facts, kinds: new Map() };
  addKinds(tree, kinds);
  return tree;
}

export function addKinds(tree: Tree, entries: KindForm[]): void {
  for (const [number, className, note, parameters, bytes, dtype, device, runs] of entries) {
    const all = runs.map(([name, kind, count]) => [name, kind, count ?? 1] as [string, number, number]);
    tree.kinds.set(number, {
      className: printable(className),
      note: printable(note),
      parameters,
      bytes,
      dtype,
      device,
      runs: all,
    });
  }
}

/** Kinds that open rows want and that have not come yet. */
export function missing(tree: Tree, rows: Row[]): number[] {
  const found = new Set<number>();
  for (const row of rows) if (!tree.kinds.has(row.kind)) found.add(row.kind);
  return [...found];
}

export const join = (path: string, name: string) => (path ? `${path}.${name}` : name);
const isNumber = (name: string) => /^\d+$/.test(name);

/** Whether all children of a module are one run: such a list shows its count in its own row. */
const uniform = (kind: Kind | undefined) => kind !== undefined && kind.runs.length === 1 && kind.runs[0][2] > 1;

/** The rows that are seen when the given ones are open. */
export function visibleRows(tree: Tree, title: string, open: ReadonlySet<string>): Row[] {
  const rows: Row[] = [];
  const add = (row: Omit<Row, "open" | "opens" | "count">, run: number) => {
    const kind = tree.kinds.get(row.kind);
    const counted = run > 1 ? run : uniform(kind) ? kind!.runs[0][2] : 1;
    const opens = run > 1 || !kind || kind.runs.length > 0;
    rows.push({ ...row, label: printable(row.label), count: counted, opens, open: opens && open.has(row.id) });
    return opens && open.has(row.id);
  };
  const below = (path: string, number: number, depth: number) => {
    const kind = tree.kinds.get(number);
    if (!kind) return;
    const alone = uniform(kind);
    const siblings = alone ? kind.runs[0][2] : kind.runs.length;
    kind.runs.forEach(([name, child, count], k) => {
      if (count === 1 || alone) members(path, name, child, count, depth, alone ? 0 : k, siblings);
      else {
        const last = Number(name) + count - 1;
        const id = `${join(path, name)}…${last}`;
        const label = `[${name} … ${last}]`;
        const opened = add({ id, path: join(path, name), label, kind: child, depth, place: k, siblings }, count);
        if (opened) members(path, name, child, count, depth + 1, 0, count);
      }
    });
  };
  const members = (
    path: string,
    name: string,
    child: number,
    count: number,
    depth: number,
    place: number,
    siblings: number,
  ) => {
    const first = Number(name);
    for (let k = 0; k < count; k++) {
      const own = count > 1 ? String(first + k) : name;
      const full = join(path, own);
      const row = {
        id: full,
        path: full,
        label: isNumber(own) ? `[${own}]` : own,
        kind: child,
        depth,
        place: place + k,
        siblings,
      };
      if (add(row, 1)) below(full, child, depth + 1);
    }
  };
  if (add({ id: "", path: "", label: title, kind: tree.root, depth: 0, place: 0, siblings: 1 }, 1))
    below("", tree.root, 1);
  return rows;
}

/** The run of alike modules that a child is in. */
function runOf(kind: Kind, name: string): Kind["runs"][number] | undefined {
  const within = (first: number, count: number) =>
    isNumber(name) && Number(name) >= first && Number(name) < first + count;
  return kind.runs.find(([first, , count]) => name === first || (count > 1 && within(Number(first), count)));
}

/** The rows that must be open for a module to be seen. */
export function ancestors(tree: Tree, path: string): string[] {
  const found = [""];
  let at = "";
  let number = tree.root;
  for (const name of path ? path.split(".") : []) {
    const kind = tree.kinds.get(number);
    if (!kind) break;
    const run = runOf(kind, name);
    if (!run) break;
    if (run[2] > 1 && !uniform(kind)) found.push(`${join(at, run[0])}…${Number(run[0]) + run[2] - 1}`);
    at = join(at, name);
    found.push(at);
    number = run[1];
  }
  return found.filter((id) => id !== path || path === "");
}

/** The kind of the module at a path; undefined where there is none. */
export function kindAt(tree: Tree, path: string): Kind | undefined {
  let kind = tree.kinds.get(tree.root);
  for (const name of path ? path.split(".") : []) {
    const run = kind && runOf(kind, name);
    kind = run && tree.kinds.get(run[1]);
  }
  return kind;
}

/** What is noted about a module, or about all modules at such a place. */
export function noteOf(notes: Notes, path: string): NoteForm {
  return notes[path] ?? notes[starred(path)] ?? {};
}

const starred = (path: string) => path.replace(/(^|\.)\d+(?=\.|$)/g, "$1*").replace(/(^|\.)\d+(?=\.|$)/g, "$1*");

/** What is noted about the modules that a closed row stands for and does not show. */
export function noteInside(notes: Notes, row: Row): NoteForm {
  if (!row.opens || row.open) return {};
  const isRun = row.id !== row.path;
  const saved = new Set<string>();
  let wrote = false;
  for (const [path, note] of Object.entries(notes)) {
    if (!(isRun ? isInRun(path, row) : isBelow(path, row.path, notes))) continue;
    for (const name of note.s ?? []) saved.add(name);
    wrote ||= Boolean(note.w);
  }
  return { ...(saved.size && { s: [...saved] }), ...(wrote && { w: 1 }) };
}

function isBelow(path: string, top: string, notes: Notes): boolean {
  if (path === "" || path === top) return false;
  if (top === "" || path.startsWith(`${top}.`)) return true;
  const place = `${starred(top)}.`;
  if (!path.includes("*") || !path.startsWith(place)) return false;
  // What stands for all such modules is not about one that has a note of its own.
  return !(`${top}.${path.slice(place.length)}` in notes);
}

function isInRun(path: string, row: Row): boolean {
  const place = starred(row.path);
  if (path === place || path.startsWith(`${place}.`)) return true;
  const first = Number(row.path.slice(row.path.lastIndexOf(".") + 1));
  const parent = row.path.slice(0, row.path.lastIndexOf(".") + 1);
  if (!path.startsWith(parent)) return false;
  const number = path.slice(parent.length).split(".", 1)[0];
  return isNumber(number) && Number(number) >= first && Number(number) < first + row.count;
}

/** A module as it is written in a cell: `layers[3].mlp`, by its standard name where it has one. */
export function written(path: string, aliases: Record<string, string>): string {
  let head = "";
  let rest = path;
  const known = Object.keys(aliases).filter((each) => path === each || path.startsWith(`${each}.`));
  if (known.length) {
    const longest = known.reduce((a, b) => (b.length > a.length ? b : a));
    head = aliases[longest];
    rest = path.slice(longest.length + 1);
  }
  for (const name of rest ? rest.split(".") : []) {
    if (isNumber(name)) head += `[${name}]`;
    else if (/^[\p{L}_][\p{L}\p{N}_]*$/u.test(name)) head += head ? `.${name}` : name;
    else head += `[${JSON.stringify(name)}]`;
  }
  return head || "model";
}
