// Fuzzy search in a module tree.
import { describe, expect, it } from "vitest";
import type { KindForm } from "../src/core/wire";
import { unpack } from "../src/tree/rows";
import { fuzzy, search } from "../src/tree/search";

const leaf = (number: number, name: string): KindForm => [number, name, "", 1, 4, "", "", []];
const tree = unpack({
  root: 5,
  size: 200,
  parameters: 1,
  bytes: 4,
  whole: true,
  kinds: [
    leaf(0, "Linear"),
    leaf(1, "LayerNorm"),
    [
      2,
      "Attention",
      "",
      1,
      4,
      "",
      "",
      [
        ["q_proj", 0],
        ["o_proj", 0],
      ],
    ],
    [
      3,
      "Block",
      "",
      1,
      4,
      "",
      "",
      [
        ["attn", 2],
        ["mlp", 0],
        ["norm", 1],
      ],
    ],
    [4, "ModuleList", "", 1, 4, "", "", [["0", 3, 12]]],
    [
      5,
      "Model",
      "",
      1,
      4,
      "",
      "",
      [
        ["embed", 0],
        ["layers", 4],
        ["norm", 1],
      ],
    ],
  ],
});
const paths = (query: string, most?: number) => search(tree, query, most).map(({ path }) => path);

describe("letters", () => {
  it("fit where they stand in their order, and nowhere else", () => {
    expect(fuzzy("lm", "layers.mlp")).not.toBeNull();
    expect(fuzzy("ml", "layers.mlp")!.letters).toEqual([7, 8]);
    expect(fuzzy("mm", "layers.mlp")).toBeNull();
    expect(fuzzy("abc", "")).toBeNull();
  });
  it("are those that are marked", () => {
    for (const [query, text] of [
      ["l3a", "layers.3.attn"],
      ["qproj", "layers.3.attn.q_proj"],
      ["norm", "norm"],
    ]) {
      const { letters } = fuzzy(query, text)!;
      expect(letters.map((at) => text[at]).join("")).toBe(query);
      expect([...letters].sort((a, b) => a - b)).toEqual(letters);
    }
  });
  it("fit best together, then at the beginning of words", () => {
    const score = (text: string) => fuzzy("norm", text)!.score;
    expect(score("layers.norm")).toBeGreaterThan(score("layers.norm.weight"));
    expect(score("a.norms")).toBeGreaterThan(score("a.xnorms"));
    expect(score("a.xnorms")).toBeGreaterThan(score("n.o.r.m"));
    expect(score("n.o.r.m")).toBeGreaterThan(score("xnxoxrxm"));
  });
});

describe("search", () => {
  it("finds a module by its path, the shortest first", () => {
    expect(paths("norm")[0]).toBe("norm");
    expect(paths("mlp")).toEqual(Array.from({ length: 12 }, (_, k) => `layers.${k}.mlp`));
  });
  it("takes brackets and blanks as they are typed", () => {
    expect(paths("layers[11].attn")[0]).toBe("layers.11.attn");
    expect(paths("Layers 11 MLP")[0]).toBe("layers.11.mlp");
  });
  it("finds modules by their class, with no letters of the path", () => {
    const hits = search(tree, "attention");
    expect(hits.map(({ path }) => path)).toEqual(Array.from({ length: 12 }, (_, k) => `layers.${k}.attn`));
    expect(hits.every(({ letters }) => letters.length === 0)).toBe(true);
  });
  it("gives as many as are asked for, and none for nothing", () => {
    expect(paths("mlp", 3)).toHaveLength(3);
    expect([paths(""), paths("   "), paths("zzz")]).toEqual([[], [], []]);
  });
  it("goes through a tree of which not all kinds have come", () => {
    const partial = unpack({ root: 5, size: 200, parameters: 1, bytes: 4, whole: false, kinds: [] });
    expect(search(partial, "norm")).toEqual([]);
  });
});
