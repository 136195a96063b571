// The states and answers of every kind of view, which tests/views/every_kind.py makes, as this end reads them.
import { describe, expect, it } from "vitest";
import { doublesOf, inflate } from "../src/core/kernel";
import { valueOfCode } from "../src/tensor/picture";
import { fromStored, type Place, received } from "../src/tensor/planes";
import { unpackGrid } from "../src/tokens/cells";
import { unpackStrips } from "../src/tokens/strips";
import { addKinds, kindAt, noteInside, noteOf, unpack, visibleRows } from "../src/tree/rows";
import { ANSWERS, models, STATES } from "./stored";

describe("a view", () => {
  it("finds the views that it refers to, and their selection", async () => {
    const all = await models();
    const references = Object.values(STATES).flatMap((state) => Object.values(state).flat());
    const named = references.filter((each) => typeof each === "string" && each.startsWith("IPY_MODEL_"));
    expect(new Set(named)).toContain("IPY_MODEL_selection");
    const parts = named.map((each) => each.slice("IPY_MODEL_".length));
    expect(
      parts.filter((id) => !all.has(id) && !["first", "map", "second", "difference", "large"].includes(id)),
    ).toEqual([]);
  });
});

describe("what is stored", () => {
  it("of a tensor is its values, in the order that is asked for", async () => {
    const model = (await models()).get("tensor")!;
    const codes = await inflate(model.get("codes"));
    const stored = { codes, levels: doublesOf(await inflate(model.get("levels"))) };
    const place: Place = { drawn: [0, 1], index: [0, 0], part: "real", ordered: false };
    const shape = model.get("about").shape;
    const values = (found: ReturnType<typeof fromStored>) =>
      Array.from(found!.picture.low, (code) => valueOfCode(stored.levels, code));
    expect(values(fromStored(model.get("stored"), stored, shape, place))).toEqual([0, 1, 2, 4]);
    expect(values(fromStored(model.get("stored"), stored, shape, { ...place, drawn: [1, 0] }))).toEqual([0, 2, 1, 4]);
    const ordered = fromStored(model.get("stored"), stored, shape, { ...place, ordered: true });
    expect([values(ordered), ordered!.order]).toEqual([
      [1, 0, 4, 2],
      [1, 0],
    ]);
    expect(fromStored(model.get("stored"), stored, shape, { ...place, part: "imag" })).toBeNull();
    expect(fromStored(model.get("stored"), stored, [2, 3], place)).toBeNull();
    expect(fromStored(model.get("stored"), null, shape, place)).toBeNull();
  });
  it("of prompts and grids is their tokens and guesses", async () => {
    const all = await models();
    const packed = async (kind: string) =>
      JSON.parse(new TextDecoder().decode(await inflate(all.get(kind)!.get("packed"))));
    const [strip] = unpackStrips(await packed("tokens"));
    expect([strip.tokens, strip.top[1], strip.clean[0]]).toEqual([
      ["a", "b"],
      [{ token: "c", p: 0.25 }],
      [{ token: "b", p: 0.5 }],
    ]);
    expect(strip.numbers["KL"]).toEqual([0, 0.5]);
    expect(all.get("tokens")!.get("coloured") in strip.numbers).toBe(true);
    expect(unpackGrid(await packed("grid")).cells[0][1]).toEqual([{ token: "c", p: 0.75 }]);
    const tree = unpack(await packed("tree"));
    const [root] = visibleRows(tree, all.get("tree")!.get("title"), new Set());
    expect(noteInside(all.get("tree")!.get("notes"), root)).toEqual({ s: ["h"], w: 1 });
    expect(noteOf(all.get("tree")!.get("notes"), "0")).toEqual({ o: "(1, 2)" });
  });
});

describe("an answer", () => {
  it("with a plane is a picture, and the columns that it shows", () => {
    const { info, buffers } = ANSWERS["plane"];
    const bytes = [Float64Array.from(buffers[0]), Uint8Array.from(buffers[1]), Int32Array.from(buffers[2])];
    const picture = received({ info, buffers: bytes.map((each) => new Uint8Array(each.buffer)) })!;
    expect(Array.from(picture.low, (code) => valueOfCode(picture.levels, code))).toEqual([1, 0, 4, 2]);
    expect(Array.from(picture.order!)).toEqual([1, 0]);
  });
  it("with a plane of which a part is missing is no picture", () => {
    const { info } = ANSWERS["plane"];
    expect(received({ info, buffers: [] })).toBeNull();
    expect(received({ info, buffers: [new Uint8Array(8), new Uint8Array(3)] })).toBeNull();
    expect(received({ info: {}, buffers: [new Uint8Array(8), new Uint8Array(4)] })).toBeNull();
  });
  it("with kinds of modules makes their rows whole", () => {
    const { kinds, ...facts } = STATES["tree"]["packed"];
    const tree = unpack({ ...facts, kinds: kinds.slice(0, 2), whole: false });
    expect(kindAt(tree, "1")).toBeUndefined();
    addKinds(tree, ANSWERS["kinds"].info.kinds);
    expect(kindAt(tree, "1")!.className).toBe("Doubled");
  });
});
