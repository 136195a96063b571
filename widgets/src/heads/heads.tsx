// Attention of all heads: small multiples, blocks down and heads across, one head large, and heads by
// their score.
import { useEffect, useRef, useState } from "preact/hooks";
import { cachedScale } from "../core/colour";
import { number } from "../core/format";
import { inflate } from "../core/kernel";
import { useReferred, useTrait } from "../core/model";
import { usePacked } from "../core/packed";
import { Notice } from "../core/parts";
import { useSelected } from "../core/selection";
import { useGround } from "../core/theme";
import { View } from "../core/view";
import type { Model } from "../core/widget";
import { cellOf, type HeadsForm, type Place, type Ranked, ranked, stepTo } from "./sizes";

const ROOM = 330; // pixels across for the small multiples
const RANKED = 14;

export function HeadsView({ model, selection }: { model: Model; selection: Model | null }) {
  const [form, trouble] = usePacked(model, (stored: HeadsForm) => stored);
  const [large] = useReferred(model, [model.get("large")]);
  const [note] = useTrait<string>(model, "note");
  if (trouble) return <Notice text={trouble} />;
  if (!form || !large) return <section aria-busy="true" style={{ minHeight: "400px" }} />;
  const title = model.get("title") as string;
  return (
    <section class="nnv-heads" aria-label={`attention heads ${title}`}>
      <header>
        {title && <b>{title}</b>}
        <span class="nnv-dim">
          {form.layers.length} blocks of {form.heads} heads, {form.tokens.length} tokens
        </span>
        {note && <span class="nnv-dim">{note}</span>}
      </header>
      <Parts model={model} large={large} form={form} selection={selection} />
    </section>
  );
}

interface PartsProps {
  model: Model;
  large: Model;
  form: HeadsForm;
  selection: Model | null;
}

/** The head that is large is the one at which the large pattern's sliders stand. */
function Parts({ model, large, form, selection }: PartsProps) {
  const [score, setScore] = useTrait<string>(model, "score");
  const [index, setIndex] = useTrait<number[]>(large, "index");
  const [, setAt] = useTrait<number[]>(model, "at");
  const [, setHead] = useSelected(selection, "head");
  const place = index.slice(0, 2) as Place;
  const go = (to: Place) => {
    setIndex([...to, ...index.slice(2)]);
    setAt(to);
    setHead(to[1]);
  };
  return (
    <div class="nnv-heads-parts">
      <Small model={model} form={form} at={place} onSelect={go} />
      <div class="nnv-heads-large">
        <div class="nnv-facts">
          <b>
            head {form.layers[place[0]]}.{place[1]}
          </b>
          <span class="nnv-dim">from the attending token (down) to the one attended (across)</span>
        </div>
        <View model={large} selected={selection} />
        <Table form={form} score={score} onScore={setScore} at={place} onSelect={go} />
      </div>
    </div>
  );
}

interface SmallProps {
  model: Model;
  form: HeadsForm;
  at: Place;
  onSelect(place: Place): void;
}

