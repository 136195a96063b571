// Points by their rank, their words and their places; where a new cell goes; bars.
import { describe, expect, it } from "vitest";
import cases from "../../tests/views/bars.json";
import { insertBelow } from "../src/core/cell";
import type { Model } from "../src/core/widget";
import { barOf, inPlane, inWords } from "../src/points/ranked";
import { barred, heightOf, reachOf } from "../src/tensor/bars";
import { numbered } from "../src/tensor/following";
import { type Axis, numberAt } from "../src/tensor/labels";

const LAYER: Axis = { role: "layer", size: 2, labels: ["3", "20"] };
const POSITION: Axis = { role: "position", size: 2, labels: ["0 The", "1 ·Tower"] };
const HEAD: Axis = { role: "head", size: 3, labels: [] };

describe("a point", () => {
  it("is called by what stands at its places", () => {
    expect(inWords([LAYER, POSITION], [1, 1])).toBe("layer 20, position 1 ·Tower");
    expect(inWords([LAYER, HEAD], [0, 2])).toBe("layer 3, head 2");
  });
  it("lies in the plane that is drawn, or in another", () => {
    expect(inPlane([1, 0, 2], [0, 2], [0, 0, 0])).toEqual([1, 2]);
    expect(inPlane([1, 1, 2], [0, 2], [0, 0, 0])).toBeNull();
    expect(inPlane([4], [-1, 0], [0])).toEqual([0, 4]);
  });
  it("selects a layer by its number, wherever that stands", () => {
    expect([numberAt(LAYER, 1), numberAt(POSITION, 1), numberAt(HEAD, 2)]).toEqual([20, 1, 2]);
    expect([numbered(LAYER, 20), numbered(LAYER, 1), numbered(HEAD, 2), numbered(HEAD, 3)]).toEqual([1, null, 2, null]);
  });
  it("has a bar by its size, to one side or the other", () => {
    expect(barOf(-1, [2, -1, null])).toEqual({ share: 0.5, above: false });
    expect(barOf(null, [null])).toEqual({ share: 0, above: true });
  });
});

describe("bars", () => {
  it.each(cases.reach)("reach from 0 on, or as was chosen: %j", ({ stats, limits, ends }) => {
    expect(reachOf(stats, limits)).toEqual(ends);
  });
  it.each(cases.barred)("are drawn of one axis with few places: %j", ({ drawn, size, bars }) => {
    expect(barred(drawn as [number, number], size as [number, number])).toBe(bars);
  });
  it("are as high as their values", () => {
    expect([-1, 0, 3, 9].map((value) => heightOf(value, [-1, 3], 10, 100))).toEqual([110, 85, 10, 10]);
  });
});

describe("a new cell", () => {
  const element = (number: string | null) =>
    ({
      closest: (what: string) =>
        what === ".jp-Cell" ? element(number) : number === null ? null : { getAttribute: () => number },
    }) as unknown as Element;
  it("stands below the view's own", () => {
    const added: unknown[] = [];
    const sharedModel = { cells: [1, 2, 3], insertCell: (at: number, cell: unknown) => added.push([at, cell]) };
    const model = { widget_manager: { context: { model: { sharedModel } } } } as unknown as Model;
    expect(insertBelow(model, element("1"), "x")).toBe(true);
    expect(added).toEqual([[2, { cell_type: "code", source: "x" }]]);
  });
  it("is left to the clipboard where nobody can add one", () => {
    expect(insertBelow({ widget_manager: {} } as unknown as Model, element("1"), "x")).toBe(false);
  });
});
