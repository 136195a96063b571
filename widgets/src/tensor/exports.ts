// What a viewer gives away: a picture, the numbers, and the lines that make them.
import { cachedScale, css } from "../core/colour";
import { number, visible } from "../core/format";
import { kernelOf } from "../core/kernel";
import { copy, download, type Item } from "../core/parts";
import type { Model } from "../core/widget";
import type { Colouring, Labels } from "./drawn";
import { columnTicks, rowTicks } from "./paint";
import type { Window } from "./picture";
import type { Layout } from "./viewport";

export interface Figure {
  title: string;
  window: Window;
  layout: Layout;
  labels: Labels;
  colouring: Colouring;
  outside: [boolean, boolean];
  font: string;
  ink: string;
}

export function exports(
  model: Model,
  canvas: { current: HTMLCanvasElement | null },
  say: (text: string) => void,
  figure: () => Figure,
): Item[] {
  const name = fileName(model.get("title"));
  const expression = model.get("expression") || "tensor";
  return [
    {
      name: "picture (PNG)",
      run: () => png(canvas.current!, figure()).toBlob((blob) => blob && download(`${name}.png`, blob, "image/png")),
    },
    { name: "picture (SVG)", run: () => download(`${name}.svg`, svg(canvas.current!, figure()), "image/svg+xml") },
    {
      name: "numbers (.npy)",
      run: () =>
        kernelOf(model)
          .ask("npy")
          .then(
            ({ buffers }) => download(`${name}.npy`, buffers[0] as BlobPart, "application/octet-stream"),
            (error: Error) => say(error.message),
          ),
    },
    { name: "copy the expression", run: () => copy(expression).then(() => say(`copied: ${expression}`)) },
    {
      name: "copy lines for matplotlib",
      run: () =>
        kernelOf(model)
          .ask("lines")
          .then(
            ({ info }) =>
              copy(String(info["lines"])).then(() =>
                say("copied: lines that make a matplotlib figure of what is drawn"),
              ),
            (error: Error) => say(error.message),
          ),
    },
  ];
}

/** A tensor's title as the name of a file. */
export const fileName = (title: string) => (title || "tensor").replace(/[^\w.-]+/g, "_");

// What an exported picture has around the plot: a title above, the scale on the right.
const ABOVE = 24;
const BAR = { gap: 8, width: 12, words: 62 };

/** Size of an exported picture, where its plot lies, the scale's box, and the words around. */
export function sheet({ title, layout, colouring, outside }: Figure) {
  const top = layout.top + ABOVE;
  const bar = {
    x: layout.left + layout.width + 10 + BAR.gap,
    y: top,
    width: BAR.width,
    height: Math.max(40, layout.height),
  };
  const words = [
    { x: 4, y: 16, text: title },
    { x: bar.x + BAR.width + 5, y: top + 9, text: `${outside[1] ? "≥ " : ""}${number(colouring.limits[1])}` },
    { x: bar.x + BAR.width + 5, y: top + bar.height, text: `${outside[0] ? "≤ " : ""}${number(colouring.limits[0])}` },
  ];
  const width = Math.max(bar.x + BAR.width + BAR.words, 10 + title.length * 6.6);
  const height = Math.max(layout.total[1] + ABOVE, bar.y + bar.height + 6);
  return { width, height, bar, words, ground: colouring.ground === "dark" ? "#111111" : "#ffffff" };
}

/** The colours of the scale, its upper end above. */
function scaleImage({ palette, ground }: Colouring): HTMLCanvasElement {
  const strip = document.createElement("canvas");
  [strip.width, strip.height] = [1, 256];
  const context = strip.getContext("2d")!;
  cachedScale(palette, ground).forEach((colour, k) => {
    context.fillStyle = css(colour);
    context.fillRect(0, 255 - k, 1, 1);
  });
  return strip;
}

/** The picture with its title, its scale and the names of its axes, on the page's ground. */
export function png(canvas: HTMLCanvasElement, figure: Figure): HTMLCanvasElement {
  const { width, height, bar, words, ground } = sheet(figure);
  const ratio = canvas.width / figure.layout.total[0];
  const page = document.createElement("canvas");
  [page.width, page.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const context = page.getContext("2d")!;
  context.fillStyle = ground;
  context.fillRect(0, 0, page.width, page.height);
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, 0, Math.round(ABOVE * ratio));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.drawImage(scaleImage(figure.colouring), bar.x, bar.y, bar.width, bar.height);
  context.fillStyle = figure.ink;
  context.font = `11px ${figure.font}`;
  for (const { x, y, text } of words) context.fillText(text, x, y);
  return page;
}

const escaped = (text: string) =>
  text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!);

/** The plot as an image inside of an SVG, all words as text. */
export function svg(canvas: HTMLCanvasElement, figure: Figure): string {
  const { layout } = figure;
  const ratio = canvas.width / layout.total[0];
  const part = document.createElement("canvas");
  part.width = Math.round(layout.width * ratio);
  part.height = Math.round(layout.height * ratio);
  part
    .getContext("2d")!
    .drawImage(canvas, layout.left * ratio, layout.top * ratio, part.width, part.height, 0, 0, part.width, part.height);
  return svgText(figure, part.toDataURL("image/png"), scaleImage(figure.colouring).toDataURL("image/png"));
}

/** The text of an SVG around two images, that of the plot and that of the scale, by their addresses. */
export function svgText(figure: Figure, plot: string, scale: string): string {
  const { window, layout, labels } = figure;
  const { width, height, bar, words, ground } = sheet(figure);
  const [top, bottom, left, right] = window;
  const [high, wide] = [layout.height / (bottom - top), layout.width / (right - left)];
  const up = layout.top + ABOVE;
  const rows = rowTicks(window, layout, labels).map((row) => {
    const y = up + (row - top + 0.5) * high;
    return `<text x="${layout.left - 5}" y="${y + 4}" text-anchor="end">${escaped(visible(labels.rows[row] ?? String(row)))}</text>`;
  });
  const upright = labels.columns.length > 0;
  const columns = columnTicks(window, layout, labels).map((column) => {
    const x = layout.left + (column - left + 0.5) * wide;
    const y = up + layout.height + (upright ? 5 : 14);
    const text = escaped(visible(labels.columns[column] ?? String(column)));
    return upright
      ? `<text transform="translate(${x + 4} ${y}) rotate(-90)" text-anchor="end">${text}</text>`
      : `<text x="${x}" y="${y}" text-anchor="middle">${text}</text>`;
  });
  const [down, across] = labels.names.map(escaped);
  const names = [
    `<text x="${layout.left + layout.width / 2}" y="${ABOVE + layout.total[1] - 3}" text-anchor="middle">${across}</text>`,
    `<text transform="translate(11 ${up + layout.height / 2}) rotate(-90)" text-anchor="middle">${down}</text>`,
  ];
  const around = words.map(({ x, y, text }) => `<text x="${x}" y="${y}">${escaped(text)}</text>`);
  const image = (x: number, y: number, w: number, h: number, from: string) =>
    `<image x="${x}" y="${y}" width="${w}" height="${h}" preserveAspectRatio="none" style="image-rendering:pixelated" href="${from}"/>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="sans-serif" font-size="11" fill="${figure.ink}">
<rect width="100%" height="100%" fill="${ground}"/>
${image(layout.left, up, layout.width, layout.height, plot)}
${image(bar.x, bar.y, bar.width, bar.height, scale)}
${[...rows, ...columns, ...names, ...around].join("\n")}
</svg>`;
}