/** Every head's pattern, small; a click or an arrow key takes one. */
function Small({ model, form, at, onSelect }: SmallProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const ground = useGround(() => canvas.current);
  const [codes, setCodes] = useState<Uint8Array | null>(null);
  const [down, across] = cellOf(form.size, form.heads, ROOM);
  useEffect(() => {
    let current = true;
    inflate(model.get("small")).then((data) => current && setCodes(new Uint8Array(data)));
    return () => {
      current = false;
    };
  }, [model]);
  useEffect(() => {
    if (codes && canvas.current) paint(canvas.current, codes, form, ground);
  }, [codes, form, ground]);
  const blocks = form.layers.length;
  const pick = (event: MouseEvent) => {
    const box = canvas.current!.getBoundingClientRect();
    const block = Math.floor((event.clientY - box.top) / down);
    const head = Math.floor((event.clientX - box.left) / across);
    onSelect([Math.min(blocks - 1, Math.max(0, block)), Math.min(form.heads - 1, Math.max(0, head))]);
  };
  const keys = (event: KeyboardEvent) => {
    const to = stepTo(event.key, at, [blocks, form.heads]);
    if (!to) return;
    onSelect(to);
    event.preventDefault();
  };
  return (
    <div class="nnv-heads-small" tabIndex={0} role="region" aria-label="all heads; arrow keys walk" onKeyDown={keys}>
      <div class="nnv-dim nnv-heads-across" style={{ gridTemplateColumns: `repeat(${form.heads}, ${across}px)` }}>
        {Array.from({ length: form.heads }, (_, k) => (
          <span key={k}>{k}</span>
        ))}
      </div>
      <div class="nnv-heads-plane">
        <div class="nnv-dim nnv-heads-down" style={{ gridTemplateRows: `repeat(${blocks}, ${down}px)` }}>
          {form.layers.map((layer) => (
            <span key={layer}>{down >= 11 || layer % 2 === 0 ? layer : ""}</span>
          ))}
        </div>
        <div class="nnv-heads-canvas">
          <canvas
            ref={canvas}
            style={{ width: `${across * form.heads}px`, height: `${down * blocks}px` }}
            onClick={pick}
          />
          <i
            class="nnv-heads-mark"
            style={{
              top: `${at[0] * down - 1}px`,
              left: `${at[1] * across - 1}px`,
              width: `${across}px`,
              height: `${down}px`,
            }}
          />
        </div>
      </div>
    </div>
  );
}

/** One pixel for each stored number; the page makes them larger. Between heads nothing is drawn. */
function paint(canvas: HTMLCanvasElement, codes: Uint8Array, form: HeadsForm, ground: "light" | "dark"): void {
  const [rows, columns] = form.size;
  const [height, width] = [form.layers.length * (rows + 1), form.heads * (columns + 1)];
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(width, height);
  const colours = cachedScale("sequential", ground);
  for (let k = 0; k < codes.length; k++) {
    const column = k % columns;
    const row = Math.floor(k / columns) % rows;
    const head = Math.floor(k / (columns * rows)) % form.heads;
    const block = Math.floor(k / (columns * rows * form.heads));
    const to = 4 * ((block * (rows + 1) + row) * width + head * (columns + 1) + column);
    image.data.set([...colours[codes[k]], 255], to);
  }
  context.putImageData(image, 0, 0);
}

interface TableProps {
  form: HeadsForm;
  score: string;
  onScore(name: string): void;
  at: Place;
  onSelect(place: Place): void;
}

/** The heads with the highest scores; a click takes one. */
function Table({ form, score, onScore, at, onSelect }: TableProps) {
  const names = Object.keys(form.scores);
  if (!names.length) return null;
  const rows = ranked(form, score, RANKED);
  const most = Math.max(1e-9, ...rows.map((row) => row.score));
  return (
    <div class="nnv-heads-table">
      <label class="nnv-dim">
        ranked by{" "}
        <select value={score} onChange={(event) => onScore(event.currentTarget.value)}>
          {names.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </label>
      <table class="nnv-bars">
        <thead>
          <tr>
            <th scope="col">head</th>
            <th scope="col" colSpan={2}>
              {score}
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <RankedRow key={row.place.join(".")} form={form} row={row} most={most} at={at} onSelect={onSelect} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

interface RowProps {
  form: HeadsForm;
  row: Ranked;
  most: number;
  at: Place;
  onSelect(place: Place): void;
}

function RankedRow({ form, row: { place, score }, most, at, onSelect }: RowProps) {
  const selected = place[0] === at[0] && place[1] === at[1];
  return (
    <tr>
      <td>
        <button type="button" aria-pressed={selected} onClick={() => onSelect(place)}>
          {form.layers[place[0]]}.{place[1]}
        </button>
      </td>
      <td class="nnv-p">{number(score)}</td>
      <td>
        <span class="nnv-bar nnv-now">
          <span style={{ width: `${(Math.max(0, score) / most) * 100}%` }} />
        </span>
      </td>
    </tr>
  );
}
