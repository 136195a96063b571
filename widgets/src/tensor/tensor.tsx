// The tensor viewer.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { automatic, type Palette } from "../core/colour";
import { bytes, number, shape as shapeText, visible } from "../core/format";
import { kernelOf, Refused } from "../core/kernel";
import { useTrait } from "../core/model";
import type { Model } from "../core/widget";
import { Menu, Notice, useWidth } from "../core/parts";
import { select, useSelected } from "../core/selection";
import { useGround } from "../core/theme";
import type { About, Statistics, StoredPicture } from "../core/wire";
import { Axes } from "./axes";
import { Details } from "./details";
import { exports } from "./exports";
import { ofTokens, padding, placed, useSpelled, wordAt, type Axis } from "./labels";
import { imageOf, NAME, paint, type Labels, type Scene } from "./paint";
import { extent, outside, valuesAt, type Picture, type Window } from "./picture";
import { usePlanes, type Place } from "./planes";
import { Scale } from "./scale";
import { layoutOf, pan, revealing, valueUnder, whole, zoom, type Layout } from "./viewport";

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
        <b>{model.get("title") || "tensor"}</b> <code>{shapeText(about.shape)}</code> <span class="nnv-dim">{about.dtype}</span>
      </header>
      <Notice text="This tensor has no values: an axis of it has length 0." />
    </section>
  );
}

