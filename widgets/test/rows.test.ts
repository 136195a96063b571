// Rows of a module tree: which are seen, what they are called, and where a module is.
import { describe, expect, it } from "vitest";
import type { KindForm } from "../src/core/wire";
import { addKinds, ancestors, kindAt, missing, noteOf, unpack, visibleRows, written } from "../src/tree/rows";

const leaf = (number: number, name: string): KindForm => [number, name, "", 2, 8, "float32", "cpu", []];
const KINDS: KindForm[] = [
  leaf(0, "Linear"),
  [
    1,
    "Block",
    "",
    4,
    16,
    "float32",
    "cpu",
    [
      ["attn", 0],
      ["mlp", 0],
    ],
  ],
  [2, "Late", "", 2, 8, "float32", "cpu", [["mlp", 0]]],
  [
    3,
    "ModuleList",
    "",
    30,
    120,
    "float32",
    "cpu",
    [
      ["0", 1, 4],
      ["4", 2],
      ["5", 1, 2],
    ],
  ],
  [4, "ModuleList", "", 12, 48, "float32", "cpu", [["0", 0, 6]]],
  [
    5,
    "Model",
    "",
    44,
    176,
    "float32",
    "cpu",
    [
      ["embed", 0],
      ["layers", 3],
      ["heads", 4],
    ],
  ],
];
const FACTS = { root: 5, size: 30, parameters: 44, bytes: 176, whole: true };
const tree = unpack({ ...FACTS, kinds: KINDS });
const rowsWith = (...open: string[]) => visibleRows(tree, "model", new Set(open));

describe("rows", () => {
  it("are the root alone, until it is opened", () => {
    expect(rowsWith().map(({ label, open, opens }) => [label, open, opens])).toEqual([["model", false, true]]);
  });
  it("are numbered modules of one kind in one, the others by themselves", () => {
    const rows = rowsWith("", "layers");
    expect(rows.map(({ label, count }) => [label, count])).toEqual([
      ["model", 1],
      ["embed", 1],
      ["layers", 1],
      ["[0 … 3]", 4],
      ["[4]", 1],
      ["[5 … 6]", 2],
      ["heads", 6],
    ]);
    expect(rows.map(({ depth }) => depth)).toEqual([0, 1, 1, 2, 2, 2, 1]);
  });
  it("are the modules of a run once it is opened, each by its path", () => {
    const rows = rowsWith("", "layers", "layers.5…6", "layers.6");
    const inside = rows.filter(({ path, id }) => path.startsWith("layers.5") || id.startsWith("layers.6"));
    expect(inside.map(({ id, depth, place, siblings }) => [id, depth, place, siblings])).toEqual([
      ["layers.5…6", 2, 2, 3],
      ["layers.5", 3, 0, 2],
      ["layers.6", 3, 1, 2],
      ["layers.6.attn", 4, 0, 2],
      ["layers.6.mlp", 4, 1, 2],
    ]);
  });
  it("are all modules of a list of one kind, with no row for their run between", () => {
    const labels = rowsWith("", "heads").map(({ label }) => label);
    expect(labels.slice(-6)).toEqual(["[0]", "[1]", "[2]", "[3]", "[4]", "[5]"]);
  });
  it("never open where nothing is below, whatever is said to be open", () => {
    const embed = rowsWith("", "embed").find(({ id }) => id === "embed")!;
    expect([embed.opens, embed.open]).toEqual([false, false]);
  });
  it("tell which kinds have not come, and are whole once they have", () => {
    const partial = unpack({ ...FACTS, kinds: KINDS.slice(5), whole: false });
    const rows = visibleRows(partial, "model", new Set(["", "layers"]));
    expect(missing(partial, rows)).toEqual([0, 3, 4]);
    expect(rows.find(({ id }) => id === "layers")!.opens).toBe(true);
    addKinds(partial, KINDS);
    expect(missing(partial, visibleRows(partial, "model", new Set(["", "layers"])))).toEqual([]);
  });
  it("show signs that would hide or turn a line as what they are", () => {
    const odd = unpack({ ...FACTS, root: 0, kinds: [[0, "A\u202eB", "", 0, 0, "", "", []]] });
    expect(visibleRows(odd, "a\u0000b", new Set())[0].label).not.toContain("\u0000");
    expect(kindAt(odd, "")!.className).not.toContain("\u202e");
  });
});

describe("a module", () => {
  it.each([
    ["", [""]],
    ["embed", [""]],
    ["layers.2", ["", "layers", "layers.0…3"]],
    ["layers.4.mlp", ["", "layers", "layers.4"]],
    ["layers.6.attn", ["", "layers", "layers.5…6", "layers.6"]],
    ["heads.3", ["", "heads"]],
  ])("at %j is seen when these are open", (path, open) => {
    expect(ancestors(tree, path)).toEqual(open);
    expect(rowsWith(...open).map(({ id }) => id)).toContain(path);
  });
  it("that is not there is looked for as far as there is something", () => {
    expect(ancestors(tree, "layers.9.mlp")).toEqual(["", "layers"]);
    expect(ancestors(tree, "nothing.at.all")).toEqual([""]);
  });
  it.each([
    ["", "Model"],
    ["layers", "ModuleList"],
    ["layers.0", "Block"],
    ["layers.3", "Block"],
    ["layers.4", "Late"],
    ["layers.6.mlp", "Linear"],
    ["layers.7", undefined],
    ["layers.00", "Block"],
    ["layers.x", undefined],
    ["embed.weight", undefined],
  ])("at %j is of the kind %s", (path, name) => expect(kindAt(tree, path)?.className).toBe(name));
  it.each([
    ["", {}, "model"],
    ["transformer.h.3.mlp", { "transformer.h": "layers" }, "layers[3].mlp"],
    ["transformer.h.3.mlp", { transformer: "body", "transformer.h": "layers" }, "layers[3].mlp"],
    ["transformer.hh.3", { "transformer.h": "layers" }, "transformer.hh[3]"],
    ["0.weird-name.1", {}, '[0]["weird-name"][1]'],
    ["été.b", {}, "été.b"],
  ])("at %j with the names %j is written as %s", (path, aliases, text) => {
    expect(written(path, aliases as Record<string, string>)).toBe(text);
  });
});

describe("a note", () => {
  it("about all modules at such a place holds for each that has none of its own", () => {
    const notes = { "layers.*.mlp": { o: "all" }, "layers.3.mlp": { o: "third" }, "*.x.*": { o: "two" } };
    expect(["layers.3.mlp", "layers.4.mlp", "layers.mlp", "0.x.7"].map((path) => noteOf(notes, path).o)).toEqual([
      "third",
      "all",
      undefined,
      "two",
    ]);
  });
  it("about neighbouring numbers holds for both", () => {
    expect(noteOf({ "a.*.*.b": { o: "1" } }, "a.0.1.b")).toEqual({ o: "1" });
  });
});
