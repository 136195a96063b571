// Lines over places: measured numbers with intervals, beside what they are read against.
import { useEffect, useState } from "preact/hooks";
import { useTrait } from "../core/model";
import { usePacked } from "../core/packed";
import { Notice } from "../core/parts";
import { useSelected } from "../core/selection";
import { walker } from "../core/walk";
import type { Model } from "../core/widget";
import type { ChartForm, LineForm } from "../core/wire";
import { HEIGHT, inWords, LEFT, placeAt, RIGHT, ranges, runs, TOP, ticks, WIDTH, xOf, yOf } from "./drawn";

export function ChartView({ model, selection }: { model: Model; selection: Model | null }) {
  const [form, trouble] = usePacked(model, (stored: ChartForm) => stored);
  const [notices] = useTrait<string[]>(model, "notices");
  const title = model.get("title") as string;
  if (trouble) return <Notice text={trouble} />;
  if (!form) return <section aria-busy="true" style={{ minHeight: "260px" }} />;
  return (
    <section class="nnv-chart" aria-label={title}>
      <header>
        <b>{title}</b>
      </header>
      {notices.map((text, k) => (
        <div class="nnv-dim" key={k}>
          {text}
        </div>
      ))}
      <Plot model={model} form={form} selection={selection} title={title} />
      <Legend form={form} />
    </section>
  );
}

interface PlotProps {
  model: Model;
  form: ChartForm;
  selection: Model | null;
  title: string;
}

function Plot({ model, form, selection, title }: PlotProps) {
  const [place, setPlace] = useTrait<number>(model, "place");
  const [layer, setLayer] = useSelected(selection, "layer");
  const [hover, setHover] = useState(-1);
  const count = form.labels.length;
  useEffect(() => {
    const at = form.numbers?.indexOf(layer) ?? -1;
    if (at >= 0 && at !== place) setPlace(at);
  }, [layer]);
  const go = (at: number) => {
    setPlace(at);
    if (form.numbers) setLayer(form.numbers[at]);
  };
  const under = (event: PointerEvent) => placeAt(event.currentTarget as Element, event.clientX, count);
  const keys = walker({
    at: [0, Math.max(place, 0)],
    size: [1, count],
    go: ([, to]) => go(to),
    others: { Home: () => go(0), End: () => go(count - 1) },
  });
  const shown = hover >= 0 ? hover : place;
  return (
    <>
      <div
        class="nnv-chart-plot"
        tabIndex={0}
        role="group"
        aria-label={`${title}, by ${form.across}; arrow keys walk`}
        onKeyDown={keys}
        onPointerMove={(event) => setHover(under(event))}
        onPointerLeave={() => setHover(-1)}
        onClick={(event) => go(under(event as unknown as PointerEvent))}>
        <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true">
          <Grid form={form} />
          {form.lines
            .filter((line) => line.role === "spread")
            .map((line) => (
              <Ground key={line.name} line={line} />
            ))}
          {form.levels.map(([name, value]) => (
            <line class="nnv-chart-level" key={name} x1={LEFT} x2={WIDTH - RIGHT} y1={yOf(value)} y2={yOf(value)} />
          ))}
          {[...form.lines].reverse().map((line) => (
            <Drawn key={line.name} line={line} />
          ))}
          {shown >= 0 && (
            <line class="nnv-chart-at" x1={xOf(shown, count)} x2={xOf(shown, count)} y1={TOP} y2={yOf(0)} />
          )}
        </svg>
      </div>
      <output class="nnv-facts" aria-live="polite">
        {shown >= 0 ? inWords(form, shown) : `point at a ${form.across} to read its numbers`}
      </output>
    </>
  );
}

function Grid({ form }: { form: ChartForm }) {
  const count = form.labels.length;
  return (
    <>
      {[0, 0.25, 0.5, 0.75, 1].map((value) => (
        <g key={value}>
          <line class="nnv-chart-grid" x1={LEFT} x2={WIDTH - RIGHT} y1={yOf(value)} y2={yOf(value)} />
          <text x={LEFT - 5} y={yOf(value) + 4} text-anchor="end">
            {value}
          </text>
        </g>
      ))}
      {ticks(count).map((at) => (
        <text key={at} x={xOf(at, count)} y={yOf(0) + 15} text-anchor="middle">
          {form.labels[at].slice(0, 12)}
        </text>
      ))}
      <text x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 4} text-anchor="middle">
        {form.across}
      </text>
    </>
  );
}

function Ground({ line }: { line: LineForm }) {
  const points = ranges(line);
  return points ? <polygon class="nnv-chart-ground" points={points} /> : null;
}

function Drawn({ line }: { line: LineForm }) {
  const count = line.values.length;
  const { values, low, high } = line;
  const marked = line.role === "main" || count === 1;
  return (
    <g class={`nnv-chart-line nnv-chart-${line.role}`}>
      {runs(values).map((run) => (
        <polyline key={run[0]} points={run.map((at) => `${xOf(at, count)},${yOf(values[at]!)}`).join(" ")} />
      ))}
      {marked &&
        values.map((value, at) =>
          value === null ? null : (
            <g key={at}>
              {line.role === "main" && low && high && low[at] !== null && high[at] !== null && (
                <line x1={xOf(at, count)} x2={xOf(at, count)} y1={yOf(low[at]!)} y2={yOf(high[at]!)} />
              )}
              <circle cx={xOf(at, count)} cy={yOf(value)} r={3} />
            </g>
          ),
        )}
    </g>
  );
}

function Legend({ form }: { form: ChartForm }) {
  return (
    <div class="nnv-chart-legend">
      {form.lines.map((line) => (
        <span key={line.name}>
          <svg class={`nnv-chart-line nnv-chart-${line.role}`} viewBox="0 0 24 10" aria-hidden="true">
            {line.role === "spread" && <rect class="nnv-chart-ground" width="24" height="10" />}
            <polyline points="0,5 24,5" />
          </svg>
          {line.name}
        </span>
      ))}
      {form.levels.map(([name, value]) => (
        <span key={name}>
          <svg viewBox="0 0 24 10" aria-hidden="true">
            <line class="nnv-chart-level" x1={0} x2={24} y1={5} y2={5} />
          </svg>
          {name} {value.toFixed(2)}
        </span>
      ))}
    </div>
  );
}
