// The lens grid: layers down, positions across, in each place the likeliest token, and beside the rows
// the numbers of the position that is looked at.
import { useEffect, useRef, useState } from "preact/hooks";
import { AsCell } from "../core/as_cell";
import { cachedScale, css, type Ground, inkOn, place } from "../core/colour";
import { number, percent, visible } from "../core/format";
import { useTrait } from "../core/model";
import { usePacked } from "../core/packed";
import { Notice, Token } from "../core/parts";
import { useSelected } from "../core/selection";
import { useGround } from "../core/theme";
import { type Spot, walker } from "../core/walk";
import type { Model } from "../core/widget";
import { Bars } from "./bars";
import { type Grid, isFirst, RANK, type Shading, shadingOf, unpackGrid } from "./cells";

type At = Spot;

export function GridView({ model, selection }: { model: Model; selection: Model | null }) {
  const [grid, trouble] = usePacked(model, unpackGrid);
  const [cell, setCell] = useTrait<number[]>(model, "cell");
  const [coloured, setColoured] = useTrait<string>(model, "coloured");
  const [token, setToken] = useSelected(selection, "token");
  const [module, setModule] = useSelected(selection, "module");
  const [layer, setLayer] = useSelected(selection, "layer");
  const [modules] = useTrait<string[]>(model, "modules");
  const [hover, setHover] = useState<At | null>(null);
  const root = useRef<HTMLElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const ground = useGround(() => root.current);
  // Where not all of it has room, the last row and position are seen first: the model's answer.
  useEffect(() => box.current?.scrollTo(box.current.scrollWidth, box.current.scrollHeight), [grid]);
  if (trouble) return <Notice text={trouble} />;
  if (!grid) return <section aria-busy="true" style={{ minHeight: "200px" }} />;
  const title = model.get("title") as string;
  const last: At = [grid.rows.length - 1, grid.tokens.length - 1];
  const stands: At = cell.length === 2 ? (cell as At) : last;
  const chosen = hover ?? stands;
  const shading = shadingOf(grid, coloured ?? "");
  const go = (row: number, column: number) => {
    const to = [Math.min(last[0], Math.max(0, row)), Math.min(last[1], Math.max(0, column))];
    setCell(to);
    setToken(to[1]);
    if (modules?.[to[0]]) {
      setModule(modules[to[0]]);
      setLayer(Number(grid.rows[to[0]]));
    }
  };
  const keys = walker({
    at: stands,
    size: [grid.rows.length, grid.tokens.length],
    go: (to) => {
      setHover(null);
      go(...to);
    },
  });
  return (
    <section class="nnv-grid" aria-label={`token grid ${title}`} ref={root}>
      <Head
        model={model}
        grid={grid}
        coloured={coloured ?? ""}
        onColour={setColoured}
        shading={shading}
        ground={ground}
      />
      <div
        ref={box}
        class="nnv-grid-box"
        tabIndex={0}
        role="region"
        aria-label={`likeliest tokens ${title}; arrow keys walk`}
        onKeyDown={keys}
        onMouseLeave={() => setHover(null)}>
        <Cells
          grid={grid}
          chosen={chosen}
          token={token}
          marked={markedRow(grid, modules ?? [], layer, module)}
          shading={shading}
          ground={ground}
          onHover={setHover}
          onSelect={go}
        />
      </div>
      <Marks grid={grid} />
      <Chosen grid={grid} chosen={chosen} />
      <AsCell model={model} at={stands} />
    </section>
  );
}

/** The row of the block that is selected in other views; -1 for none. */
function markedRow(grid: Grid, modules: string[], layer: number, module: string): number {
  const known = layer >= 0 && modules.length ? grid.rows.indexOf(String(layer)) : -1;
  return known >= 0 ? known : module ? modules.indexOf(module) : -1;
}

interface HeadProps {
  model: Model;
  grid: Grid;
  coloured: string;
  onColour(name: string): void;
  shading: Shading;
  ground: Ground;
}

