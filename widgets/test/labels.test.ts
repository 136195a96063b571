// The words at the places of a batch's axes.
import { expect, test } from "vitest";
import { type Axis, ofTokens, PADDING, padding, placed, wordAt } from "../src/tensor/labels";

const rows = [
  ["The", " cat"],
  [PADDING, "A"],
];
const axes: Axis[] = [
  { role: "batch", size: 2, labels: [] },
  { role: "token", size: 2, labels: rows[0], rows, along: 0 },
  { role: "feature", size: 8, labels: [], rows: [], along: -1 },
];

test("words are those of the prompt that is looked at", () => {
  expect(placed(axes, [1, 2], [0, 0, 0])[1].labels).toEqual(rows[0]);
  expect(placed(axes, [1, 2], [1, 0, 0])[1].labels).toEqual(rows[1]);
  expect(wordAt(axes, 1, [1, 1, 0])).toBe("A");
  expect(wordAt(axes, 2, [1, 1, 0])).toBeUndefined();
});

test("where several prompts are drawn at once the axis has no words, and every place has its own", () => {
  expect(placed(axes, [0, 1], [0, 0, 0])[1].labels).toEqual([]);
  expect(wordAt(axes, 1, [0, 1, 0])).toBe(" cat");
});

test("a prompt's tokens are counted from behind its padding", () => {
  expect(placed(axes, [1, 2], [1, 0, 0]).map(padding)).toEqual([0, 1, 0]);
  expect(placed(axes, [1, 2], [1, 0, 0]).map(ofTokens)).toEqual([false, true, false]);
});
