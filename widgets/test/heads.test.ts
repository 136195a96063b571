// Where small multiples stand, and which heads score highest.
import { describe, expect, it } from "vitest";
import { linksIn, strongest } from "../src/heads/links";
import { cellOf, type HeadsForm, type Place, ranked, toggled } from "../src/heads/sizes";
import { cut, type Picture, pooled } from "../src/tensor/picture";

const form: HeadsForm = {
  layers: [0, 2],
  heads: 2,
  size: [9, 9],
  tokens: [],
  scores: {
    first: [
      [0.5, null],
      [0.75, 0.1],
    ],
  },
};

describe("heads", () => {
  it("are ranked by a score, those that are not there left out", () => {
    expect(ranked(form, "first", 2)).toEqual([
      { place: [1, 0], score: 0.75 },
      { place: [0, 0], score: 0.5 },
    ]);
    expect(ranked(form, "other", 2)).toEqual([]);
  });
  it("are as large as there is room for, in whole pixels", () => {
    expect(cellOf([9, 9], [30, 9], 330)).toEqual([30, 30]);
    expect(cellOf([16, 16], [40, 64], 330)).toEqual([17, 17]);
    expect(cellOf([16, 17], [30, 9], 330)).toEqual([34, 36]);
    expect(cellOf([9, 9], [1, 2], 330)).toEqual([160, 160]);
  });
  it("are chosen for the mean one by one, and taken out again", () => {
    const one: Place[] = [[0, 1]];
    expect(toggled(one, [1, 1])).toEqual([
      [0, 1],
      [1, 1],
    ]);
    expect(toggled(one, [0, 1])).toEqual([]);
  });
});

describe("a token's links", () => {
  // two heads of three tokens; the last column is a sink
  const levels = Float64Array.of(0, 0.25, 0.5, 0.75, 1);
  const codes = Uint8Array.of(0, 0, 0, 4, 1, 2, 0, 1, 1, 1, 1, 1, 4, 0, 0, 0, 0, 4, 0, 0, 2, 0, 2, 0);
  const head = (k: number): Picture => cut(codes, levels, [1, 2, 3, 4], [2, 3], [0, k, 0, 0]);
  it("are its row, with the sink, and its column", () => {
    expect(linksIn([head(0)], 1)).toEqual({ to: [0.25, 0.5, 0, 0.25], from: [0, 0.5, 0.25] });
  });
  it("of several heads are their mean", () => {
    expect(linksIn([head(0), head(1)], 1)).toEqual({ to: [0.125, 0.75, 0, 0.125], from: [0, 0.75, 0.125] });
  });
  it("cannot be told from pooled patterns, and not where one is missing", () => {
    expect(linksIn([head(0), null], 1)).toBeNull();
    expect(linksIn([pooled(head(0), [0, 3, 0, 4], 2, 2)], 1)).toBeNull();
    expect(linksIn([], 1)).toBeNull();
  });
  it("are told by the strongest, in their order", () => {
    expect(strongest([0.1, 0, 0.4, 0.4, 0.001], 3)).toEqual([2, 3, 0]);
  });
});
