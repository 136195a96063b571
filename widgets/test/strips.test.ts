import { describe, expect, it } from "vitest";
import { limitsOf, mostRows, together } from "../src/tokens/strips";

const guess = (token: string, p: number) => ({ token, p });

describe("two predictions together", () => {
  it("list the first in order with the second beside it, however unlikely there", () => {
    const rows = together([guess("a", 0.5), guess("b", 0.1)], [guess("c", 0.6), guess("b", 0.01)]);
    expect(rows).toEqual([
      { token: "a", now: 0.5, clean: null },
      { token: "b", now: 0.1, clean: 0.01 },
      { token: "c", now: null, clean: 0.6 },
    ]);
  });
  it("add only the best of the second, in whatever order it comes", () => {
    const clean = [guess("w", 0.1), guess("x", 0.2), guess("y", 0.3), guess("z", 0.05)];
    expect(together([], clean, 2).map(({ token }) => token)).toEqual(["y", "x"]);
  });
});

describe("limits of numbers", () => {
  it("are around zero where signs differ, from zero where not, and skip what is no number", () => {
    expect(limitsOf([-1, null, 3])).toEqual([-3, 3]);
    expect(limitsOf([2, null])).toEqual([0, 2]);
    expect(limitsOf([null])).toEqual([0, 1]);
  });

  it("take what rounding left below zero for zero", () => {
    expect(limitsOf([-1e-9, 0.57])).toEqual([0, 0.57]);
    expect(limitsOf([-0.2, 0.57])).toEqual([-0.57, 0.57]);
  });

  it("are no closer than they are to be", () => {
    expect(limitsOf([0, 0.004], 0.1)).toEqual([0, 0.1]);
    expect(limitsOf([0, 0.4], 0.1)).toEqual([0, 0.4]);
  });
});

describe("the room for bars", () => {
  it("is that of the position with most candidates, with and without the writes together", () => {
    const strip = {
      name: "",
      tokens: ["x", "y"],
      numbers: {},
      generated: 0,
      heads: ["with writes", "without"] as [string, string],
      top: [[guess("a", 0.5)], [guess("a", 0.5), guess("b", 0.2)]],
      clean: [[guess("a", 0.5)], [guess("c", 0.4)]],
    };
    expect(mostRows(strip)).toBe(3);
    expect(mostRows({ ...strip, top: [], clean: [] })).toBe(0);
  });
});
