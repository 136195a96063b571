// The steps of a generation, as they are stored and as they are told.
import { describe, expect, it } from "vitest";
import type { StepForm } from "../src/core/wire";
import { stepAt, stepText, unpackSteps } from "../src/steps/steps";

describe("steps", () => {
  it("have their candidates in the order in which they were sent", () => {
    expect(unpackSteps([["a", 0.5, ["a", 0.5, "b", 0.25], ["h"]]])).toEqual([
      {
        token: "a",
        p: 0.5,
        candidates: [
          { token: "a", p: 0.5 },
          { token: "b", p: 0.25 },
        ],
        saved: ["h"],
      },
    ]);
  });
  it("of which nothing but the token is known yet are shown with that", () => {
    const sparse = ["a", null] as unknown as StepForm;
    expect(unpackSteps([sparse])).toEqual([{ token: "a", p: null, candidates: [], saved: [] }]);
    expect(unpackSteps([])).toEqual([]);
  });
  it("have no half of a candidate, and none without a number", () => {
    const odd = ["a", 1, ["a", null, 7, 0.5, "left over"], []] as StepForm;
    expect(unpackSteps([odd])[0].candidates).toEqual([
      { token: "a", p: 0 },
      { token: "7", p: 0.5 },
    ]);
  });
  it("are counted from one in words and from 0 as Python does", () => {
    expect(stepText(0, 3)).toBe("new token 1 of 3 (step 0)");
  });
  it("are looked at where one is selected, else at the last", () => {
    expect([stepAt(1, 3), stepAt(-1, 3), stepAt(3, 3), stepAt(0, 0), stepAt(-1, 0)]).toEqual([1, 2, 2, -1, -1]);
  });
});