function Viewer({ model, selection, thumb = false, pane = false, follows = false, ownScale = false, pointed }: Props) {
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
  const [details, setDetails] = useState(false);
  const [said, setSaid] = useState("");
  const alone = useState<[number, number] | null>(null);
  const [hover, setHover] = pointed ?? alone;
  const [measure, width] = useWidth();
  const canvas = useRef<HTMLCanvasElement>(null);
  const stats = useStats(model, part, drawn, index);

  const size: [number, number] = [extent(shape, drawn[0]), extent(shape, drawn[1])];
  const seen = fitting(window, size);
  const room = roomFor(labelsOf(axes, drawn, false, null), size, ordered);
  const layout = useMemo(() => layoutOf(width || 600, size, room, !opened), [width, size.join(), room.left, room.bottom, opened]);
  const ratio = Math.max(1, globalThis.devicePixelRatio || 1);
  const place: Place = { drawn, index, part, ordered };
  const planes = usePlanes(model, place, seen, [Math.round(layout.height * ratio), Math.round(layout.width * ratio)]);
  const labels = useMemo(() => labelsOf(axes, drawn, ordered, planes.order), [axes, drawn, ordered, planes.order]);
  const fitted = automatic(!ownScale && typeof given["min"] === "number" ? given : stats, size);
  const colouring = {
    limits: limits.length === 2 && limits[0] < limits[1] ? (limits as [number, number]) : fitted.limits,
    palette: (chosen === "auto" ? fitted.palette : chosen) as Palette,
    ground,
  };
  const beyond = useMemo(() => (planes.base ? outside(planes.base, colouring.limits) : NONE_OUTSIDE), [planes.base, colouring.limits.join()]);
  const layers = useLayers([planes.base, planes.sharp], colouring);
  const marked = useMarked(selection, axes, drawn);
  const goTo = (axis: number, to: number) => setIndex(index.map((each, k) => (k === axis ? to : each)));
  useFollowed(thumb || follows ? null : selection, axes, drawn, index, setIndex);
  const at: [number, number] | null =
    hover ?? (shape.length === 0 ? [0, 0] : cell.length === shape.length ? [cell[drawn[0]] ?? 0, cell[drawn[1]] ?? 0] : null);

  useEffect(() => {
    if (!canvas.current || !width) return;
    const style = getComputedStyle(canvas.current);
    const scene: Scene = {
      layout, window: seen, layers, labels: opened ? labels : null, cell: opened ? at : null, marked,
      ink: style.color, accent: style.getPropertyValue("--accent") || "#2196f3",
      font: `11px ${style.fontFamily}`,
    };
    paint(canvas.current, scene, ratio);
    const { left, top, width: wide, height: high } = layout;
    // Where the map lies in the canvas, once it has been drawn: for whoever reads its pixels.
    if (layers.length && !planes.pending) canvas.current.dataset["drawn"] = [left, top, wide, high].join();
    else delete canvas.current.dataset["drawn"];
  });

  const move = (row: number, column: number) => {
    const path = index.slice();
    if (drawn[0] >= 0) path[drawn[0]] = row;
    if (drawn[1] >= 0) path[drawn[1]] = column;
    setCell(path);
    const shown = revealing(seen, size, row, column);
    if (shown.join() !== seen.join()) setWindow(shown);
  };
  const changeWindow = (next: Window) => setWindow(next.join() === whole(...size).join() ? [] : next);
  const pointer = usePointer(canvas, layout, seen, size, changeWindow, setHover, (row, column) => {
    move(row, column);
    selectToken(selection, axes, drawn, [row, column]);
  });
  const keys = (event: KeyboardEvent) => {
    const [row, column] = at ?? [seen[0], seen[2]];
    const step = event.shiftKey ? 10 : 1;
    const steps: Record<string, [number, number]> = {
      ArrowUp: [-step, 0], ArrowDown: [step, 0], ArrowLeft: [0, -step], ArrowRight: [0, step],
      Home: [0, -column], End: [0, size[1]], PageUp: [-row, 0], PageDown: [size[0], 0],
    };
    if (steps[event.key]) {
      const [down, across] = steps[event.key];
      setHover(null);
      move(clamp(row + down, size[0]), clamp(column + across, size[1]));
    } else if (event.key === "+" || event.key === "=") changeWindow(zoom(seen, size, 0.5, [row, column]));
    else if (event.key === "-") changeWindow(zoom(seen, size, 2, [row, column]));
    else if (event.key === "0") setWindow([]);
    else return;
    event.preventDefault();
  };

  const title = model.get("title") || "tensor";
  const picture = (
    <canvas
      ref={canvas}
      class="nnv-heat"
      role={thumb ? "presentation" : "img"}
      tabIndex={opened ? 0 : undefined}
      aria-label={thumb ? undefined : `heat map of ${title} ${shapeText(shape)}; arrow keys read values, plus and minus zoom`}
      style={{ width: `${layout.total[0]}px`, height: `${layout.total[1]}px` }}
      {...(thumb ? {} : { onKeyDown: keys, ...pointer })}
    />
  );
  if (!opened) return <div class="nnv-thumb" ref={measure}>{picture}</div>;
  const lead = !pane || !follows;

  const say = (text: string) => {
    setSaid(text);
    setTimeout(() => setSaid(""), 4000);
  };
  return (
    <section class={`nnv-tensor${pane ? " nnv-pane" : ""}`} aria-label={`tensor ${title}`} ref={root}>
      <header>
        <b>{title}</b> <code>{shapeText(shape)}</code>
        {!pane && <span class="nnv-dim">{about.dtype} · {about.device} · {bytes(about.bytes)}</span>}
        {lead && <span class="nnv-tools">
          {about.complex && (
            <select aria-label="part of complex numbers" value={part} onChange={(event) => setPart(event.currentTarget.value)}>
              {["real", "imag", "abs", "angle"].map((each) => <option key={each}>{each}</option>)}
            </select>
          )}
          <button aria-label="zoom out" title="zoom out (-)" disabled={!window.length} onClick={() => changeWindow(zoom(seen, size, 2))}>−</button>
          <button aria-label="zoom in" title="zoom in (+), or Ctrl and the wheel" onClick={() => changeWindow(zoom(seen, size, 0.5, at ?? undefined))}>+</button>
          <button aria-label="show everything" title="show everything (0)" disabled={!window.length} onClick={() => setWindow([])}>⤢</button>
          {!pane && <button aria-pressed={ordered} title="columns by their norm, the largest first" onClick={() => setOrdered(!ordered)}>by norm</button>}
          {!pane && <button aria-pressed={details} aria-expanded={details} title="statistics and histogram" onClick={() => setDetails(!details)}>statistics</button>}
          {!pane && <Menu label="export" items={exports(model, canvas, say, () => ({ title: titleOf(title, axes, drawn, index), window: seen, layout, labels, colouring, outside: beyond, font: getComputedStyle(canvas.current!).fontFamily, ink: getComputedStyle(canvas.current!).color }))}>export ▾</Menu>}
        </span>}
      </header>
      {shape.length > 0 && lead && (
        <Axes
          axes={axes} drawn={drawn} index={index}
          onDrawn={(next) => { setWindow([]); setDrawn(next); }}
          onIndex={(axis, to) => { goTo(axis, to); selectPlace(selection, axes[axis].role, to); }}
          onRole={(axis, role) => setAxes(axes.map((each, k) => (k === axis ? { ...each, role } : each)))}
        />
      )}
      <div class="nnv-plot" ref={measure} style={{ minHeight: `${layout.total[1]}px` }}>{picture}</div>
      <footer>
        <Readout model={model} at={at} axes={axes} drawn={drawn} index={index} planes={planes.known} place={place} order={planes.order} />
        {lead && <Scale
          limits={colouring.limits} automatic={limits.length !== 2} palette={colouring.palette} chosen={chosen}
          range={stats.min === undefined || stats.max === undefined ? null : [stats.min, stats.max]}
          outside={beyond} ground={ground} nan={marksIn(stats, "nan", "NaN")} inf={marksIn(stats, "inf", "±∞")} onLimits={setLimits} onPalette={setPalette}
        />}
      </footer>
      {details && <Details model={model} stats={stats} place={place} axes={axes} />}
      {(said || planes.trouble || model.get("notice")) && <Notice text={said || planes.trouble || model.get("notice")} />}
    </section>
  );
}

