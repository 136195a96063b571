// Attention of all heads: small multiples, blocks down and heads across, one head large, and heads by
// their score.
import { useEffect, useRef, useState } from "preact/hooks";
import { AsCell } from "../core/as_cell";
import { cachedScale, type Ground } from "../core/colour";
import { number } from "../core/format";
import { inflate } from "../core/kernel";
import { useReferred, useTrait } from "../core/model";
import { usePacked } from "../core/packed";
import { Notice } from "../core/parts";
import { useSelected } from "../core/selection";
import { useGround } from "../core/theme";
import { View } from "../core/view";
import { walker } from "../core/walk";
import type { Model } from "../core/widget";
import { cellOf, type HeadsForm, isSame, named, type Place, type Ranked, ranked, toggled } from "./sizes";
import { TokenStrips } from "./strip";

const ROOM = 330; // pixels across for the small multiples of many blocks, beside the large one
const WIDE = 900; // and for those of few, above it
const FEW = 3;
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
          {form.layers.length} block{form.layers.length === 1 ? "" : "s"} of {form.heads} heads, {form.tokens.length}{" "}
          tokens
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
  const [chosen, setChosen] = useTrait<Place[]>(model, "chosen");
  const [, setHead] = useSelected(selection, "head");
  const [, setLayer] = useSelected(selection, "layer");
  const [, setModule] = useSelected(selection, "module");
  const [modules] = useTrait<string[]>(model, "modules");
  const root = useRef<HTMLDivElement>(null);
  const ground = useGround(() => root.current);
  const place = index.slice(0, 2) as Place;
  const go = (to: Place) => {
    setIndex([...to, ...index.slice(2)]);
    setAt(to);
    setHead(to[1]);
    setLayer(form.layers[to[0]]);
    if (modules?.[to[0]]) setModule(modules[to[0]]);
  };
  const toggle = (head: Place) => setChosen(toggled(chosen, head));
  return (
    <div class="nnv-heads-parts" ref={root}>
      <TokenStrips model={model} large={large} form={form} at={place} ground={ground} selection={selection} />
      <Small model={model} form={form} at={place} chosen={chosen} ground={ground} onSelect={go} onToggle={toggle} />
      <div class="nnv-heads-large">
        <div class="nnv-facts">
          <b>head {named(form, place)}</b>
          <span class="nnv-dim">
            from: the token that attends, the query (down) · to: the one attended to, the key (across)
          </span>
        </div>
        <View model={large} selected={selection} />
        <AsCell model={model} at={place} />
        <Table
          form={form}
          score={score}
          onScore={setScore}
          at={place}
          chosen={chosen}
          onSelect={go}
          onToggle={toggle}
        />
      </div>
    </div>
  );
}

interface SmallProps {
  model: Model;
  form: HeadsForm;
  at: Place;
  chosen: Place[];
  ground: Ground;
  onSelect(place: Place): void;
  onToggle(place: Place): void;
}

/** Every head's pattern, small; a click or an arrow key takes one, with Ctrl or the space bar it is one
 * of those whose mean the tokens show. */
function Small({ model, form, at, chosen, ground, onSelect, onToggle }: SmallProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [codes, setCodes] = useState<Uint8Array | null>(null);
  const [down, across] = cellOf(form.size, [form.layers.length, form.heads], form.layers.length > FEW ? ROOM : WIDE);
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
    const to: Place = [Math.min(blocks - 1, Math.max(0, block)), Math.min(form.heads - 1, Math.max(0, head))];
    if (event.ctrlKey || event.metaKey || event.shiftKey) onToggle(to);
    else onSelect(to);
  };
  const keys = walker({ at, size: [blocks, form.heads], go: onSelect, others: { " ": () => onToggle(at) } });
  const mark = ([block, head]: Place) => ({
    top: `${block * down - 1}px`,
    left: `${head * across - 1}px`,
    width: `${across}px`,
    height: `${down}px`,
  });
  return (
    <div
      class="nnv-heads-small"
      tabIndex={0}
      role="region"
      aria-label={`all heads, at ${named(form, at)}; arrow keys walk, the space bar chooses for the mean`}
      onKeyDown={keys}>
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
          {chosen.map((each) => (
            <i class="nnv-heads-mark nnv-heads-chosen" key={each.join(".")} style={mark(each)} />
          ))}
          <i class="nnv-heads-mark" style={mark(at)} />
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
  chosen: Place[];
  onSelect(place: Place): void;
  onToggle(place: Place): void;
}

/** The heads by their scores, those with the most of one first; a click takes one. */
function Table({ form, score, onScore, at, chosen, onSelect, onToggle }: TableProps) {
  const names = Object.keys(form.scores);
  const [all, setAll] = useState(false);
  if (!names.length) return null;
  const rows = ranked(form, score, Infinity);
  const shown = all ? rows : rows.slice(0, RANKED);
  const most = Math.max(1e-9, ...rows.map((row) => row.score));
  return (
    <div class="nnv-heads-table">
      <table class="nnv-bars" aria-label="heads by their scores">
        <thead>
          <tr>
            <th scope="col">head</th>
            {names.map((name) => (
              <th scope="col" key={name} aria-sort={name === score ? "descending" : "none"}>
                <button type="button" aria-pressed={name === score} title={MEANT[name]} onClick={() => onScore(name)}>
                  {name}
                  {name === score && <span aria-hidden="true"> ↓</span>}
                </button>
              </th>
            ))}
            <th scope="col">{score}</th>
            <th scope="col" title="whether it is one of the heads whose mean the tokens show">
              in the mean
            </th>
          </tr>
        </thead>
        <tbody>
          {shown.map((row) => (
            <RankedRow
              key={row.place.join(".")}
              form={form}
              row={row}
              most={most}
              selected={isSame(row.place, at)}
              chosen={chosen.some((each) => isSame(each, row.place))}
              onSelect={onSelect}
              onToggle={onToggle}
            />
          ))}
        </tbody>
      </table>
      {rows.length > RANKED && (
        <button type="button" onClick={() => setAll(!all)}>
          {all ? "show fewer heads" : `show ${rows.length - RANKED} more heads`}
        </button>
      )}
    </div>
  );
}

const MEANT: Record<string, string> = {
  previous: "mean weight on the token before",
  first: "mean weight on the first token",
  induction: "mean weight on the token behind the earlier occurrence of the present one",
  duplicate: "mean weight on the earlier occurrence of the present token",
  sink: "mean weight on the sink",
};

interface RowProps {
  form: HeadsForm;
  row: Ranked;
  most: number;
  selected: boolean;
  chosen: boolean;
  onSelect(place: Place): void;
  onToggle(place: Place): void;
}

function RankedRow({ form, row: { place, score }, most, selected, chosen, onSelect, onToggle }: RowProps) {
  const name = named(form, place);
  return (
    <tr>
      <td>
        <button type="button" aria-pressed={selected} onClick={() => onSelect(place)}>
          {name}
        </button>
      </td>
      {Object.values(form.scores).map((values, k) => {
        const value = values[place[0]][place[1]];
        return (
          <td class="nnv-p" key={k}>
            {value === null ? "–" : number(value)}
          </td>
        );
      })}
      <td>
        <span class="nnv-bar nnv-now">
          <span style={{ width: `${(Math.max(0, score) / most) * 100}%` }} />
        </span>
      </td>
      <td class="nnv-heads-in">
        <input type="checkbox" aria-label={`${name} in the mean`} checked={chosen} onChange={() => onToggle(place)} />
      </td>
    </tr>
  );
}
