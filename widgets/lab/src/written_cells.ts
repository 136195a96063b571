// Cells that the panel writes.
import type { Told } from "./told";

const PROMPT = '"The Eiffel Tower is in the city of"';

/** The first line: the last prompt, and the model where there are several. */
function head(told: Told, prompts = told.prompt || PROMPT): string {
  const model = told.models.length > 1 ? ` -m ${told.model}` : "";
  return `%%trace ${prompts}${model}`;
}

const place = (name: string) => (name === "model" ? "logits" : `${name}.output`);

/** `layers[3].mlp` as the name of a variable: `layers_3_mlp`. */
export function variableOf(name: string): string {
  return (
    name
      .replace(/[^\p{L}\p{N}_]+/gu, "_")
      .replace(/^_+|_+$/g, "")
      .replace(/^(?=\d)/, "_") || "h"
  );
}

export const read = (told: Told, name: string) => `${head(told)}\n${variableOf(name)}_out = ${place(name)}`;

export const zeroed = (told: Told, name: string) => `${head(told)}\n${place(name)}[:] = 0`;

/** Two prompts: the one that is changed, and the one that it is changed to. */
export function patched(told: Told, name: string): string {
  const base = told.prompt || PROMPT;
  const at = `${place(name)}[:, -1]`;
  return `${head(told, `clean=${base} corrupt=${base}`)}\ncorrupt.${at} = clean.${at}`;
}

/** Cells to begin with, by the magic that they have. */
export const begun = {
  trace: (told: Told | null) => `${began(told, "trace")}\nh = layers[0].output`,
  generate: (told: Told | null) => `${began(told, "generate")} -n 20\nfor step in steps:\n    h = layers[0].output`,
  sweep: (told: Told | null) =>
    `${began(told, "sweep")}\nfor layer in grid(layer=layers):\n    layers[layer].mlp.output[:, -1] = 0\n    top = logits[0, -1].softmax(-1).max()`,
};

const began = (told: Told | null, magic: string) =>
  (told ? head(told) : `%%trace ${PROMPT}`).replace("%%trace", `%%${magic}`);
