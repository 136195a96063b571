// What is asked of the kernel for the plane that is drawn, and what is kept of its answers.
import { describe, expect, it } from "vitest";
import type { Picture, Window } from "../src/tensor/picture";
import { fromStored, keyOf, type Place, remember, want } from "../src/tensor/planes";

const PLACE: Place = { drawn: [1, 2], index: [3, 4, 5], part: "real", ordered: false };
const SIZE: [number, number] = [1000, 4000];
const WHOLE: Window = [0, 1000, 0, 4000];

function picture(window: Window, block: [number, number]): Picture {
  const rows = Math.ceil((window[1] - window[0]) / block[0]);
  const columns = Math.ceil((window[3] - window[2]) / block[1]);
  const low = new Uint8Array(rows * columns);
  return { rows, columns, window, block, low, high: low, levels: Float64Array.of(0), sampled: false };
}

describe("a plane", () => {
  it("is the same wherever the axes that are drawn stand", () => {
    expect(keyOf(PLACE)).toBe(keyOf({ ...PLACE, index: [3, 9, 9] }));
    for (const other of [
      { ...PLACE, index: [2, 4, 5] },
      { ...PLACE, drawn: [2, 1] as [number, number] },
      { ...PLACE, part: "imag" },
      { ...PLACE, ordered: true },
    ])
      expect(keyOf(other)).not.toBe(keyOf(PLACE));
  });
});

describe("what is asked for", () => {
  const ask = (base: Picture | null, sharp: Picture | null, seen: Window, pixels: [number, number] = [400, 800]) =>
    want(base, sharp, SIZE, seen, pixels, PLACE, keyOf(PLACE));
  it("is an overview first", () => {
    expect(ask(null, null, [0, 10, 0, 10])).toEqual({
      key: keyOf(PLACE),
      place: PLACE,
      window: null,
      pixels: [256, 256],
    });
  });
  it("is nothing while what is there is as fine as the screen, or nearly so of the whole", () => {
    expect(ask(picture(WHOLE, [1, 1]), null, [0, 10, 0, 10])).toBeNull();
    expect(ask(picture(WHOLE, [4, 10]), null, WHOLE)).toBeNull();
  });
  it("is what is seen, in no more numbers than one answer has, where it is coarser", () => {
    const found = ask(picture(WHOLE, [4, 16]), null, [100, 200, 0, 400], [2000, 3000])!;
    const [top, bottom, left, right] = found.window!;
    expect([top <= 100, bottom >= 200, left <= 0, right >= 400]).toEqual([true, true, true, true]);
    expect(Math.max(...found.pixels)).toBeLessThanOrEqual(512);
  });
  it("is nothing once a finer picture of what is seen is there, and again when another part is seen", () => {
    const [base, seen] = [picture(WHOLE, [4, 16]), [100, 200, 0, 400] as Window];
    expect(ask(base, picture([50, 250, 0, 500], [1, 1]), seen)).toBeNull();
    expect(ask(base, picture([50, 250, 0, 500], [1, 1]), [600, 700, 0, 400])).not.toBeNull();
  });
  it("is nothing of a tensor without values", () => {
    expect(want(null, null, [0, 5], [0, 0, 0, 5], [10, 10], PLACE, "")).toBeNull();
  });
});

describe("what is stored of one plane", () => {
  const facts = {
    form: "plane",
    part: "real",
    drawn: [1, 2],
    index: [3, 0, 0],
    rows: 1,
    columns: 2,
    window: [0, 1, 0, 2],
    block: [1, 1],
    pair: false,
  } as const;
  const stored = { codes: Uint8Array.of(0, 1), levels: Float64Array.of(5, 7) };
  const found = (place: Place) => fromStored(facts as any, stored, [4, 1, 2], place);
  it("is drawn at its place, and at no other", () => {
    expect(Array.from(found({ ...PLACE, index: [3, 0, 0] })!.picture.low)).toEqual([0, 1]);
    expect(found({ ...PLACE, index: [2, 0, 0] })).toBeNull();
    expect(found({ ...PLACE, index: [3, 0, 0], ordered: true })).toBeNull();
  });
});

describe("pictures that came", () => {
  it("are kept, the last 96 of them", () => {
    const cache = new Map<string, Picture>();
    for (let k = 0; k < 100; k++) remember(cache, `key ${k}`, picture([0, 1, 0, 1], [1, 1]));
    expect(cache.size).toBe(96);
    expect([cache.has("key 3"), cache.has("key 4")]).toEqual([false, true]);
  });
});
