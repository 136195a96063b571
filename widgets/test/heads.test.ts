// Where small multiples stand, and which heads score highest.
import { describe, expect, it } from "vitest";
import { cellOf, type HeadsForm, ranked, stepTo } from "../src/heads/sizes";

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
    expect(cellOf([9, 9], 9, 330)).toEqual([30, 30]);
    expect(cellOf([16, 16], 64, 330)).toEqual([17, 17]);
  });
  it("are walked by keys, to the edges and no further", () => {
    expect(stepTo("ArrowDown", [1, 0], [2, 2])).toEqual([1, 0]);
    expect(stepTo("End", [0, 0], [2, 2])).toEqual([0, 1]);
    expect(stepTo("a", [0, 0], [2, 2])).toBeNull();
  });
});
