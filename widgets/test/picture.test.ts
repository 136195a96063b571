import { describe, expect, it } from "vitest";
import type { Palette } from "../src/core/colour";
import {
  byNorm,
  cut,
  MINUS,
  NAN,
  outside,
  PLUS,
  pictureOf,
  pooled,
  salient,
  strides,
  thinned,
  valueOfCode,
  valuesAt,
} from "../src/tensor/picture";
import { CASES } from "./cases";

const levels = Float64Array.from({ length: 24 }, (_, k) => k - 12);

describe("cut", () => {
  const shape = [2, 3, 4];
  const codes = Uint8Array.from({ length: 24 }, (_, k) => k);

  it("reads the drawn axes at the place on the others", () => {
    const plane = cut(codes, levels, shape, [1, 2], [1, 0, 0]);
    expect([plane.rows, plane.columns]).toEqual([3, 4]);
    expect(Array.from(plane.low)).toEqual(Array.from({ length: 12 }, (_, k) => 12 + k));
  });

  it("draws axes in either order", () => {
    const plane = cut(codes, levels, shape, [2, 0], [0, 1, 0]);
    expect([plane.rows, plane.columns]).toEqual([4, 2]);
    expect(Array.from(plane.low)).toEqual([4, 16, 5, 17, 6, 18, 7, 19]);
  });

  it("draws a vector as one row, and a scalar as one value", () => {
    expect(cut(Uint8Array.of(3, 4), levels, [2], [-1, 0], [0]).rows).toBe(1);
    expect(Array.from(cut(Uint8Array.of(3), levels, [], [-1, -1], []).low)).toEqual([3]);
  });

  it("knows the steps of a shape", () => expect(strides([2, 3, 4])).toEqual([12, 4, 1]));
});

describe("pooled", () => {
  it("keeps the least and the greatest of each block, the smaller ones at the edge too", () => {
    const plane = cut(Uint8Array.from([5, 1, 2, 9, 3, 4, 7, 0, 6]), levels, [3, 3], [0, 1], [0, 0]);
    const small = pooled(plane, [0, 3, 0, 3], 2, 2);
    expect([small.rows, small.columns]).toEqual([2, 2]);
    expect(Array.from(small.low)).toEqual([1, 2, 0, 6]);
    expect(Array.from(small.high!)).toEqual([9, 4, 7, 6]);
  });

  it("lets NaN and infinities survive", () => {
    const plane = cut(Uint8Array.from([5, NAN, 1, PLUS, MINUS, 2]), levels, [1, 6], [0, 1], [0, 0]);
    const small = pooled(plane, [0, 1, 0, 6], 1, 3);
    expect(Array.from(small.low)).toEqual([NAN, 1, MINUS]);
    expect(Array.from(small.high!)).toEqual([NAN, PLUS, 2]);
  });

  it("tells the ends of a block for each of its values", () => {
    const plane = cut(Uint8Array.from([5, 1, 2, 9]), levels, [1, 4], [0, 1], [0, 0]);
    expect(valuesAt(pooled(plane, [0, 1, 0, 4], 1, 2), 0, 3)).toEqual([-10, -3]);
    expect(valuesAt(plane, 0, 4)).toBeNull();
  });
});

describe("thinned", () => {
  const spiky = {
    ...cut(Uint8Array.from([5, 1, 2, 9, 3, 4, 7]), levels, [1, 7], [0, 1], [0, 0]),
    block: [1, 10] as [number, number],
    window: [0, 1, 0, 70] as [number, number, number, number],
  };
  it("loses no spike where there are more blocks than pixels", () => {
    const small = thinned(spiky, [0, 1, 0, 70], 1, 3);
    expect([small.rows, small.columns, small.block]).toEqual([1, 3, [1, 30]]);
    expect([Array.from(small.low), Array.from(small.high!)]).toEqual([
      [1, 3, 7],
      [5, 9, 7],
    ]);
  });
  it("leaves a picture alone of which fewer blocks are seen", () => {
    expect(thinned(spiky, [0, 1, 0, 30], 1, 3)).toBe(spiky);
  });
  it("keeps NaN", () => {
    const marked = { ...spiky, low: Uint8Array.from([5, NAN, 2, 9, NAN, 4, 7]) };
    expect(Array.from(thinned(marked, [0, 1, 0, 70], 1, 3).high!)).toEqual([NAN, NAN, 7]);
  });
});

describe("salient", () => {
  const numberOf = (value: number | string) =>
    Number(value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);
  it.each(CASES.blocks)(
    "draws of $low and $high on $palette $limits: $drawn",
    ({ limits, palette, low, high, drawn }) => {
      const ends = [low, high].map(numberOf);
      const levels = Float64Array.from(ends.filter(Number.isFinite));
      const codes = ends.map((end) =>
        Number.isNaN(end) ? NAN : end === Infinity ? PLUS : end === -Infinity ? MINUS : levels.indexOf(end),
      );
      const picture = {
        rows: 1,
        columns: 1,
        window: [0, 1, 0, 2] as [number, number, number, number],
        block: [1, 2] as [number, number],
        low: Uint8Array.of(codes[0]),
        high: Uint8Array.of(codes[1]),
        levels,
        sampled: false,
      };
      const found = salient(picture, { limits: limits as [number, number], palette: palette as Palette });
      expect(valueOfCode(levels, found[0])).toEqual(numberOf(drawn));
    },
  );
});

describe("outside", () => {
  it("tells on which side values lie beyond the limits", () => {
    const plane = cut(Uint8Array.from([5, 1, 2, 9]), levels, [1, 4], [0, 1], [0, 0]);
    expect(outside(plane, [-11, -3])).toEqual([false, false]);
    expect(outside(pooled(plane, [0, 1, 0, 4], 1, 2), [-10, -4])).toEqual([true, true]);
  });
});

describe("byNorm", () => {
  it("puts the columns with the largest values first", () => {
    const plane = cut(Uint8Array.from([12, 0, 14, 12, 12, 13]), levels, [2, 3], [0, 1], [0, 0]);
    expect(byNorm(plane)).toEqual([1, 2, 0]);
  });
});

describe("pictureOf", () => {
  it("refuses nonsense", () => {
    expect(pictureOf({}, levels, new Uint8Array())).toBeNull();
    expect(
      pictureOf({ rows: 4, columns: 4, window: [0, 4, 0, 4], block: [1, 1] }, levels, new Uint8Array(3)),
    ).toBeNull();
  });
});
