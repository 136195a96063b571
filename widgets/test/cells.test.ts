// What colours the cells of a lens grid.
import { describe, expect, it } from "vitest";
import { isFirst, shadingOf, unpackGrid } from "../src/tokens/cells";

const grid = unpackGrid({
  tokens: [0, 0],
  rows: ["0"],
  cells: [[[0, 0.25], []]],
  words: ["a"],
  numbers: { rank: [[99, 0]], "log p": [[-40, -10]], entropy: [[2, 4]], other: [[null, -1]] },
  answer: "' a'",
});

describe("the shade of a cell", () => {
  it("is the likeliest token's probability where no number is named", () => {
    const shading = shadingOf(grid, "");
    expect([shading.at(0, 0), shading.at(0, 1), shading.ends]).toEqual([0.25, null, [0, 1]]);
  });
  it("of a rank goes by its logarithm, the first strongest", () => {
    const shading = shadingOf(grid, "rank");
    expect([shading.at(0, 0), shading.at(0, 1), shading.ends]).toEqual([0, 1, [99, 0]]);
    expect([isFirst(grid, 0, 0), isFirst(grid, 0, 1)]).toEqual([false, true]);
  });
  it("of a log-probability ends at 20 nats", () => {
    const shading = shadingOf(grid, "log p");
    expect([shading.at(0, 0), shading.at(0, 1), shading.ends]).toEqual([0, 0.5, [-20, 0]]);
  });
  it("of other numbers begins at 0, and a missing one has none", () => {
    expect([shadingOf(grid, "entropy").at(0, 1), shadingOf(grid, "entropy").at(0, 0)]).toEqual([1, 0.5]);
    expect(shadingOf(grid, "other").at(0, 0)).toBeNull();
  });
});
