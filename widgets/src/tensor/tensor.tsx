// The tensor viewer.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { automatic, type Palette } from "../core/colour";
import { bytes, shape as shapeText } from "../core/format";
import { kernelOf } from "../core/kernel";
import { useTrait } from "../core/model";
import { Menu, Notice, useWidth } from "../core/parts";
import { useGround } from "../core/theme";
import { walker } from "../core/walk";
import type { Model } from "../core/widget";
import type { About, Statistics, StoredPicture } from "../core/wire";
import { Axes } from "./axes";
import { BAR_ROOM, barred, reachOf } from "./bars";
import { Details } from "./details";
import type { Scene } from "./drawn";
import { exports } from "./exports";
import { selectPlace, selectToken, useFollowed, useMarked } from "./following";
import { type Axis, placed } from "./labels";
import { imageOf, paint } from "./paint";
import { extent, outside, type Picture, type Window } from "./picture";
import { type Place, usePlanes } from "./planes";
import { usePointer } from "./pointer";
import { pathAt, Readout } from "./readout";
import { Scale } from "./scale";
import { fitting, labelsOf, marksIn, roomFor, titleOf } from "./scene";
import { layoutOf, revealing, whole, zoom } from "./viewport";

interface Props {
  model: Model;
  selection: Model | null;
  /** only the picture, small */
  thumb?: boolean;
  /** one of several side by side: fewer controls */
  pane?: boolean;
  /** a pane whose place another one sets */
  follows?: boolean;
  /** colours by the tensor's own values, whatever scale it was given */
  ownScale?: boolean;
  /** a pane that shows its scale all the same */
  scaled?: boolean;
  /** the value pointed at in all panes, by row and column, and what sets it */
  pointed?: Pointed;
}

export type Pointed = [at: [number, number] | null, set: (at: [number, number] | null) => void];

export function TensorView(props: Props) {
  const { model } = props;
  const about = model.get("about") as About;
  if (about.size === 0) return <Empty model={model} about={about} />;
  return <Viewer {...props} />;
}

function Empty({ model, about }: { model: Model; about: About }) {
  return (
    <section class="nnv-tensor" aria-label={`tensor ${model.get("title")}`}>
      <header>
        <b>{model.get("title") || "tensor"}</b> <code>{shapeText(about.shape)}</code>{" "}
        <span class="nnv-dim">{about.dtype}</span>
      </header>
      <Notice text="This tensor has no values: an axis of it has length 0." />
    </section>
  );
}

