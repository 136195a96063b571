// Token strips as they are stored: texts once, numbers beside them.
import type { Flat, StripForm } from "../core/wire";

export interface Guess {
  token: string;
  p: number;
}

export interface Strip {
  name: string;
  tokens: string[];
  top: Guess[][];
  clean: Guess[][];
  numbers: Record<string, (number | null)[]>;
  generated: number;
  heads: [string, string];
}

export const guesses = (flat: Flat, words: string[]): Guess[] => {
  const found: Guess[] = [];
  for (let k = 0; k + 1 < flat.length; k += 2) found.push({ token: words[flat[k]!] ?? "", p: flat[k + 1] ?? 0 });
  return found;
};

export function unpackStrips(packed: StripForm[]): Strip[] {
  return packed.map((each) => ({
    name: each.name,
    tokens: each.tokens.map((k) => each.words[k]),
    top: each.top.map((flat) => guesses(flat, each.words)),
    clean: each.clean.map((flat) => guesses(flat, each.words)),
    numbers: each.numbers,
    generated: each.generated,
    heads: each.heads ?? ["with writes", "without"],
  }));
}

/** The best tokens of two predictions together: those of the first in order, then those of the
 * `most` best of the second that the first does not have. */
export function together(
  now: Guess[],
  clean: Guess[],
  most = 3,
): { token: string; now: number | null; clean: number | null }[] {
  const other = new Map(clean.map(({ token, p }) => [token, p]));
  const best = [...clean].sort((a, b) => b.p - a.p).slice(0, most);
  const first = new Set(now.map(({ token }) => token));
  return [
    ...now.map(({ token, p }) => ({ token, now: p, clean: other.get(token) ?? null })),
    ...best.filter(({ token }) => !first.has(token)).map(({ token, p }) => ({ token, now: null, clean: p })),
  ];
}

/** How many rows of bars a strip needs at most, whichever of its tokens is looked at. */
export function mostRows(strip: Strip): number {
  return Math.max(0, ...strip.top.map((top, k) => together(top, strip.clean[k] ?? []).length));
}

/** Limits for colouring numbers: around zero where signs differ, and no closer than `least`. A
 * divergence that rounding has made a little less than zero is none of the other sign. */
export function limitsOf(values: (number | null)[], least = 0): [number, number] {
  const known = values.filter((value): value is number => value !== null && Number.isFinite(value));
  if (!known.length) return [0, 1];
  let [low, high] = [known[0], Math.max(0, known[0])];
  for (const value of known) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (low < -1e-4 * Math.abs(high)) {
    const end = Math.max(-low, high);
    return [-end, end];
  }
  return [0, Math.max(high, least) || 1];
}