const NONE_OUTSIDE: [boolean, boolean] = [false, false];

const clamp = (at: number, size: number) => Math.min(size - 1, Math.max(0, at));

/** A window from the trait, or everything where the trait is empty or makes no sense. */
function fitting(window: number[], [rows, columns]: [number, number]): Window {
  const [top, bottom, left, right] = window;
  const fits = window.length === 4 && top >= 0 && top < bottom && bottom <= rows && left >= 0 && left < right && right <= columns;
  return fits ? (window as Window) : whole(rows, columns);
}

/** How many there are, or only that there are some. */
function marksIn(stats: Statistics, kind: "nan" | "inf", name: string): string {
  if (stats[kind]) return `${stats[kind]} ${name}`;
  return stats.some?.includes(kind) ? name : "";
}

/** Columns by their norm are named by what they are, once that is known. */
function labelsOf(axes: Axis[], drawn: [number, number], ordered: boolean, order: ArrayLike<number> | null): Labels {
  const of = (axis: number) => (axis < 0 ? [] : axes[axis].labels);
  const name = (axis: number) => (axis < 0 ? "" : axes[axis].role === "axis" ? `axis ${axis}` : axes[axis].role);
  const columns = of(drawn[1]);
  const names: [string, string] = [name(drawn[0]), name(drawn[1])];
  if (!ordered) return { rows: of(drawn[0]), columns, names };
  const named = Array.from(order ?? [], (at) => columns[at] ?? String(at));
  return { rows: of(drawn[0]), columns: named, names: [names[0], order || !drawn[1] ? `${names[1]}, by norm` : ""] };
}

function roomFor(labels: Labels, [rows, columns]: [number, number], ordered: boolean): { left: number; bottom: number } {
  const longest = (words: string[]) => Math.min(12, Math.max(...words.map((word) => visible(word).length)));
  const [down, across] = labels.names;
  const upright = labels.columns.length ? longest(labels.columns) : ordered ? String(columns - 1).length : 0;
  return {
    left: !down ? 4 : 14 + NAME + (labels.rows.length ? longest(labels.rows) * 6.8 : String(rows - 1).length * 6.5),
    bottom: !across ? 4 : NAME + (upright ? 8 + upright * 6.5 : 18),
  };
}

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
    kernelOf(model).ask("stats", { part, drawn, index }).then(({ info }) => setOther((all) => ({ ...all, [key]: info["stats"] })), () => {});
  }, [key]);
  const { drawn: _, ...rest } = stats;
  return own ? stats : (other[key] ?? (same ? rest : stats));
}

