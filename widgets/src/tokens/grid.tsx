// The lens grid: layers down, positions across, in each place the likeliest token.
import { useEffect, useRef, useState } from "preact/hooks";
import { cachedScale, css, inkOn, place } from "../core/colour";
import { percent, visible } from "../core/format";
import { useTrait } from "../core/model";
import { usePacked } from "../core/packed";
import { Notice, Token } from "../core/parts";
import { useSelected } from "../core/selection";
import { useGround } from "../core/theme";
import type { Model } from "../core/widget";
import { Bars } from "./bars";
import { unpackGrid } from "./strips";

export function GridView({ model, selection }: { model: Model; selection: Model | null }) {
  const [grid, trouble] = usePacked(model, unpackGrid);
  const [cell, setCell] = useTrait<number[]>(model, "cell");
  const [token, setToken] = useSelected(selection, "token");
  const [hover, setHover] = useState<[number, number] | null>(null);
  const root = useRef<HTMLElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const ground = useGround(() => root.current);
  // Where not all of it has room, the last row and position are seen first: the model's answer.
  useEffect(() => box.current?.scrollTo(box.current.scrollWidth, box.current.scrollHeight), [grid]);
  if (trouble) return <Notice text={trouble} />;
  if (!grid) return <section aria-busy="true" style={{ minHeight: "200px" }} />;
  const colours = cachedScale("sequential", ground);
  const title = model.get("title") as string;
  const last: [number, number] = [grid.rows.length - 1, grid.tokens.length - 1];
  const chosen = (hover ?? (cell.length === 2 ? cell : last)) as [number, number];
  const guesses = grid.cells[chosen[0]]?.[chosen[1]] ?? [];
  const go = (row: number, column: number) => {
    const to = [Math.min(last[0], Math.max(0, row)), Math.min(last[1], Math.max(0, column))];
    setCell(to);
    setToken(to[1]);
  };
  const keys = (event: KeyboardEvent) => {
    const [row, column] = cell.length === 2 ? cell : last;
    const steps: Record<string, [number, number]> = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      Home: [0, -column],
      End: [0, last[1]],
    };
    const step = steps[event.key];
    if (!step) return;
    setHover(null);
    go(row + step[0], column + step[1]);
    event.preventDefault();
  };
  return (
    <section class="nnv-grid" aria-label={`token grid ${title}`} ref={root}>
      {title && (
        <header>
          <b>{title}</b>
        </header>
      )}
      <div
        ref={box}
        class="nnv-grid-box"
        tabIndex={0}
        role="region"
        aria-label={`likeliest tokens ${title}; arrow keys walk`}
        onKeyDown={keys}
        onMouseLeave={() => setHover(null)}>
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
            </tr>
          </thead>
          <tbody>
            {grid.rows.map((name, row) => (
              <tr key={row}>
                <th scope="row">{name}</th>
                {grid.cells[row].map((top, column) => {
                  const best = top[0];
                  const colour = colours[place(best?.p ?? 0, 0, 1)];
                  const selected = chosen[0] === row && chosen[1] === column;
                  return (
                    <td
                      key={column}
                      class={selected ? "nnv-selected" : ""}
                      style={{ background: css(colour), color: inkOn(colour) }}
                      title={best ? percent(best.p) : ""}
                      onMouseEnter={() => setHover([row, column])}
                      onClick={() => go(row, column)}>
                      {best ? visible(best.token) : ""}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <div class="nnv-prediction" style={{ minHeight: "152px" }}>
        <div class="nnv-dim nnv-facts">
          {/^\d+$/.test(grid.rows[chosen[0]] ?? "") && "row "}
          {grid.rows[chosen[0]]} · after token {chosen[1]}{" "}
          <span class="nnv-tok">{visible(grid.tokens[chosen[1]] ?? "")}</span>
        </div>
        <Bars now={guesses} clean={[]} head="token" />
      </div>
    </section>
  );
}
