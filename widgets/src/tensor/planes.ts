// The pictures of the plane that is drawn: stored ones at once, others from the kernel, the latest
// question first, one at a time.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type Answer, doublesOf, inflate, kernelOf, wholesOf } from "../core/kernel";
import { useTrait } from "../core/model";
import type { Model } from "../core/widget";
import type { StoredPicture } from "../core/wire";
import { byNorm, covers, cut, extent, type Picture, pictureOf, pooled, thinned, type Window } from "./picture";
import { whole } from "./viewport";

export interface Place {
  drawn: [number, number];
  index: number[];
  part: string;
  ordered: boolean;
}

const OVERVIEW = 256;
const MOST = 512;
const KEPT = 96;

export const keyOf = ({ drawn, index, part, ordered }: Place) =>
  JSON.stringify([drawn, index.map((at, axis) => (drawn.includes(axis) ? -1 : at)), part, ordered]);

/**
 * The stored codes, once they are unpacked: undefined before, null where there are none. They come
 * anew where the kernel fills a view with further values.
 */
export function useStored(model: Model) {
  const [stored, setStored] = useState<{ codes: Uint8Array; levels: Float64Array } | null>();
  const [packed] = useTrait<DataView>(model, "codes");
  const [packedLevels] = useTrait<DataView>(model, "levels");
  useEffect(() => {
    let current = true;
    Promise.all([inflate(packed), inflate(packedLevels)])
      .then(([codes, levels]) => current && setStored({ codes, levels: doublesOf(levels) }))
      .catch(() => current && setStored(null));
    return () => {
      current = false;
    };
  }, [packed, packedLevels]);
  return stored;
}

export interface Planes {
  base: Picture | null;
  sharp: Picture | null;
  /** all that is known of values, the finest first */
  known: Picture[];
  order: ArrayLike<number> | null;
  trouble: string;
  /** whether a finer picture is on its way */
  pending: boolean;
}

export function usePlanes(model: Model, place: Place, window: Window | null, pixels: [number, number]): Planes {
  const shape = model.get("about").shape as number[];
  const kernel = kernelOf(model);
  const stored = useStored(model);
  const cache = useRef(new Map<string, Picture>()).current;
  const [, redraw] = useState(0);
  const [trouble, setTrouble] = useState("");
  const sharp = useRef<{ key: string; picture: Picture } | null>(null);
  const key = keyOf(place);
  const drawnFrom = useRef(stored);
  if (drawnFrom.current && drawnFrom.current !== stored) {
    cache.clear(); // pictures of the values before
    sharp.current = null;
  }
  drawnFrom.current = stored;
  const size: [number, number] = [extent(shape, place.drawn[0]), extent(shape, place.drawn[1])];
  const seen = window ?? whole(...size);

  const local = useMemo(() => fromStored(model.get("stored"), stored, shape, place), [stored, key]);
  const base = local?.picture ?? cache.get(key) ?? null;

  const asking = useRef(false);
  const wanted = useRef<Want | null>(null);
  wanted.current = want(
    base,
    sharp.current?.key === key ? sharp.current.picture : null,
    size,
    seen,
    pixels,
    place,
    key,
  );

  const pump = () => {
    const next = wanted.current;
    if (asking.current || !next || stored === undefined) return;
    asking.current = true;
    const question = { ...next.place, size: next.pixels, window: next.window ?? null };
    kernel
      .ask("plane", question)
      .then((answer) => {
        const picture = received(answer);
        if (!picture) return setTrouble("The kernel sent an image that cannot be read.");
        if (next.window) sharp.current = { key: next.key, picture };
        else remember(cache, next.key, picture);
        setTrouble("");
        redraw((n) => n + 1);
      })
      .catch((error: Error) => {
        setTrouble(error.message);
        refused.current = next.key + String(next.window);
      })
      .finally(() => {
        asking.current = false;
        redraw((n) => n + 1);
      });
  };
  const refused = useRef("");
  const waits = wanted.current !== null && refused.current !== wanted.current.key + String(wanted.current.window);
  useEffect(() => {
    const next = wanted.current;
    if (next && refused.current !== next.key + String(next.window)) pump();
  });

  const fitting = useMemo(() => {
    if (local && isWhole(local.picture, size)) return pooled(local.picture, seen, pixels[0], pixels[1]);
    return base && thinned(base, seen, pixels[0], pixels[1]);
  }, [local, base, seen.join(), pixels.join()]);
  const close = sharp.current?.key === key ? sharp.current.picture : null;
  const area = ({ block }: Picture) => block[0] * block[1];
  const known = [close, base].filter((each) => each !== null).sort((a, b) => area(a) - area(b));
  return { base: fitting, sharp: close, known, order: local?.order ?? base?.order ?? null, trouble, pending: waits };
}

