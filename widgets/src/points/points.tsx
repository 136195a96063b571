// A grid of measured numbers: its map, its points by rank, and the point that is selected.
import { useEffect, useRef, useState } from "preact/hooks";
import { AsCell } from "../core/as_cell";
import { number } from "../core/format";
import { kernelOf } from "../core/kernel";
import { useReferred, useTrait } from "../core/model";
import { usePacked } from "../core/packed";
import { Notice, reveal } from "../core/parts";
import { select } from "../core/selection";
import { View } from "../core/view";
import { walker } from "../core/walk";
import type { Model } from "../core/widget";
import { type Axis, numberAt, ofTokens } from "../tensor/labels";
import { pathAt } from "../tensor/readout";
import { type Pointed, TensorView } from "../tensor/tensor";
import { barOf, inPlane, inWords, type PointsForm } from "./ranked";

const WAIT = 120_000; // milliseconds that the run of a point may take

export function PointsView({ model, selection }: { model: Model; selection: Model | null }) {
  const [form, trouble] = usePacked(model, (stored: PointsForm) => stored);
  const [map] = useReferred(model, [model.get("map")]);
  if (trouble) return <Notice text={trouble} />;
  if (!form || !map) return <section aria-busy="true" style={{ minHeight: "300px" }} />;
  return <Parts model={model} map={map} form={form} selection={selection} />;
}

interface PartsProps {
  model: Model;
  map: Model;
  form: PointsForm;
  selection: Model | null;
}

function Parts({ model, map, form, selection }: PartsProps) {
  const [note] = useTrait<string>(model, "note");
  const [axes] = useTrait<Axis[]>(map, "axes");
  const [drawn] = useTrait<[number, number]>(map, "drawn");
  const [index, setIndex] = useTrait<number[]>(map, "index");
  const [cell, setCell] = useTrait<number[]>(map, "cell");
  const pointed = useState<[number, number] | null>(null) as Pointed;
  const [hover, setHover] = pointed;
  const under = hover ? pathAt(hover, drawn, index, null) : null;
  const go = (path: number[]) => {
    setHover(null);
    setIndex(index.map((at, axis) => (drawn.includes(axis) ? at : path[axis])));
    setCell(path);
  };
  useMarking(selection, axes, cell);
  return (
    <section class="nnv-points" aria-label={`points ${model.get("title")}`}>
      {note && <div class="nnv-dim nnv-points-note">{note.replace(/(^|\s)-(?=[\d∞])/g, "$1−")}</div>}
      <div class="nnv-points-parts">
        <div class="nnv-points-map">
          <TensorView model={map} selection={selection} pointed={pointed} />
        </div>
        <Table
          form={form}
          axes={axes}
          cell={cell}
          under={under}
          onSelect={go}
          onHover={(path) => setHover(path && inPlane(path, drawn, index))}
        />
      </div>
      {cell.length === axes.length && axes.length > 0 && <Point model={model} axes={axes} form={form} cell={cell} />}
      <Opened model={model} axes={axes} selection={selection} />
    </section>
  );
}

/** The layer, head and token of the point that is selected are selected in the other views too. */
function useMarking(selection: Model | null, axes: Axis[], cell: number[]): void {
  const before = useRef(cell.join());
  useEffect(() => {
    if (cell.join() === before.current) return;
    before.current = cell.join();
    axes.forEach((axis, k) => {
      if (cell[k] === undefined) return;
      if (axis.role === "layer" || axis.role === "head") select(selection, axis.role, numberAt(axis, cell[k]));
      else if (ofTokens(axis)) select(selection, "token", numberAt(axis, cell[k]));
    });
  }, [cell.join()]);
}

interface TableProps {
  form: PointsForm;
  axes: Axis[];
  cell: number[];
  under: number[] | null;
  onSelect(path: number[]): void;
  onHover(path: number[] | null): void;
}

