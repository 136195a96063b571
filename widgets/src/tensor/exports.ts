// What a viewer gives away: a picture, the numbers, and the lines that make them.
import { visible } from "../core/format";
import { kernelOf } from "../core/kernel";
import type { Model } from "../core/model";
import { copy, download, type Item } from "../core/parts";
import { columnTicks, rowTicks, type Labels } from "./paint";
import type { Window } from "./picture";
import type { Layout } from "./viewport";

interface Figure {
  window: Window;
  layout: Layout;
  labels: Labels;
}

export function exports(
  model: Model,
  canvas: { current: HTMLCanvasElement | null },
  say: (text: string) => void,
  figure: () => Figure,
): Item[] {
  const name = (model.get("title") || "tensor").replace(/[^\w.-]+/g, "_");
  const expression = model.get("expression") || "tensor";
  return [
    {
      name: "picture (PNG)",
      run: () => canvas.current?.toBlob((blob) => blob && download(`${name}.png`, blob, "image/png")),
    },
    { name: "picture (SVG)", run: () => download(`${name}.svg`, svg(canvas.current!, figure()), "image/svg+xml") },
    {
      name: "numbers (.npy)",
      run: () =>
        kernelOf(model).ask("npy").then(
          ({ buffers }) => download(`${name}.npy`, buffers[0] as BlobPart, "application/octet-stream"),
          (error: Error) => say(error.message),
        ),
    },
    { name: "copy the expression", run: () => copy(expression).then(() => say(`copied: ${expression}`)) },
    {
      name: "copy lines for matplotlib",
      run: () => {
        const lines = `from nnsight_magic.views import show\nfigure = show(${expression}${state(model)}).figure()\nfigure.savefig("${name}.pdf")`;
        copy(lines).then(() => say("copied: three lines that make a matplotlib figure of what is drawn"));
      },
    },
  ];
}

/** What differs from a new viewer, as keyword arguments. */
function state(model: Model): string {
  const given = (["drawn", "index", "window", "limits"] as const)
    .map((trait) => [trait, model.get(trait) as number[]] as const)
    .filter(([, value]) => value.length)
    .map(([trait, value]) => `, ${trait}=[${value.join(", ")}]`);
  return given.join("");
}

const escaped = (text: string) =>
  text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!);

/** The plot as an image inside of an SVG, its labels as text. */
export function svg(canvas: HTMLCanvasElement, { window, layout, labels }: Figure): string {
  const ratio = canvas.width / layout.total[0];
  const part = document.createElement("canvas");
  part.width = Math.round(layout.width * ratio);
  part.height = Math.round(layout.height * ratio);
  part
    .getContext("2d")!
    .drawImage(canvas, layout.left * ratio, layout.top * ratio, part.width, part.height, 0, 0, part.width, part.height);
  const [top, bottom, left, right] = window;
  const [high, wide] = [layout.height / (bottom - top), layout.width / (right - left)];
  const rows = rowTicks(window, layout, labels).map((row) => {
    const y = layout.top + (row - top + 0.5) * high;
    return `<text x="${layout.left - 5}" y="${y + 4}" text-anchor="end">${escaped(visible(labels.rows[row] ?? String(row)))}</text>`;
  });
  const words = labels.columns.length > 0;
  const columns = columnTicks(window, layout, labels).map((column) => {
    const x = layout.left + (column - left + 0.5) * wide;
    const y = layout.top + layout.height + (words ? 5 : 14);
    const text = escaped(visible(labels.columns[column] ?? String(column)));
    return words
      ? `<text transform="translate(${x + 4} ${y}) rotate(-90)" text-anchor="end">${text}</text>`
      : `<text x="${x}" y="${y}" text-anchor="middle">${text}</text>`;
  });
  const [w, h] = layout.total;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${w} ${h}" width="${w}" height="${h}" font-family="sans-serif" font-size="11">
<image x="${layout.left}" y="${layout.top}" width="${layout.width}" height="${layout.height}" preserveAspectRatio="none" href="${part.toDataURL("image/png")}"/>
${[...rows, ...columns].join("\n")}
</svg>`;
}