/** Whether a picture has every value of its plane, so that it can be pooled here. */
const isWhole = (picture: Picture, [rows, columns]: [number, number]) =>
  picture.high === null && picture.rows === rows && picture.columns === columns;

/** The picture that the kernel answers with; null where its parts do not fit together. */
export function received(answer: Answer): Picture | null {
  const [levels, codes, order] = answer.buffers;
  const picture = levels && codes ? pictureOf(answer.info, doublesOf(levels), codes) : null;
  return picture && order ? { ...picture, order: wholesOf(order) } : picture;
}

/** Keeps a picture, and of all of them as many as were last kept. */
export function remember(cache: Map<string, Picture>, key: string, picture: Picture): void {
  cache.set(key, picture);
  while (cache.size > KEPT) cache.delete(cache.keys().next().value!);
}

/** The picture of a place out of what a view stores; null where that does not reach. */
export function fromStored(
  facts: StoredPicture,
  stored: { codes: Uint8Array; levels: Float64Array } | null | undefined,
  shape: number[],
  place: Place,
): { picture: Picture; order: number[] | null } | null {
  if (!stored || facts.part !== place.part) return null;
  if (facts.form === "whole") {
    const { codes, levels } = stored;
    if (codes.length !== shape.reduce((a, b) => a * b, 1)) return null;
    let picture = cut(codes, levels, shape, place.drawn, place.index);
    if (!place.ordered) return { picture, order: null };
    const order = byNorm(picture);
    picture = cut(codes, levels, shape, place.drawn, place.index, order);
    return { picture, order };
  }
  const here = { ...place, drawn: facts.drawn, index: facts.index, ordered: false } as Place;
  if (facts.form !== "plane" || keyOf(here) !== keyOf(place)) return null;
  const picture = pictureOf(facts, stored.levels, stored.codes);
  return picture && { picture, order: null };
}

interface Want {
  key: string;
  place: Place;
  window: Window | null;
  pixels: [number, number];
}

/** What the kernel is still to be asked: an overview first, then what the screen can resolve. */
export function want(
  base: Picture | null,
  sharp: Picture | null,
  size: [number, number],
  seen: Window,
  pixels: [number, number],
  place: Place,
  key: string,
): Want | null {
  if (!size[0] || !size[1]) return null;
  if (!base) return { key, place, window: null, pixels: [OVERVIEW, OVERVIEW] };
  const room: [number, number] = [Math.min(MOST, pixels[0]), Math.min(MOST, pixels[1])];
  const block = [Math.ceil((seen[1] - seen[0]) / room[0]), Math.ceil((seen[3] - seen[2]) / room[1])];
  const fine = (picture: Picture | null) =>
    picture !== null && covers(picture, seen) && picture.block[0] <= block[0] && picture.block[1] <= block[1];
  if (fine(base) || fine(sharp)) return null;
  // Somewhat coarser than the screen will do for the whole: it is there already.
  if (
    covers(base, seen) &&
    base.block[0] <= 2 * block[0] &&
    base.block[1] <= 2 * block[1] &&
    seen[1] - seen[0] === size[0] &&
    seen[3] - seen[2] === size[1]
  )
    return null;
  return { key, place, window: seen, pixels: room };
}
