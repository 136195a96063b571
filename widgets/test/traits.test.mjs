// What the front end reads of a view's state, and asks of the kernel, is what test/fixtures/views.json has.
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import fixtures from "./fixtures/views.json";

const { states: STATES, answers: ANSWERS } = fixtures;
const SRC = new URL("../src/", import.meta.url);
const textOf = (name) => readFileSync(new URL(name, SRC), "utf8");
const FILES = readdirSync(SRC, { recursive: true }).filter((name) => /\.tsx?$/.test(name));
const ALL = FILES.map(textOf).join("\n");
// The files of each kind, and the traits that they read of views inside of them.
const READ_BY = {
  tensor: FILES.filter((name) => name.startsWith("tensor/")),
  tree: FILES.filter((name) => name.startsWith("tree/")),
  compare: ["compare/compare.tsx"],
  tokens: ["tokens/tokens.tsx"],
  grid: ["tokens/grid.tsx", "core/as_cell.tsx"],
  heads: ["heads/heads.tsx", "heads/strip.tsx", "core/as_cell.tsx"],
  points: ["points/points.tsx", "core/as_cell.tsx"],
  steps: ["steps/steps.tsx"],
  trace: ["trace/trace.tsx"],
};
const OF_ITS_PARTS = ["kind", "title", "module", "about", "expression", "first", "difference"];
const ON_PAGES_ALONE = ["spelled"];

const TRAIT = /useTrait(?:<[^(]*>)?\(\s*model,\s*"(\w+)"|\b(?:model|shown)\.(?:get|set)\(\s*"(\w+)"/g;
const traitsIn = (text) => [...text.matchAll(TRAIT)].map((match) => match[1] ?? match[2]);

describe("a view", () => {
  it.each(Object.keys(READ_BY))("of the kind %s reads nothing that the kernel does not send", (kind) => {
    const read = READ_BY[kind].flatMap((name) => traitsIn(textOf(name)));
    expect(read.length).toBeGreaterThan(1);
    const sent = [...Object.keys(STATES[kind]), ...ON_PAGES_ALONE, ...(kind === "trace" ? OF_ITS_PARTS : [])];
    expect(read.filter((name) => !sent.includes(name))).toEqual([]);
  });
  it("reads all that the kernel sends", () => {
    const unread = Object.values(STATES)
      .flatMap(Object.keys)
      .filter((name) => !ALL.includes(`"${name}"`));
    expect([...new Set(unread)]).toEqual([]);
  });
  it.each(Object.keys(ANSWERS))("asks for what is answered: %s", (what) => {
    expect(ALL).toContain(`.ask("${what}"`);
  });
  it("asks for nothing else", () => {
    const asked = [...ALL.matchAll(/\.ask\("(\w+)"/g)].map((match) => match[1]);
    expect(new Set(asked)).toEqual(new Set([...Object.keys(ANSWERS), "npy"]));
  });
});
