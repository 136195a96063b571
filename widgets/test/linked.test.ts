// A viewer that looks where another one does: some traits are the leader's.
import { describe, expect, it } from "vitest";
import { linked } from "../src/core/linked";
import type { Model } from "../src/core/widget";

function fake(state: Record<string, unknown>) {
  const calls: unknown[][] = [];
  const listeners = new Map<string, Set<() => void>>();
  const model = {
    get: (name: string) => state[name],
    set: (name: string, value: unknown) => {
      state[name] = value;
      for (const each of listeners.get(`change:${name}`) ?? []) each();
    },
    save_changes: () => void calls.push(["save"]),
    on: (event: string, each: () => void) => void listeners.set(event, (listeners.get(event) ?? new Set()).add(each)),
    off: (event: string, each: () => void) => void listeners.get(event)?.delete(each),
    send: (content: unknown) => void calls.push(["send", content]),
    widget_manager: { get_model: async () => model as unknown as Model },
  };
  return { model: model as unknown as Model, state, calls };
}

describe("a linked model", () => {
  const pair = () => {
    const [own, leader] = [fake({ title: "own", index: [0] }), fake({ title: "leader", index: [7] })];
    return { own, leader, both: linked(own.model, leader.model, ["index"]) };
  };
  it("reads and sets the leader's traits there, and its own here", () => {
    const { own, leader, both } = pair();
    expect([both.get("index"), both.get("title")]).toEqual([[7], "own"]);
    both.set("index", [3]);
    both.set("title", "new");
    expect([leader.state, own.state]).toEqual([
      { title: "leader", index: [3] },
      { title: "new", index: [0] },
    ]);
  });
  it("hears of both kinds where they change, until it no longer listens", () => {
    const { own, leader, both } = pair();
    const heard: string[] = [];
    const [onIndex, onTitle] = [() => void heard.push("index"), () => void heard.push("title")];
    both.on("change:index", onIndex);
    both.on("change:title", onTitle);
    leader.model.set("index", [1]);
    own.model.set("index", [2]);
    own.model.set("title", "x");
    leader.model.set("title", "y");
    both.off("change:index", onIndex);
    leader.model.set("index", [2]);
    expect(heard).toEqual(["index", "title"]);
  });
  it("tells both kernels, and asks its own", () => {
    const { own, leader, both } = pair();
    both.save_changes();
    both.send({ do: "plane" });
    expect([leader.calls, own.calls]).toEqual([[["save"]], [["save"], ["send", { do: "plane" }]]]);
  });
});
