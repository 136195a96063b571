// What stands around a plane: its window, words and name, and where keys, tokens and the pointer lead.
import { describe, expect, it } from "vitest";
import { followed, placeOf, tokenAt } from "../src/tensor/following";
import { type Axis, PADDING } from "../src/tensor/labels";
import { pathAt, roughly } from "../src/tensor/readout";
import { fitting, labelsOf, marksIn, roomFor, titleOf } from "../src/tensor/scene";

const axis = (role: string, size: number, labels: string[] = []): Axis => ({ role, size, labels });
const AXES = [axis("step", 5), axis("head", 9), axis("token", 3, [PADDING, "a", "b"]), axis("axis", 4)];

describe("a window", () => {
  it("is the trait's where that fits, else everything", () => {
    expect(fitting([1, 2, 0, 4], [3, 4])).toEqual([1, 2, 0, 4]);
    for (const odd of [[], [1, 2], [2, 1, 0, 4], [0, 4, 0, 4], [-1, 2, 0, 4], [0, 3, 0, 5], [0, 3, 2, 2]])
      expect(fitting(odd, [3, 4])).toEqual([0, 3, 0, 4]);
  });
});

describe("words", () => {
  it("are those of the axes that are drawn, by their roles", () => {
    expect(labelsOf(AXES, [2, 3], false, null)).toEqual({
      rows: [PADDING, "a", "b"],
      columns: [],
      names: ["token", "axis 3"],
    });
    expect(labelsOf(AXES, [-1, 2], false, null)).toEqual({
      rows: [],
      columns: [PADDING, "a", "b"],
      names: ["", "token"],
    });
  });
  it("of columns by their norm are what stands there, once that is known", () => {
    expect(labelsOf(AXES, [3, 2], true, [2, 0, 1]).columns).toEqual(["b", PADDING, "a"]);
    expect(labelsOf(AXES, [2, 3], true, [3, 1]).columns).toEqual(["3", "1"]);
    expect(labelsOf(AXES, [2, 3], true, [3, 1]).names[1]).toBe("axis 3, by norm");
    expect(labelsOf(AXES, [2, 3], true, null).names[1]).toBe("");
  });
  it("have room beside the plane, longer ones more, none where nothing is named", () => {
    const room = (rows: string[]) => roomFor({ rows, columns: [], names: ["token", "feature"] }, [3, 9], false);
    expect(room(["a long word"]).left).toBeGreaterThan(room(["a"]).left);
    expect(room(["x".repeat(500)]).left).toBe(room(["x".repeat(12)]).left);
    expect(roomFor({ rows: [], columns: [], names: ["", ""] }, [1, 1], false)).toEqual({ left: 4, bottom: 4 });
  });
  it("of a picture's name tell the place on axes that are not drawn and have more than one", () => {
    expect(titleOf("x", AXES, [2, 3], [4, 7, 0, 0])).toBe("x (5, 9, 3, 4), step 4, head 7");
    expect(titleOf("x", [axis("axis", 2), axis("head", 1), axis("token", 3)], [2, -1], [1, 0, 0])).toBe(
      "x (2, 1, 3), axis 0 1",
    );
  });
  it("tell how many values are no numbers, or that there are some", () => {
    expect(marksIn({ count: 3, nan: 2 }, "nan", "NaN")).toBe("2 NaN");
    expect(marksIn({ count: 3, some: ["inf"] }, "inf", "±∞")).toBe("±∞");
    expect(marksIn({ count: 3 }, "nan", "NaN")).toBe("");
  });
});

describe("a selected token", () => {
  it("is found behind the padding of an axis of tokens, and on no other", () => {
    expect([placeOf(0, AXES[2]), placeOf(1, AXES[2]), placeOf(2, AXES[2])]).toEqual([1, 2, null]);
    expect([placeOf(0, AXES[3]), placeOf(-1, AXES[2]), placeOf(0, undefined)]).toEqual([null, null, null]);
  });
  it("is what is selected by a click at its place", () => {
    expect([tokenAt(AXES, [2, 3], [1, 0]), tokenAt(AXES, [3, 2], [0, 2])]).toEqual([0, 1]);
    expect([tokenAt(AXES, [2, 3], [0, 0]), tokenAt(AXES, [0, 1], [1, 1])]).toEqual([-1, -1]);
  });
});

describe("a selected step or head", () => {
  const selected = (step: number, head: number) => (role: "step" | "head" | "layer") => (role === "step" ? step : head);
  it("is the place on its axis, unless that is drawn or has no such place", () => {
    expect(followed(selected(2, 3), AXES, [2, 3], [0, 0, 1, 1])).toEqual([2, 3, 1, 1]);
    expect(followed(selected(2, 3), AXES, [0, 2], [0, 0, 1, 1])).toEqual([0, 3, 1, 1]);
    expect(followed(selected(9, -1), AXES, [2, 3], [4, 4, 1, 1])).toEqual([4, 4, 1, 1]);
  });
});

describe("what is pointed at", () => {
  it("has the path of the plane, with its row and column", () => {
    expect(pathAt([1, 2], [2, 3], [4, 7, 0, 0], null)).toEqual([4, 7, 1, 2]);
    expect(pathAt([0, 2], [-1, 2], [4, 7, 0, 0], null)).toEqual([4, 7, 2, 0]);
    expect(pathAt([1, 0], [2, 3], [4, 7, 0, 0], Int32Array.of(3, 1))).toEqual([4, 7, 1, 3]);
  });
  it("is about a number, or between two", () => {
    expect([roughly([0.5, 0.5]), roughly([-1, 2])]).toEqual(["≈ 0.5", "−1 … 2"]);
  });
});
