// Cells that JupyterLab's panel writes.
import { expect, it } from "vitest";
import type { Told } from "../lab/src/told";
import { patched, read, variableOf, zeroed } from "../lab/src/written_cells";

const told = { models: [{ name: "model", title: "demo" }], model: "model", prompt: '"a {{b}}"' } as Told;

it("have the last prompt, and the model where there are several", () => {
  expect(read(told, "layers[3].mlp")).toBe('%%trace "a {{b}}"\nlayers_3_mlp_out = layers[3].mlp.output');
  expect(zeroed(told, "unembed")).toBe('%%trace "a {{b}}"\nunembed.output[:] = 0');
  const two = { ...told, models: [...told.models, { name: "other", title: "demo" }], model: "other" };
  expect(read(two, "model")).toBe('%%trace "a {{b}}" -m other\nmodel_out = logits');
});

it("patch from a second prompt", () => {
  expect(patched(told, "layers[3]").split("\n")).toEqual([
    '%%trace clean="a {{b}}" corrupt="a {{b}}"',
    "corrupt.layers[3].output[:, -1] = clean.layers[3].output[:, -1]",
  ]);
});

it("name variables as Python can", () => {
  expect(["layers[3].mlp", "[0]", 'model["a-b"]', "model"].map(variableOf)).toEqual([
    "layers_3_mlp",
    "_0",
    "model_a_b",
    "model",
  ]);
});
