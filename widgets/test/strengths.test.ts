import { expect, test } from "vitest";
import { nearest, rangeOf, textOf } from "../src/written/strengths";

test("the nearest strength, the first of equals", () => {
  expect(nearest([0, 0.1, 0.2], 0.16)).toBe(2);
  expect(nearest([0, 0.1, 0.2], 0.05)).toBe(0);
  expect(nearest([-2, 0], -9)).toBe(0);
});

test("the slider goes over all strengths and 0", () => {
  expect(rangeOf([0.1, 0.4])).toEqual({ min: 0, max: 0.4, step: 0.001 });
  expect(rangeOf([-8, 0, 8])).toMatchObject({ min: -8, max: 8, step: 0.1 });
  expect(rangeOf([0])).toMatchObject({ min: 0, max: 1 });
});

test("a strength has no tail of a binary fraction", () => {
  expect(textOf(0.1 + 0.2)).toBe("0.3");
  expect(textOf(-4)).toBe("−4");
});
