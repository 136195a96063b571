// What a view of heads stores, and where each small multiple stands.

export interface HeadsForm {
  layers: number[];
  heads: number;
  /** rows and columns of a small pattern */
  size: [number, number];
  tokens: string[];
  /** by block and head; none for a head that is not there */
  scores: Record<string, (number | null)[][]>;
}

export type Place = [block: number, head: number];

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

/** Pixels of a small multiple on the page, its gap included. */
export function cellOf([rows, columns]: [number, number], heads: number, room: number): [number, number] {
  const times = Math.max(1, Math.min(Math.floor(room / (heads * (columns + 1))), Math.floor(30 / rows)));
  return [(rows + 1) * times, (columns + 1) * times];
}

/** The head to which a key leads. */
export function stepTo(key: string, [block, head]: Place, [blocks, heads]: Place): Place | null {
  const to: Record<string, Place> = {
    ArrowUp: [block - 1, head],
    ArrowDown: [block + 1, head],
    ArrowLeft: [block, head - 1],
    ArrowRight: [block, head + 1],
    Home: [block, 0],
    End: [block, heads - 1],
  };
  const found = to[key];
  if (!found) return null;
  return [Math.min(blocks - 1, Math.max(0, found[0])), Math.min(heads - 1, Math.max(0, found[1]))];
}
