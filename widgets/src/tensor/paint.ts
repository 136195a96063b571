// Draws a plane on a canvas, value by value: never smoothed, at the screen's own resolution.
import { lookup } from "../core/colour";
import { visible } from "../core/format";
import { drawBars, drawReach } from "./bars";
import type { Colouring, Labels, Scene } from "./drawn";
import { type Picture, salient, type Window } from "./picture";
import { type Layout, ticks } from "./viewport";

/** A picture as an image, one pixel a block. */
export function imageOf(picture: Picture, colouring: Colouring): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = picture.columns;
  canvas.height = picture.rows;
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(picture.columns, picture.rows);
  const table = lookup(picture.levels, colouring.limits, colouring.palette, colouring.ground, colouring.empty);
  const codes = salient(picture, colouring);
  const pixels = new Uint32Array(image.data.buffer);
  for (let k = 0; k < codes.length; k++) pixels[k] = table[codes[k]];
  context.putImageData(image, 0, 0);
  return canvas;
}

export function paint(canvas: HTMLCanvasElement, scene: Scene, ratio: number): void {
  const { layout } = scene;
  const [width, height] = layout.total.map((each) => Math.round(each * ratio));
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d")!;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, ...layout.total);
  context.save();
  context.beginPath();
  context.rect(layout.left, layout.top, layout.width, layout.height);
  context.clip();
  context.imageSmoothingEnabled = false;
  if (scene.bars) drawBars(context, scene, scene.bars);
  else {
    hatch(context, scene);
    for (const layer of scene.layers) lay(context, layer.picture, layer.image, scene);
  }
  context.restore();
  if (scene.bars) drawReach(context, scene, scene.bars);
  if (scene.labels) drawLabels(context, scene, scene.labels);
  drawMarks(context, scene);
}

/** What shows through where nothing was computed: thin strokes. */
function hatch(context: CanvasRenderingContext2D, { layout, ink }: Scene): void {
  const { left, top, width, height } = layout;
  context.save();
  context.globalAlpha = 0.22;
  context.strokeStyle = ink;
  context.lineWidth = 1;
  context.beginPath();
  for (let x = -height; x < width; x += 7) {
    context.moveTo(left + x, top + height);
    context.lineTo(left + x + height, top);
  }
  context.stroke();
  context.restore();
}

/** x and y of a value's upper left corner. */
function corner({ layout, window }: Scene, row: number, column: number): [number, number] {
  const [top, bottom, left, right] = window;
  return [
    layout.left + ((column - left) / (right - left)) * layout.width,
    layout.top + ((row - top) / (bottom - top)) * layout.height,
  ];
}

function lay(context: CanvasRenderingContext2D, picture: Picture, image: HTMLCanvasElement, scene: Scene): void {
  const [top, , left] = picture.window;
  // The last block may stand for fewer values than the others; its pixel is as wide all the same,
  // and where the window cuts it to less than a pixel it gets one.
  const [x, y] = corner(scene, top, left);
  const [endX, endY] = corner(scene, top + picture.rows * picture.block[0], left + picture.columns * picture.block[1]);
  context.drawImage(image, x, y, endX - x, endY - y);
  const { layout, window } = scene;
  const [right, bottom] = [layout.left + layout.width, layout.top + layout.height];
  const [across, down] = [(endX - x) / picture.columns, (endY - y) / picture.rows];
  if (picture.window[3] === window[3] && right - (endX - across) < 1) {
    context.drawImage(image, picture.columns - 1, 0, 1, picture.rows, right - 1, y, 1, endY - y);
  }
  if (picture.window[1] === window[1] && bottom - (endY - down) < 1) {
    context.drawImage(image, 0, picture.rows - 1, picture.columns, 1, x, bottom - 1, endX - x, 1);
  }
}

export const NAME = 14; // pixels that an axis' name takes

function drawNames(context: CanvasRenderingContext2D, { layout }: Scene, [down, across]: [string, string]): void {
  context.textAlign = "center";
  context.textBaseline = "middle";
  if (across) context.fillText(across, layout.left + layout.width / 2, layout.total[1] - NAME / 2);
  if (!down) return;
  const wide = context.measureText(down).width;
  context.save();
  context.translate(NAME / 2, layout.top + Math.max(layout.height, wide) / 2);
  context.rotate(-Math.PI / 2);
  context.fillText(down, 0, 0);
  context.restore();
}

function drawLabels(context: CanvasRenderingContext2D, scene: Scene, labels: Labels): void {
  const { layout, window } = scene;
  const [top, bottom, left, right] = window;
  context.fillStyle = scene.ink;
  context.font = scene.font;
  const cellHeight = layout.height / (bottom - top);
  const cellWidth = layout.width / (right - left);
  drawNames(context, scene, labels.names);
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const row of rowTicks(window, layout, labels)) {
    const y = corner(scene, row, left)[1] + cellHeight / 2;
    context.fillText(clipped(labels.rows[row] ?? String(row), 12), layout.left - 5, y);
  }
  const words = labels.columns.length > 0;
  for (const column of columnTicks(window, layout, labels)) {
    const x = corner(scene, top, column)[0] + cellWidth / 2;
    const y = layout.top + layout.height + 5;
    if (words) {
      context.save();
      context.translate(x, y);
      context.rotate(-Math.PI / 2);
      context.fillText(clipped(labels.columns[column] ?? String(column), 11), 0, 0);
      context.restore();
    } else {
      context.textAlign = "center";
      const half = context.measureText(String(column)).width / 2;
      context.fillText(String(column), Math.min(x, layout.total[0] - half), y + 6);
      context.textAlign = "right";
    }
  }
}

/** Rows that are named: none where no axis is drawn down. */
export function rowTicks([top, bottom]: Window, layout: Layout, labels: Labels): number[] {
  return labels.names[0] ? ticks(top, bottom, layout.height, 13) : [];
}

/** Columns that are named: words stand upright, numbers need room for the longest of them. */
export function columnTicks([, , left, right]: Window, layout: Layout, labels: Labels): number[] {
  const apart = labels.columns.length ? 13 : 16 + 7 * String(right - 1).length;
  return labels.names[1] ? ticks(left, right, layout.width, apart) : [];
}

export function clipped(text: string, most: number): string {
  const shown = visible(text);
  return shown.length > most ? `${shown.slice(0, most - 1)}…` : shown;
}

function drawMarks(context: CanvasRenderingContext2D, scene: Scene): void {
  const { layout, window } = scene;
  const [top, bottom, left, right] = window;
  const size: [number, number] = [layout.width / (right - left), layout.height / (bottom - top)];
  context.strokeStyle = scene.accent;
  context.lineWidth = 2;
  const box = (row: number, column: number, rows: number, columns: number) => {
    const [x, y] = corner(scene, row, column);
    context.strokeRect(x, y, Math.max(3, size[0] * columns), Math.max(3, size[1] * rows));
  };
  const { rows, columns } = scene.marked;
  if (rows !== null && rows >= top && rows < bottom) box(rows, left, 1, right - left);
  if (columns !== null && columns >= left && columns < right) box(top, columns, bottom - top, 1);
  if (scene.cell) {
    const [row, column] = scene.cell;
    if (row >= top && row < bottom && column >= left && column < right) box(row, column, 1, 1);
  }
}
