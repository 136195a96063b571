// What both languages show of the same number or text: tests/views/test_words.py reads these too.
import { describe, expect, it } from "vitest";
import { bytes, count, number, percent, printable, visible } from "../src/core/format";
import fixtures from "./fixtures/words.json";

const shown: Record<string, (value: any) => string> = {
  // A true minus sign in the browser, the keyboard's in Python.
  number: (value) => number(Number(value)).replaceAll("−", "-"),
  percent,
  bytes,
  count,
  visible,
  printable,
};

describe.each(Object.entries(fixtures))("%s", (name, rows) => {
  it.each(rows as [any, string][])("shows %j as %j", (value, text) => {
    expect(shown[name](value)).toBe(text);
  });
});