function Viewer({
  model,
  selection,
  thumb = false,
  pane = false,
  follows = false,
  ownScale = false,
  scaled = false,
  pointed,
}: Props) {
  const about = model.get("about") as About;
  const shape = about.shape;
  const root = useRef<HTMLElement>(null);
  const ground = useGround(() => root.current);
  const [roles, setAxes] = useTrait<Axis[]>(model, "axes");
  const [drawn, setDrawn] = useTrait<[number, number]>(model, "drawn");
  const [index, setIndex] = useTrait<number[]>(model, "index");
  const axes = useMemo(() => placed(roles, drawn, index), [roles, drawn, index]);
  const [window, setWindow] = useTrait<number[]>(model, "window");
  const [limits, setLimits] = useTrait<number[]>(model, "limits");
  const [chosen, setPalette] = useTrait<string>(model, "palette");
  const [part, setPart] = useTrait<string>(model, "part");
  const [ordered, setOrdered] = useTrait<boolean>(model, "ordered");
  const [cell, setCell] = useTrait<number[]>(model, "cell");
  const [unfolded] = useTrait<boolean>(model, "opened");
  const opened = unfolded && !thumb;
  const [given] = useTrait<Record<string, any>>(model, "scale");
  const [empty] = useTrait<string>(model, "empty");
  const [spread] = useTrait<number[]>(model, "spread");
  const [details, setDetails] = useState(false);
  const [said, setSaid] = useState("");
  const alone = useState<[number, number] | null>(null);
  const [hover, setHover] = pointed ?? alone;
  const [measure, width] = useWidth();
  const canvas = useRef<HTMLCanvasElement>(null);
  const stats = useStats(model, part, drawn, index);

  const size: [number, number] = [extent(shape, drawn[0]), extent(shape, drawn[1])];
  const seen = fitting(window, size);
  const bars = opened && barred(drawn, size);
  const words = roomFor(labelsOf(axes, drawn, false, null), size, ordered);
  const room = bars ? { ...words, left: BAR_ROOM } : words;
  const layout = useMemo(
    () => layoutOf(width || 600, size, room, !opened, bars),
    [width, size.join(), room.left, room.bottom, opened, bars],
  );
  const ratio = Math.max(1, globalThis.devicePixelRatio || 1);
  const place: Place = { drawn, index, part, ordered };
  const planes = usePlanes(model, place, seen, [Math.round(layout.height * ratio), Math.round(layout.width * ratio)]);
  const labels = useMemo(() => labelsOf(axes, drawn, ordered, planes.order), [axes, drawn, ordered, planes.order]);
  const fitted = automatic(!ownScale && typeof given["min"] === "number" ? given : stats, size);
  const colouring = {
    limits: limits.length === 2 && limits[0] < limits[1] ? (limits as [number, number]) : fitted.limits,
    palette: (chosen === "auto" ? fitted.palette : chosen) as Palette,
    ground,
    empty: empty !== "",
  };
  const reach = bars ? reachOf(typeof given["min"] === "number" ? given : stats, limits) : null;
  const beyond = useMemo(
    () => (planes.base ? outside(planes.base, reach ?? colouring.limits) : NONE_OUTSIDE),
    [planes.base, (reach ?? colouring.limits).join()],
  );
  const layers = useLayers([planes.base, planes.sharp], colouring);
  const marked = useMarked(selection, axes, drawn);
  const goTo = (axis: number, to: number) => setIndex(index.map((each, k) => (k === axis ? to : each)));
  useFollowed(thumb || follows ? null : selection, model, axes, drawn, setIndex);
  const at: [number, number] | null =
    hover ??
    (shape.length === 0 ? [0, 0] : cell.length === shape.length ? [cell[drawn[0]] ?? 0, cell[drawn[1]] ?? 0] : null);

  useEffect(() => {
    if (!canvas.current || !width) return;
    const style = getComputedStyle(canvas.current);
    const scene: Scene = {
      layout,
      window: seen,
      layers,
      labels: opened ? labels : null,
      cell: opened ? at : null,
      marked,
      bars: reach && { reach, spread, colouring },
      ink: style.color,
      accent: style.getPropertyValue("--accent") || "#2196f3",
      font: `11px ${style.fontFamily}`,
    };
    paint(canvas.current, scene, ratio);
    const { left, top, width: wide, height: high } = layout;
    // Where the map lies in the canvas, once it has been drawn: for whoever reads its pixels.
    if (layers.length && !planes.pending) canvas.current.dataset["drawn"] = [left, top, wide, high].join();
    else delete canvas.current.dataset["drawn"];
  });

  const move = (row: number, column: number) => {
    setCell(pathAt([row, column], drawn, index, null));
    const shown = revealing(seen, size, row, column);
    if (shown.join() !== seen.join()) setWindow(shown);
  };
  const changeWindow = (next: Window) => setWindow(next.join() === whole(...size).join() ? [] : next);
  const pointer = usePointer(canvas, layout, seen, size, changeWindow, setHover, (row, column) => {
    move(row, column);
    selectToken(selection, axes, drawn, [row, column]);
  });
  const from = at ?? [seen[0], seen[2]];
  const nearer = () => changeWindow(zoom(seen, size, 0.5, from));
  const keys = walker({
    at: from,
    size,
    go: (to) => {
      setHover(null);
      move(...to);
    },
    others: { "+": nearer, "=": nearer, "-": () => changeWindow(zoom(seen, size, 2, from)), "0": () => setWindow([]) },
  });

  const title = model.get("title") || "tensor";
  const picture = (
    <canvas
      ref={canvas}
      class="nnv-heat"
      role={thumb ? "presentation" : "img"}
      tabIndex={opened ? 0 : undefined}
      aria-label={
        thumb ? undefined : `heat map of ${title} ${shapeText(shape)}; arrow keys read values, plus and minus zoom`
      }
      style={{ width: `${layout.total[0]}px`, height: `${layout.total[1]}px` }}
      {...(thumb ? {} : { onKeyDown: keys, ...pointer })}
    />
  );
  if (!opened)
    return (
      <div class="nnv-thumb" ref={measure}>
        {picture}
      </div>
    );
  const lead = !pane || !follows;

  const say = (text: string) => {
    setSaid(text);
    setTimeout(() => setSaid(""), 4000);
  };
  return (
    <section class={`nnv-tensor${pane ? " nnv-pane" : ""}`} aria-label={`tensor ${title}`} ref={root}>
      <header>
        <b>{title}</b> <code>{shapeText(shape)}</code>
        {!pane && (
          <span class="nnv-dim">
            {about.dtype} · {about.device} · {bytes(about.bytes)}
          </span>
        )}
        {lead && (
          <span class="nnv-tools">
            {about.complex && (
              <select
                aria-label="part of complex numbers"
                value={part}
                onChange={(event) => setPart(event.currentTarget.value)}>
                {["real", "imag", "abs", "angle"].map((each) => (
                  <option key={each}>{each}</option>
                ))}
              </select>
            )}
            <button
              type="button"
              aria-label="zoom out"
              title="zoom out (-)"
              disabled={!window.length}
              onClick={() => changeWindow(zoom(seen, size, 2))}>
              −
            </button>
            <button
              type="button"
              aria-label="zoom in"
              title="zoom in (+), or Ctrl and the wheel"
              onClick={() => changeWindow(zoom(seen, size, 0.5, at ?? undefined))}>
              +
            </button>
            <button
              type="button"
              aria-label="show everything"
              title="show everything (0)"
              disabled={!window.length}
              onClick={() => setWindow([])}>
              ⤢
            </button>
            {!pane && (
              <button
                type="button"
                aria-pressed={ordered}
                title="columns by their norm, the largest first"
                onClick={() => setOrdered(!ordered)}>
                by norm
              </button>
            )}
            {!pane && (
              <button
                type="button"
                aria-pressed={details}
                aria-expanded={details}
                title="statistics and histogram"
                onClick={() => setDetails(!details)}>
                statistics
              </button>
            )}
            {!pane && (
              <Menu
                label="export"
                items={exports(model, canvas, say, () => ({
                  title: titleOf(title, axes, drawn, index),
                  window: seen,
                  layout,
                  labels,
                  colouring,
                  outside: beyond,
                  font: getComputedStyle(canvas.current!).fontFamily,
                  ink: getComputedStyle(canvas.current!).color,
                }))}>
                export ▾
              </Menu>
            )}
          </span>
        )}
      </header>
      {shape.length > 0 && lead && (
        <Axes
          axes={axes}
          drawn={drawn}
          index={index}
          onDrawn={(next) => {
            setWindow([]);
            setDrawn(next);
          }}
          onIndex={(axis, to) => {
            goTo(axis, to);
            selectPlace(selection, axes[axis], to);
          }}
          onRole={(axis, role) => setAxes(axes.map((each, k) => (k === axis ? { ...each, role } : each)))}
        />
      )}
      <div class="nnv-plot" ref={measure} style={{ minHeight: `${layout.total[1]}px` }}>
        {picture}
      </div>
      <footer>
        <Readout
          model={model}
          at={at}
          axes={axes}
          drawn={drawn}
          index={index}
          planes={planes.known}
          place={place}
          order={planes.order}
        />
        {(lead || scaled) && (
          <Scale
            limits={reach ?? colouring.limits}
            bars={bars}
            automatic={limits.length !== 2}
            palette={colouring.palette}
            chosen={chosen}
            range={stats.min === undefined || stats.max === undefined ? null : [stats.min, stats.max]}
            outside={beyond}
            ground={ground}
            nan={marksIn(stats, "nan", empty || "NaN")}
            empty={empty !== ""}
            inf={marksIn(stats, "inf", "±∞")}
            onLimits={setLimits}
            onPalette={setPalette}
          />
        )}
      </footer>
      {details && <Details model={model} stats={stats} place={place} axes={axes} />}
      {(said || planes.trouble || model.get("notice")) && (
        <Notice text={said || planes.trouble || model.get("notice")} />
      )}
    </section>
  );
}

