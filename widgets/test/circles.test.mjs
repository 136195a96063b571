// No circle among the imports of src/, those of types included: a file can be understood, and tested,
// with what stands below it.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { circlesIn, importsOf } from "./imports.mjs";

const SRC = resolve(dirname(fileURLToPath(import.meta.url)), "../src");

it("finds a circle, over types, several lines and files named with their end", () => {
  const texts = new Map([
    ["a.ts", 'import {\n  b,\n} from "./in/b";'],
    ["in/b.tsx", 'export type { C } from "../c.ts";'],
    ["c.ts", 'import type { A } from "./a";'],
    ["d.ts", 'import "./a";'],
  ]);
  expect(circlesIn(importsOf(texts))).toEqual([["a.ts", "in/b.tsx", "c.ts", "a.ts"]]);
});

it("finds none in the views", () => {
  const files = readdirSync(SRC, { recursive: true }).filter((name) => /\.tsx?$/.test(name));
  const texts = new Map(files.map((name) => [relative(SRC, join(SRC, name)), readFileSync(join(SRC, name), "utf8")]));
  const imports = importsOf(texts);
  expect([...imports.values()].flat().length).toBeGreaterThan(50);
  expect(circlesIn(imports)).toEqual([]);
});
