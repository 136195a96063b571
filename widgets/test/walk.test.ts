// Keys that walk, in whatever view.
import { describe, expect, it } from "vitest";
import { stepped, walker } from "../src/core/walk";

describe("a key", () => {
  const go = (key: string, from: [number, number] = [5, 5], shiftKey = false) =>
    stepped({ key, shiftKey }, from, [20, 30]);
  it("leads one value on, with Shift ten, and to the ends", () => {
    expect([go("ArrowUp"), go("ArrowDown"), go("ArrowLeft"), go("ArrowRight")]).toEqual([
      [4, 5],
      [6, 5],
      [5, 4],
      [5, 6],
    ]);
    expect(go("ArrowRight", [5, 5], true)).toEqual([5, 15]);
    expect([go("Home"), go("End"), go("PageUp"), go("PageDown")]).toEqual([
      [5, 0],
      [5, 29],
      [0, 5],
      [19, 5],
    ]);
  });
  it("leads nowhere outside", () => {
    expect(go("ArrowUp", [0, 0], true)).toEqual([0, 0]);
    expect(go("ArrowDown", [19, 29], true)).toEqual([19, 29]);
  });
  it("that means nothing here is left to others", () => {
    for (const key of ["a", "Enter"]) expect(go(key)).toBeNull();
  });
  it("leads ten on up and down where all stands in one row", () => {
    const go = (key: string) => stepped({ key, shiftKey: false }, [0, 15], [1, 30]);
    expect([go("ArrowUp"), go("ArrowDown"), go("ArrowLeft")]).toEqual([
      [0, 5],
      [0, 25],
      [0, 14],
    ]);
  });
  it("does what a view says, and is taken from the notebook only where it does something", () => {
    const did: string[] = [];
    const keys = walker({
      at: [0, 0],
      size: [3, 3],
      go: (to) => did.push(to.join()),
      others: { "+": () => did.push("nearer"), End: () => did.push("end") },
      typed: (letter) => did.push(`typed ${letter}`),
    });
    const press = (key: string, more = {}) => {
      const event = { key, shiftKey: false, taken: false, preventDefault: () => {}, ...more };
      event.preventDefault = () => {
        event.taken = true;
      };
      keys(event as unknown as KeyboardEvent);
      return event.taken;
    };
    expect(["+", "End", "ArrowDown", "m"].map((key) => press(key))).toEqual([true, true, true, true]);
    expect([press("F5"), press("c", { ctrlKey: true })]).toEqual([false, false]);
    expect(did).toEqual(["nearer", "end", "1,0", "typed m"]);
  });
});
