// The files that a viewer gives away.
import { describe, expect, it } from "vitest";
import { type Figure, fileName, sheet, svgText } from "../src/tensor/exports";
import { layoutOf } from "../src/tensor/viewport";

const FIGURE: Figure = {
  title: 'h "1" <2>',
  window: [0, 2, 0, 3],
  layout: layoutOf(600, [2, 3], { left: 60, bottom: 40 }, false),
  labels: { rows: ["a", "<b>"], columns: [], names: ["token", "feature & more"] },
  colouring: { limits: [-1, 2], palette: "diverging", ground: "light" },
  outside: [true, false],
  font: "sans-serif",
  ink: "#123456",
};

describe("a file", () => {
  it("is named as the tensor, in letters that every system takes", () => {
    expect(["h", "layers[3].mlp / x", "", "été"].map(fileName)).toEqual(["h", "layers_3_.mlp_x", "tensor", "_t_"]);
  });
});

describe("a sheet", () => {
  it("has room for the plot, the scale beside it and the title above", () => {
    const { width, height, bar } = sheet(FIGURE);
    const { layout } = FIGURE;
    expect(bar.x).toBeGreaterThanOrEqual(layout.left + layout.width);
    expect(width).toBeGreaterThan(bar.x + bar.width);
    expect(height).toBeGreaterThanOrEqual(bar.y + bar.height);
    expect(sheet({ ...FIGURE, title: "x".repeat(400) }).width).toBeGreaterThan(2400);
  });
  it("says at the ends of the scale whether values lie beyond", () => {
    expect(sheet(FIGURE).words.map(({ text }) => text)).toEqual(['h "1" <2>', "2", "≤ −1"]);
    expect(sheet({ ...FIGURE, outside: [false, true] }).words[1].text).toBe("≥ 2");
  });
  it("has the ground of its colours", () => {
    const dark = { ...FIGURE, colouring: { ...FIGURE.colouring, ground: "dark" as const } };
    expect([sheet(FIGURE).ground, sheet(dark).ground]).toEqual(["#ffffff", "#111111"]);
  });
});

describe("an SVG", () => {
  const text = svgText(FIGURE, "data:plot", "data:scale");
  it("has all words as text, none of them as markup", () => {
    const words = [...text.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map((match) => match[1]);
    expect(words).toEqual([
      "a",
      "&lt;b&gt;",
      "0",
      "1",
      "2",
      "feature &amp; more",
      "token",
      "h &quot;1&quot; &lt;2&gt;",
      "2",
      "≤ −1",
    ]);
  });
  it("has the plot and the scale as images, at their places", () => {
    const images = [...text.matchAll(/<image x="([\d.]+)"[^>]* href="([^"]+)"/g)].map((match) => [
      Number(match[1]),
      match[2],
    ]);
    expect(images).toEqual([
      [FIGURE.layout.left, "data:plot"],
      [sheet(FIGURE).bar.x, "data:scale"],
    ]);
  });
  it("opens and closes what it opens", () => {
    const [opened, closed] = [/<(\w+)(?:\s[^>]*)?[^/]>/g, /<\/\w+>|\/>/g].map((each) => text.match(each)!.length);
    expect(opened).toBe(closed - text.match(/\/>/g)!.length);
  });
  it("names words of columns upright", () => {
    const words = svgText({ ...FIGURE, labels: { ...FIGURE.labels, columns: ["x", "y", "z"] } }, "", "");
    expect(words.match(/rotate\(-90\)" text-anchor="end"/g)).toHaveLength(3);
  });
});
