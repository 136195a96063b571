// What the kernel sends is what this end reads: tests/views/test_wire.py makes the same forms from `given`.
import { describe, expect, it } from "vitest";
import { automatic } from "../src/core/colour";
import type {
  About,
  AxisState,
  GridForm,
  NoteForm,
  Statistics,
  StepForm,
  StoredPicture,
  StripForm,
  TextsForm,
  TreeForm,
} from "../src/core/wire";
import { unpackSteps } from "../src/steps/steps";
import { placed, wordAt } from "../src/tensor/labels";
import { unpackGrid } from "../src/tokens/cells";
import { unpackStrips } from "../src/tokens/strips";
import { noteOf, unpack, visibleRows } from "../src/tree/rows";
import fixtures from "./fixtures/wire.json";

describe("what the kernel sends", () => {
  it("of prompts is read as tokens with their guesses", () => {
    const { wire, shown } = fixtures.StripForm;
    expect(unpackStrips([wire as unknown as StripForm])).toEqual([shown]);
  });
  it("of a lens grid is read as the guesses of each place", () => {
    const { wire, shown } = fixtures.GridForm;
    expect(unpackGrid(wire satisfies GridForm)).toEqual(shown);
  });
  it("of a generation is read as steps with their candidates", () => {
    const { wire, shown } = fixtures.StepForm;
    expect(unpackSteps([wire as StepForm])).toEqual([shown]);
  });
  it("of two texts is their columns", () => {
    const texts = fixtures.TextsForm.wire as TextsForm;
    expect(texts.columns.map(([first]) => first).join("")).toBe(fixtures.TextsForm.given.first.join(""));
  });
  it("of modules is read as rows, alike ones from a run", () => {
    const { wire, shown } = fixtures.TreeForm;
    const rows = visibleRows(unpack(wire as TreeForm), "model", new Set(["", "0"]));
    expect(rows.map(({ label }) => label)).toEqual(shown);
  });
  it("of notes is found by a module's path", () => {
    const note = fixtures.NoteForm.wire as NoteForm;
    expect(noteOf({ "layers.*.mlp": note }, "layers.3.mlp")).toBe(note);
  });
  it("of a tensor tells its facts, its axes and how it is coloured", () => {
    const { about, axes, stored, stats, limits } = fixtures.TensorState;
    const [facts, picture] = [about satisfies About, stored as StoredPicture];
    expect(facts.shape).toHaveLength(picture.axes!.length);
    expect(wordAt(placed(axes satisfies AxisState[], [0, 1], [0, 0]), 0, [1, 0])).toBe("b");
    expect(automatic(stats as Statistics, [2, 2]).limits).toEqual(limits);
  });
});