function useLayers(pictures: (Picture | null)[], colouring: Parameters<typeof imageOf>[1]) {
  const cache = useRef(new WeakMap<Picture, { key: string; image: HTMLCanvasElement }>()).current;
  const key = `${colouring.limits}${colouring.palette}${colouring.ground}`;
  return pictures.flatMap((picture) => {
    if (!picture) return [];
    let found = cache.get(picture);
    if (!found || found.key !== key) cache.set(picture, (found = { key, image: imageOf(picture, colouring) }));
    return [{ picture, image: found.image }];
  });
}

/** The row and column of the token that is selected in some view. */
function useMarked(selection: Model | null, axes: Axis[], drawn: [number, number]) {
  const [token] = useSelected(selection, "token");
  const on = (axis: number) => {
    if (token < 0 || !ofTokens(axes[axis])) return null;
    const at = token + padding(axes[axis]);
    return at < axes[axis].labels.length ? at : null;
  };
  return { rows: on(drawn[0]), columns: on(drawn[1]) };
}

const FOLLOWED = ["step", "head"] as const;

/** The place on step and head axes is that of the selection, once there is one. */
function useFollowed(
  selection: Model | null, axes: Axis[], drawn: [number, number], index: number[], setIndex: (index: number[]) => void,
): void {
  const latest = useRef({ axes, drawn, index });
  latest.current = { axes, drawn, index };
  useEffect(() => {
    if (!selection) return;
    const changed = () => {
      const now = latest.current;
      const next = now.index.map((at, axis) => {
        const role = FOLLOWED.find((each) => each === now.axes[axis].role);
        const to = role && !now.drawn.includes(axis) ? (selection.get(role) as number) : -1;
        return to >= 0 && to < now.axes[axis].size ? to : at;
      });
      if (next.join() !== now.index.join()) setIndex(next);
    };
    changed();
    FOLLOWED.forEach((role) => selection.on(`change:${role}`, changed));
    return () => FOLLOWED.forEach((role) => selection.off(`change:${role}`, changed));
  }, [selection]);
}

function selectPlace(selection: Model | null, role: string, to: number): void {
  const followed = FOLLOWED.find((each) => each === role);
  if (followed) select(selection, followed, to);
}

function selectToken(selection: Model | null, axes: Axis[], drawn: [number, number], at: [number, number]): void {
  const way = drawn.findIndex((axis) => ofTokens(axes[axis]));
  const token = way < 0 ? -1 : at[way] - padding(axes[drawn[way]]);
  if (token >= 0) select(selection, "token", token);
}

function usePointer(
  canvas: { current: HTMLCanvasElement | null },
  layout: Layout,
  window: Window,
  size: [number, number],
  setWindow: (window: Window) => void,
  setHover: (at: [number, number] | null) => void,
  pick: (row: number, column: number) => void,
) {
  const drag = useRef<{ x: number; y: number; window: Window; moved: boolean } | null>(null);
  const latest = useRef({ layout, window, size, setWindow });
  latest.current = { layout, window, size, setWindow };
  const under = (event: MouseEvent) => {
    const box = canvas.current!.getBoundingClientRect();
    return valueUnder(layout, window, event.clientX - box.left, event.clientY - box.top);
  };
  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    // The wheel alone scrolls the notebook; with Ctrl or ⌘ it zooms here.
    const wheel = (event: WheelEvent) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const now = latest.current;
      const box = element.getBoundingClientRect();
      const at = valueUnder(now.layout, now.window, event.clientX - box.left, event.clientY - box.top);
      now.setWindow(zoom(now.window, now.size, event.deltaY > 0 ? 1.25 : 0.8, at ?? undefined));
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => element.removeEventListener("wheel", wheel);
  }, [canvas.current]);
  return {
    onPointerDown: (event: PointerEvent) => {
      if (event.button !== 0) return;
      drag.current = { x: event.clientX, y: event.clientY, window, moved: false };
      canvas.current!.setPointerCapture(event.pointerId);
    },
    onPointerMove: (event: PointerEvent) => {
      const start = drag.current;
      if (!start) return setHover(under(event));
      const down = ((start.y - event.clientY) / layout.height) * (window[1] - window[0]);
      const across = ((start.x - event.clientX) / layout.width) * (window[3] - window[2]);
      if (Math.hypot(event.clientX - start.x, event.clientY - start.y) > 4) start.moved = true;
      if (start.moved) setWindow(pan(start.window, size, down, across));
    },
    onPointerUp: (event: PointerEvent) => {
      const found = under(event);
      if (drag.current && !drag.current.moved && found) pick(...found);
      drag.current = null;
    },
    onPointerLeave: () => setHover(null),
    onDblClick: (event: MouseEvent) => setWindow(zoom(window, size, 0.5, under(event) ?? undefined)),
  };
}