const NONE_OUTSIDE: [boolean, boolean] = [false, false];

/** Statistics: the stored ones, or from the kernel, of another part of complex numbers or for the
 * colours of planes along other axes. */
function useStats(model: Model, part: string, drawn: [number, number], index: number[]): Statistics {
  const [stats] = useTrait<Statistics>(model, "stats");
  const [other, setOther] = useState<Record<string, Statistics>>({});
  const stored = model.get("stored") as StoredPicture;
  const same = stored.part === part;
  const own = same && (stored.axes ?? drawn).join() === drawn.join();
  const key = `${part}|${drawn}`;
  useEffect(() => {
    if (own || other[key]) return;
    kernelOf(model)
      .ask("stats", { part, drawn, index })
      .then(
        ({ info }) => setOther((all) => ({ ...all, [key]: info["stats"] })),
        () => {},
      );
  }, [key]);
  const { drawn: _, ...rest } = stats;
  return own ? stats : (other[key] ?? (same ? rest : stats));
}

function useLayers(pictures: (Picture | null)[], colouring: Parameters<typeof imageOf>[1]) {
  const cache = useRef(new WeakMap<Picture, { key: string; image: HTMLCanvasElement }>()).current;
  const key = `${colouring.limits}${colouring.palette}${colouring.ground}${colouring.empty}`;
  return pictures.flatMap((picture) => {
    if (!picture) return [];
    let found = cache.get(picture);
    if (!found || found.key !== key) {
      found = { key, image: imageOf(picture, colouring) };
      cache.set(picture, found);
    }
    return [{ picture, image: found.image }];
  });
}
