import { describe, expect, it } from "vitest";
import { layoutOf, pan, plotSize, revealing, ticks, valueUnder, zoom } from "../src/tensor/viewport";
import { CASES } from "./cases";

describe("zoom", () => {
  it("keeps the place it is about", () => {
    expect(zoom([0, 100, 0, 100], [100, 100], 0.5, [50, 50])).toEqual([25, 75, 25, 75]);
    expect(zoom([0, 100, 0, 100], [100, 100], 0.5, [0, 99])).toEqual([0, 50, 50, 100]);
  });
  it("never leaves the plane and never gets empty", () => {
    expect(zoom([25, 75, 25, 75], [100, 100], 10, [50, 50])).toEqual([0, 100, 0, 100]);
    expect(zoom([5, 6, 5, 6], [100, 100], 0.5, [5, 5])).toEqual([5, 6, 5, 6]);
  });
});

describe("pan", () => {
  it("stops at the edges", () => {
    expect(pan([0, 10, 0, 10], [20, 20], -5, 30)).toEqual([0, 10, 10, 20]);
  });
  it("moves as little as shows a value", () => {
    expect(revealing([0, 10, 0, 10], [20, 20], 12, 3)).toEqual([3, 13, 0, 10]);
  });
});

describe("ticks", () => {
  it("are round and not too many", () => {
    expect(ticks(0, 576, 800, 40)).toEqual([0, 50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 550]);
    expect(ticks(0, 9, 200, 13)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    expect(ticks(7, 8, 5, 40)).toEqual([7]);
  });
});

describe("plotSize", () => {
  it.each(CASES.sizes)("fits: $why", ({ room, tallest, size, plot }) => {
    expect(plotSize(room, tallest, size as [number, number])).toEqual(plot);
  });
});

describe("layoutOf", () => {
  const labels = { left: 40, bottom: 20 };
  it("gives planes of like sides square values", () => {
    const layout = layoutOf(800, [64, 64], labels, false);
    expect(layout.width).toBe(layout.height);
  });
  it("fits any plane into the width", () => {
    for (const size of [
      [1, 100_000],
      [100_000, 1],
      [4096, 4096],
      [1, 1],
      [9, 576],
    ] as [number, number][]) {
      const layout = layoutOf(500, size, labels, false);
      expect(layout.total[0]).toBeLessThanOrEqual(500);
      expect(layout.total[1]).toBeLessThanOrEqual(440);
    }
  });
  it("finds the value under a point", () => {
    const layout = layoutOf(800, [10, 10], labels, false);
    expect(valueUnder(layout, [0, 10, 0, 10], layout.left + 1, layout.top + layout.height - 1)).toEqual([9, 0]);
    expect(valueUnder(layout, [0, 10, 0, 10], layout.left - 1, layout.top)).toBeNull();
  });
});