/** Title, what colours the cells, and the sentence that goes with the title. */
function Head({ model, grid, coloured, onColour, shading, ground }: HeadProps) {
  const title = model.get("title") as string;
  const [note] = useTrait<string>(model, "note");
  const names = Object.keys(grid.numbers);
  if (!title && !note && !names.length) return null;
  const colours = cachedScale("sequential", ground);
  const stops = [0, 64, 128, 192, 255].map((k) => css(colours[k])).join(", ");
  return (
    <header>
      {title && <b>{title}</b>}
      {names.length > 0 && (
        <label class="nnv-dim">
          coloured by{" "}
          <select value={coloured} onChange={(event) => onColour(event.currentTarget.value)}>
            <option value="">probability</option>
            {names.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
      )}
      {names.length > 0 && (
        <span class="nnv-legend nnv-dim">
          {number(shading.ends[0])} <i style={{ background: `linear-gradient(to right, ${stops})` }} />{" "}
          {number(shading.ends[1])}
        </span>
      )}
      {note && <span class="nnv-dim">{note}</span>}
    </header>
  );
}

interface CellsProps {
  grid: Grid;
  chosen: At;
  token: number;
  /** the row of the module that is selected in other views, or -1 */
  marked: number;
  shading: Shading;
  ground: Ground;
  onHover(at: At): void;
  onSelect(row: number, column: number): void;
}

function Cells({ grid, chosen, token, marked, shading, ground, onHover, onSelect }: CellsProps) {
  const names = Object.keys(grid.numbers);
  return (
    <table>
      <thead>
        <tr>
          <td />
          {grid.tokens.map((text, k) => (
            <th key={k} scope="col" class={k === token ? "nnv-selected" : ""}>
              <span class="nnv-tok">
                <Token text={text} />
              </span>
            </th>
          ))}
          {names.map((name, k) => (
            <th key={name} scope="col" class="nnv-beside" style={{ right: `${besideRight(names, k)}px` }}>
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {grid.rows.map((name, row) => (
          <tr key={row}>
            <th scope="row" class={row === marked ? "nnv-selected" : ""}>
              {name}
            </th>
            {grid.cells[row].map((top, column) => (
              <Cell
                key={column}
                best={top[0]}
                share={shading.at(row, column)}
                ground={ground}
                selected={chosen[0] === row && chosen[1] === column}
                first={isFirst(grid, row, column)}
                settles={grid.settled[column] === row}
                onHover={() => onHover([row, column])}
                onSelect={() => onSelect(row, column)}
              />
            ))}
            {names.map((each, k) => (
              <th
                key={each}
                class={`nnv-beside${chosen[0] === row ? " nnv-selected" : ""}`}
                style={{ right: `${besideRight(names, k)}px` }}>
                {shownNumber(grid.numbers[each][row]?.[chosen[1]] ?? null)}
              </th>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

const BESIDE = 58; // pixels of a column of numbers beside the rows
const besideRight = (names: string[], k: number) => (names.length - 1 - k) * BESIDE;
const shownNumber = (value: number | null) => (value === null ? "–" : number(value));

interface CellProps {
  best: { token: string; p: number } | undefined;
  share: number | null;
  ground: Ground;
  selected: boolean;
  first: boolean;
  settles: boolean;
  onHover(): void;
  onSelect(): void;
}

function Cell({ best, share, ground, selected, first, settles, onHover, onSelect }: CellProps) {
  const colour = cachedScale("sequential", ground)[place(share ?? 0, 0, 1)];
  const marks = [selected && "nnv-selected", first && "nnv-first", settles && "nnv-settles"].filter(Boolean);
  return (
    <td
      class={marks.join(" ")}
      style={{ background: css(colour), color: inkOn(colour) }}
      title={best ? percent(best.p) : ""}
      onMouseEnter={onHover}
      onClick={onSelect}>
      {best ? visible(best.token) : ""}
    </td>
  );
}

/** What the marks in the cells stand for. */
function Marks({ grid }: { grid: Grid }) {
  if (!grid.answer && !grid.settled.length) return null;
  return (
    <div class="nnv-dim nnv-grid-marks">
      {grid.answer && (
        <span>
          <i class="nnv-first">underlined</i> {visible(grid.answer)} is the likeliest token
        </span>
      )}
      {grid.settled.length > 0 && (
        <span>
          <i class="nnv-settles">line above</i> from here down the model's own token stays the likeliest
        </span>
      )}
    </div>
  );
}

/** The place that is looked at: its likeliest tokens, and its numbers in words. */
function Chosen({ grid, chosen: [row, column] }: { grid: Grid; chosen: At }) {
  const told = Object.entries(grid.numbers).map(([name, values]) => {
    const what = name === RANK || name === "log p" ? `${name} of ${visible(grid.answer)}` : name;
    return `${what} ${shownNumber(values[row]?.[column] ?? null)}`;
  });
  return (
    <div class="nnv-prediction" style={{ minHeight: "152px" }}>
      <div class="nnv-dim nnv-facts">
        {/^\d+$/.test(grid.rows[row] ?? "") && "row "}
        {grid.rows[row]} · after token {column} <span class="nnv-tok">{visible(grid.tokens[column] ?? "")}</span>
        {told.length > 0 && <span>{told.join(" · ")}</span>}
      </div>
      <Bars now={grid.cells[row]?.[column] ?? []} clean={[]} head="token" />
    </div>
  );
}
