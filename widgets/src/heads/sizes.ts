// What a view of heads stores, and where each small multiple stands.

export interface HeadsForm {
  layers: number[];
  heads: number;
  /** rows and columns of a small pattern */
  size: [number, number];
  tokens: string[];
  /** by block and head; none for a head that is not there */
  scores: Record<string, (number | null)[][]>;
  /** whether the last column of every pattern is the weight on a sink */
  sink?: boolean;
}

export type Place = [block: number, head: number];

/** A head's name: its block's number, and its own. */
export const named = (form: HeadsForm, [block, head]: Place) => `${form.layers[block]}.${head}`;

export const isSame = (one: Place, other: Place) => one[0] === other[0] && one[1] === other[1];

/** The chosen heads with one more, or without it. */
export const toggled = (chosen: Place[], place: Place): Place[] =>
  chosen.some((each) => isSame(each, place)) ? chosen.filter((each) => !isSame(each, place)) : [...chosen, place];

export interface Ranked {
  place: Place;
  score: number;
}

/** The heads with the highest scores, the highest first. */
export function ranked(form: HeadsForm, name: string, most: number): Ranked[] {
  const all = (form.scores[name] ?? []).flatMap((row, block) =>
    row.map((score, head) => ({ place: [block, head] as Place, score })),
  );
  const known = all.filter((each): each is Ranked => each.score !== null);
  return known.sort((a, b) => b.score - a.score).slice(0, most);
}

const LARGEST = 36; // pixels down of a small multiple of many
const ALL = 240; // pixels down for those of few blocks

/** Pixels of a small multiple on the page, its gap included. */
export function cellOf(
  [rows, columns]: [number, number],
  [blocks, heads]: [number, number],
  room: number,
): [number, number] {
  const tall = Math.max(LARGEST, ALL / blocks);
  const times = Math.max(1, Math.min(Math.floor(room / (heads * (columns + 1))), Math.floor(tall / rows)));
  return [(rows + 1) * times, (columns + 1) * times];
}
