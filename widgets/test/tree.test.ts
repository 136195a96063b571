import { describe, expect, it } from "vitest";
import type { KindForm } from "../src/core/wire";
import { type Notes, noteInside, unpack, visibleRows } from "../src/tree/rows";

// A model with two embeddings, 30 blocks that differ from the 20th on, each with an mlp, and a norm.
const leaf = (number: number): KindForm => [number, "Linear", "", 1, 4, "float32", "cpu", []];
const block = (number: number, name: string): KindForm => [
  number,
  name,
  "",
  1,
  4,
  "float32",
  "cpu",
  [
    ["attn", 0],
    ["mlp", 0],
  ],
];
const tree = unpack({
  root: 4,
  size: 93,
  parameters: 9,
  bytes: 9,
  whole: true,
  kinds: [
    leaf(0),
    block(1, "Block"),
    block(2, "Late"),
    [
      3,
      "ModuleList",
      "",
      1,
      4,
      "float32",
      "cpu",
      [
        ["0", 1, 20],
        ["20", 2, 10],
      ],
    ],
    [
      4,
      "Model",
      "",
      1,
      4,
      "float32",
      "cpu",
      [
        ["embed", 0],
        ["layers", 3],
        ["norm", 0],
      ],
    ],
  ],
});
const NOTES: Notes = {
  "layers.3.mlp": { s: ["h"] },
  "layers.25": { s: ["late"], w: 1 },
  "layers.*.attn": { s: ["ps"] },
  "layers.7.attn": {},
  norm: { w: 1 },
};

function inside(open: string[]): Record<string, unknown> {
  const rows = visibleRows(tree, "model", new Set(open));
  return Object.fromEntries(rows.map((row) => [row.id, noteInside(NOTES, row)]));
}

describe("a row that is closed", () => {
  it("shows what was saved and written inside it", () => {
    expect(inside([""])).toEqual({ "": {}, embed: {}, norm: {}, layers: { s: ["h", "late", "ps"], w: 1 } });
    expect(inside([])).toEqual({ "": { s: ["h", "late", "ps"], w: 1 } });
  });
  it("shows that of its own blocks alone where it stands for some", () => {
    const found = inside(["", "layers"]);
    expect(found["layers"]).toEqual({});
    expect(found["layers.0…19"]).toEqual({ s: ["h", "ps"] });
    expect(found["layers.20…29"]).toEqual({ s: ["late", "ps"], w: 1 });
  });
  it("shows nothing of other modules", () => {
    const found = inside(["", "layers", "layers.0…19", "layers.20…29"]);
    expect(found["layers.3"]).toEqual({ s: ["h", "ps"] });
    expect(found["layers.4"]).toEqual({ s: ["ps"] });
    expect(found["layers.7"]).toEqual({});
    expect(found["layers.25"]).toEqual({ s: ["ps"] });
    expect(found["layers.3.mlp"]).toBeUndefined();
  });
});