interface ReadoutProps {
  model: Model;
  at: [number, number] | null;
  axes: Axis[];
  drawn: [number, number];
  index: number[];
  planes: Picture[];
  place: Place;
  order: ArrayLike<number> | null;
}

/** The value under the pointer or the cursor, with its index path: at once as it is drawn, exactly
 * as soon as the kernel has said it. */
function Readout({ model, at, axes, drawn, index, planes, place, order }: ReadoutProps) {
  const path = index.slice();
  if (at && drawn[0] >= 0) path[drawn[0]] = at[0];
  if (at && drawn[1] >= 0) path[drawn[1]] = order ? order[at[1]] : at[1];
  const [exact, setExact] = useState<{ key: string; text: string; index: number[]; words?: (string | null)[] } | null>(null);
  const spelled = useSpelled(model);
  const key = at ? `${path}|${place.part}|${place.ordered}` : "";
  useEffect(() => {
    if (!at || model.get("about").complex && place.part !== "real" || kernelOf(model).cut) return;
    const timer = setTimeout(() => {
      const ordered = place.ordered && !order;
      kernelOf(model).ask("text", { ...place, index: path, ordered }).then(
        ({ info }) => setExact({ key, text: String(info["text"]), index: info["index"], words: info["words"] }),
        (error) => { if (error instanceof Refused) setExact({ key, text: "", index: path }); },
      );
    }, 90);
    return () => clearTimeout(timer);
  }, [key]);
  if (!at) return <output class="nnv-readout nnv-dim" aria-live="polite">point at a value</output>;
  const found = planes.map((picture) => valuesAt(picture, at[0], at[1])).find(Boolean);
  const known = exact?.key === key && exact.text ? exact : null;
  const shown = known?.index ?? path;
  const words = shown.map((place, axis) => {
    const label = known?.words?.[axis] ?? (axes[axis]?.role === "vocabulary" ? spelled?.[place] : wordAt(axes, axis, shown));
    return label === undefined || label === null ? null : <span class="nnv-token" key={axis}>{visible(label)}</span>;
  });
  const about = !found ? "" : found[0] === found[1] ? `≈ ${number(found[0])}` : `${number(found[0])} … ${number(found[1])}`;
  return (
    <output class="nnv-readout" aria-live="polite">
      <code>[{shown.join(", ")}]</code>
      {words} <b>{known ? known.text.replace("-", "−") : about}</b>
    </output>
  );
}

/** The name of a picture: the tensor's, with the place on the axes that are not drawn. */
function titleOf(title: string, axes: Axis[], drawn: [number, number], index: number[]): string {
  const shape = axes.map((axis) => axis.size);
  const places = axes.flatMap((axis, k) =>
    drawn.includes(k) || axis.size < 2 ? [] : [`${axis.role === "axis" ? `axis ${k}` : axis.role} ${index[k]}`],
  );
  return [`${title} ${shapeText(shape)}`, ...places].join(", ");
}
