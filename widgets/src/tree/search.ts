// Fuzzy search in a module tree: the letters in their order, best where they begin words.
import { join, type Tree } from "./rows";

export interface Hit {
  path: string;
  kind: number;
  score: number;
  /** places of the matched letters in the path, or none where the class matched */
  letters: number[];
}

/** How well a text fits, and where; null where it does not. Higher is better. */
export function fuzzy(query: string, text: string): { score: number; letters: number[] } | null {
  const low = text.toLowerCase();
  const whole = low.lastIndexOf(query);
  if (whole >= 0) {
    const begins = whole === 0 || /[^a-z0-9]/.test(low[whole - 1]);
    const ends = whole + query.length === low.length;
    const letters = Array.from(query, (_, k) => whole + k);
    return { score: 1000 + (begins ? 300 : 0) + (ends ? 200 : 0) - low.length, letters };
  }
  const letters: number[] = [];
  let score = 0;
  let at = low.length;
  // From the end: the last names of a path tell most.
  for (let k = query.length - 1; k >= 0; k--) {
    const found = low.lastIndexOf(query[k], at - 1);
    if (found < 0) return null;
    score += found === at - 1 && k < query.length - 1 ? 8 : 0;
    score += found === 0 || /[^a-z0-9]/.test(low[found - 1]) ? 10 : 0;
    letters.push(found);
    at = found;
  }
  return { score: score - low.length * 0.1, letters: letters.reverse() };
}

const MOST_LOOKED_AT = 400_000;

/** The modules that fit best, by path or by class; at most `most`. */
export function search(tree: Tree, query: string, most = 500): Hit[] {
  const wanted = query.toLowerCase().replace(/\s+/g, "").replaceAll("[", ".").replaceAll("]", "");
  if (!wanted) return [];
  const byClass = new Map<number, number>();
  for (const [number, kind] of tree.kinds) {
    const fit = fuzzy(wanted, kind.className);
    if (fit && fit.score > 900) byClass.set(number, fit.score - 100);
  }
  const hits: Hit[] = [];
  const stack: [string, number][] = [["", tree.root]];
  for (let looked = 0; stack.length && looked < MOST_LOOKED_AT; looked++) {
    const [path, number] = stack.pop()!;
    const fit = path ? fuzzy(wanted, path) : null;
    const score = Math.max(fit?.score ?? -Infinity, byClass.get(number) ?? -Infinity);
    if (score > -Infinity && path) hits.push({ path, kind: number, score, letters: fit?.letters ?? [] });
    const runs = tree.kinds.get(number)?.runs ?? [];
    for (let r = runs.length - 1; r >= 0; r--) {
      const [name, child, count] = runs[r];
      for (let k = count - 1; k >= 0; k--) {
        stack.push([join(path, count > 1 ? String(Number(name) + k) : name), child]);
      }
    }
  }
  // Blocks of the same kind score alike up to the length of their numbers: the tree's order decides.
  const rank = (hit: Hit) => Math.round(hit.score / 4);
  return hits
    .map((hit, k) => [hit, k] as const)
    .sort(([a, i], [b, j]) => rank(b) - rank(a) || i - j)
    .slice(0, most)
    .map(([hit]) => hit);
}
