// No circle among the imports of src/, those of types included: a file can be understood, and tested,
// with what stands below it.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { circlesIn, importsOf } from "./imports.mjs";

const WIDGETS = resolve(dirname(fileURLToPath(import.meta.url)), "..");

/** The texts of the files below a folder, by their names from widgets/ on. */
function textsOf(folder) {
  const files = readdirSync(join(WIDGETS, folder), { recursive: true }).filter((name) => /\.tsx?$/.test(name));
  return files.map((name) => [join(folder, name), readFileSync(join(WIDGETS, folder, name), "utf8")]);
}

it("finds a circle, over types, several lines and files named with their end", () => {
  const texts = new Map([
    ["a.ts", 'import {\n  b,\n} from "./in/b";'],
    ["in/b.tsx", 'export type { C } from "../c.ts";'],
    ["c.ts", 'import type { A } from "./a";'],
    ["d.ts", 'import "./a";'],
  ]);
  expect(circlesIn(importsOf(texts))).toEqual([["a.ts", "in/b.tsx", "c.ts", "a.ts"]]);
});

const imports = importsOf(new Map([...textsOf("src"), ...textsOf("lab/src")]));

it("finds none in the views and in JupyterLab's panel", () => {
  expect([...imports.values()].flat().length).toBeGreaterThan(70);
  expect(circlesIn(imports)).toEqual([]);
});

it("finds that the panel is drawn with the views, which do not know it", () => {
  const across = [...imports].flatMap(([name, used]) =>
    used.map((each) => [name.startsWith("lab/"), each.startsWith("lab/")]),
  );
  expect(across).toContainEqual([true, false]);
  expect(across).not.toContainEqual([false, true]);
});
