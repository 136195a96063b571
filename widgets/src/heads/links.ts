// What a token attends to and what attends to it: from what is stored, else from the kernel.
import { useEffect, useMemo, useState } from "preact/hooks";
import { floatsOf, kernelOf } from "../core/kernel";
import type { Model } from "../core/widget";
import { type Picture, valuesAt } from "../tensor/picture";
import { fromStored, useStored } from "../tensor/planes";
import type { Place } from "./sizes";

/** The weights of one token's row and of its column, of one head or the mean of several. */
export interface Links {
  /** by what is attended to: the tokens, and a sink */
  to: ArrayLike<number>;
  /** by the token that attends */
  from: ArrayLike<number>;
}

/** The mean row and column of a token in whole patterns; null where one of them was pooled. */
export function linksIn(pictures: (Picture | null)[], token: number): Links | null {
  const known = pictures.filter((each): each is Picture => each !== null && !each.high && each.block.join() === "1,1");
  if (!known.length || known.length < pictures.length) return null;
  const mean = (count: number, at: (k: number) => [number, number]) =>
    Array.from({ length: count }, (_, k) => {
      const values = known.map((picture) => valuesAt(picture, ...at(k))?.[0] ?? 0);
      return values.reduce((sum, value) => sum + value, 0) / values.length;
    });
  const { rows, columns } = known[0];
  return { to: mean(columns, (k) => [token, k]), from: mean(rows, (k) => [k, token]) };
}

/** The links of a token, null while they are asked for; and why there are none. */
export function useLinks(model: Model, large: Model, heads: Place[], token: number): [Links | null, string] {
  const stored = useStored(large);
  const [heard, setHeard] = useState<{ key: string; links: Links | null; trouble: string } | null>(null);
  const key = `${heads.map((each) => each.join(".")).join()}|${token}`;
  const shape = large.get("about").shape as number[];
  const own = useMemo(() => {
    const pictures = heads.map((place) => {
      const at = { drawn: [2, 3] as [number, number], index: [...place, 0, 0], part: "real", ordered: false };
      return fromStored(large.get("stored"), stored, shape, at)?.picture ?? null;
    });
    return linksIn(pictures, token);
  }, [stored, key]);
  useEffect(() => {
    if (own || stored === undefined || token < 0) return;
    let current = true;
    const hear = (links: Links | null, trouble: string) => current && setHeard({ key, links, trouble });
    kernelOf(model)
      .ask("links", { heads, token })
      .then(
        ({ buffers: [to, from] }) => hear({ to: floatsOf(to), from: floatsOf(from) }, ""),
        (error: Error) => hear(null, error.message),
      );
    return () => {
      current = false;
    };
  }, [own === null, stored === undefined, key]);
  if (own) return [own, ""];
  return heard?.key === key ? [heard.links, heard.trouble] : [heard?.links ?? null, ""];
}

/** The places with the greatest weights, the greatest first. */
export function strongest(weights: ArrayLike<number>, most: number, least = 0.005): number[] {
  const places = Array.from(weights, (_, k) => k).filter((k) => weights[k] >= least);
  return places.sort((a, b) => weights[b] - weights[a] || a - b).slice(0, most);
}