/** The points that stand out most; the one that is pointed at is marked here and in the map. */
function Table({ form, axes, cell, under, onSelect, onHover }: TableProps) {
  const box = useRef<HTMLDivElement>(null);
  const { ranked, values, errors } = form;
  const chosen = ranked.findIndex((path) => path.join() === cell.join());
  const hovered = under ? ranked.findIndex((path) => path.join() === under.join()) : -1;
  useEffect(() => reveal(box.current, box.current?.querySelector(".nnv-selected")), [chosen]);
  const keys = walker({
    at: [chosen, 0],
    size: [ranked.length, 1],
    go: ([to]) => onSelect(ranked[to]),
    others: { Home: () => onSelect(ranked[0]), End: () => onSelect(ranked[ranked.length - 1]) },
  });
  if (!ranked.length) return <div class="nnv-points-table nnv-dim">nothing was measured yet</div>;
  return (
    <div
      class="nnv-points-table"
      ref={box}
      tabIndex={0}
      role="region"
      aria-label="the points that stand out most; arrow keys walk"
      onKeyDown={keys}>
      <table class="nnv-bars">
        <thead>
          <tr>
            <th scope="col">
              {ranked.length < form.known ? `${ranked.length} of ${form.known} points, by rank` : "points by rank"}
            </th>
            <th scope="col" colSpan={2}>
              value
            </th>
          </tr>
        </thead>
        <tbody>
          {ranked.map((path, k) => {
            const { share, above } = barOf(values[k], values);
            const marks = [k === chosen && "nnv-selected", k === hovered && "nnv-active"].filter(Boolean).join(" ");
            return (
              <tr key={path.join()} class={marks} onMouseEnter={() => onHover(path)} onMouseLeave={() => onHover(null)}>
                <td>
                  <button type="button" tabIndex={-1} aria-pressed={k === chosen} onClick={() => onSelect(path)}>
                    {inWords(axes, path)}
                  </button>
                </td>
                <td class="nnv-p">
                  {number(values[k] ?? Number.NaN)}
                  {errors && <span class="nnv-dim"> ± {number(errors[k] ?? Number.NaN)}</span>}
                </td>
                <td>
                  <span class={`nnv-bar ${above ? "nnv-above" : "nnv-below"}`}>
                    <span style={{ width: `${share * 100}%` }} />
                  </span>
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

/** The point that is selected, and what can be done with it. */
function Point({ model, axes, form, cell }: { model: Model; axes: Axis[]; form: PointsForm; cell: number[] }) {
  const [can] = useTrait<string[]>(model, "can");
  const [said, setSaid] = useState("");
  const [busy, setBusy] = useState(false);
  const at = form.ranked.findIndex((path) => path.join() === cell.join());
  const open = () => {
    setBusy(true);
    setSaid("");
    kernelOf(model)
      .ask("open", { at: cell }, WAIT)
      .catch((error: Error) => setSaid(error.message))
      .finally(() => setBusy(false));
  };
  return (
    <div class="nnv-points-point">
      <b>{inWords(axes, cell)}</b>
      {at >= 0 && <span class="nnv-dim">rank {at + 1}</span>}
      {can.includes("open") && (
        <button type="button" disabled={busy} title="run this point, and the same without its writes" onClick={open}>
          {busy ? "running…" : "open"}
        </button>
      )}
      <AsCell model={model} at={cell} />
      <span role="status" class="nnv-dim">
        {said}
      </span>
    </div>
  );
}

function Opened({ model, axes, selection }: { model: Model; axes: Axis[]; selection: Model | null }) {
  const [references] = useTrait<unknown[]>(model, "opened");
  const [of] = useTrait<number[]>(model, "of");
  const views = useReferred(model, references);
  if (!references.length) return null;
  return (
    <section class="nnv-points-opened" aria-label={`the run of ${inWords(axes, of)}`}>
      {views.map((view, k) => view && <View key={`${k}${String(references[k])}`} model={view} selected={selection} />)}
    </section>
  );
}
