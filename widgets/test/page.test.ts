// A page of its own: the models of what was stored, behind which no kernel is.
import { describe, expect, it } from "vitest";
import { Kernel } from "../src/core/kernel";
import { referred } from "../src/core/model";
import { modelsFrom } from "../src/page";
import { models } from "./stored";

describe("a page", () => {
  it("has a model of each state, which find each other", async () => {
    const all = await models();
    const trace = all.get("trace")!;
    expect(await referred(trace, trace.get("tokens"))).toBe(all.get("tokens"));
    expect(await referred(trace, trace.get("tensors")[1])).toBe(all.get("compare"));
    await expect(referred(trace, "IPY_MODEL_nobody")).rejects.toThrow("no model nobody");
    await expect(referred(trace, null)).rejects.toThrow();
  });
  it("has bytes again where bytes were, and leaves all else as it is", () => {
    const state = { codes: { bytes: btoa("\u0000\u00ffa") }, about: { bytes: 32 }, title: "x", none: null };
    const model = modelsFrom({ a: state }).get("a")!;
    expect(model.get("codes")).toEqual(Uint8Array.of(0, 255, 97));
    expect([model.get("about"), model.get("title"), model.get("none")]).toEqual([{ bytes: 32 }, "x", null]);
    expect(model.get("unknown")).toBeUndefined();
  });
  it("tells of what changes, once, to those who still listen", () => {
    const model = modelsFrom({ a: { index: [0], cell: [] } }).get("a")!;
    const heard: unknown[] = [];
    const listener = () => void heard.push(model.get("index"));
    model.on("change:index", listener);
    model.set("cell", [1]);
    model.set("index", [1]);
    model.set("index", model.get("index"));
    model.off("change:index", listener);
    model.set("index", [2]);
    expect(heard).toEqual([[1]]);
  });
  it("says at once that no kernel answers", async () => {
    const model = modelsFrom({ a: {} }).get("a")!;
    const kernel = new Kernel(model);
    await expect(kernel.ask("plane")).rejects.toThrow("does not answer");
    expect(kernel.pulse).toBe("silent");
    expect(() => model.save_changes()).not.toThrow();
  });
});
