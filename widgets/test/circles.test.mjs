// No circle among the imports of src/, those of types included: a file can be understood, and tested,
// with what stands below it.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const SRC = resolve(dirname(fileURLToPath(import.meta.url)), "../src");
const IMPORT = /^(?:import|export)\b[^"';]*?from\s*["'](\.[^"']*)["']|^import\s*["'](\.[^"']*)["']|\bimport\(\s*["'](\.[^"']*)["']/gm;

/** What each of the files imports, by names of files. */
export function importsOf(texts) {
  return new Map([...texts].map(([name, text]) => {
    const found = [...text.matchAll(IMPORT)].map((match) => join(dirname(name), match[1] ?? match[2] ?? match[3]));
    return [name, found.flatMap((each) => [each, `${each}.ts`, `${each}.tsx`].filter((file) => texts.has(file)))];
  }));
}

/** Circles, each as the files in it, the first again at the end. */
export function circlesIn(imports) {
  const [circles, done] = [[], new Set()];
  const visit = (name, path) => {
    if (path.includes(name)) circles.push([...path.slice(path.indexOf(name)), name]);
    else if (!done.has(name)) {
      for (const each of imports.get(name) ?? []) visit(each, [...path, name]);
      done.add(name);
    }
  };
  for (const name of imports.keys()) visit(name, []);
  return circles;
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

it("finds none in the views", () => {
  const files = readdirSync(SRC, { recursive: true }).filter((name) => /\.tsx?$/.test(name));
  const texts = new Map(files.map((name) => [relative(SRC, join(SRC, name)), readFileSync(join(SRC, name), "utf8")]));
  const imports = importsOf(texts);
  expect([...imports.values()].flat().length).toBeGreaterThan(50);
  expect(circlesIn(imports)).toEqual([]);
});
