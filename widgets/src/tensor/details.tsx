// Statistics of a tensor, its histogram, and the means and norms of its rows and columns.
import { useEffect, useState } from "preact/hooks";
import { count, number } from "../core/format";
import { floatsOf, kernelOf } from "../core/kernel";
import { Histogram } from "../core/parts";
import type { Model } from "../core/widget";
import type { Axis } from "./labels";
import { keyOf, type Place } from "./planes";

interface Props {
  model: Model;
  stats: Record<string, any>;
  place: Place;
  axes: Axis[];
}

export function Details({ model, stats: quick, place, axes }: Props) {
  const stats = useExact(model, quick, place.part);
  const [margins, setMargins] = useState<Float32Array[] | null>(null);
  const [refused, setRefused] = useState("");
  const key = keyOf(place);
  useEffect(() => {
    let current = true;
    kernelOf(model)
      .ask("margins", { ...place })
      .then(
        ({ buffers }) => {
          if (current) {
            setMargins(buffers.map(floatsOf));
            setRefused("");
          }
        },
        (error: Error) => {
          if (current) {
            setMargins(null);
            setRefused(error.message);
          }
        },
      );
    return () => {
      current = false;
    };
  }, [key]);
  const rows: [string, string][] = [
    ["values", count(stats["count"])],
    ...(["min", "max", "mean", "std", "norm"] as const)
      .filter((name) => typeof stats[name] === "number")
      .map((name): [string, string] => [name, number(stats[name])]),
    ["zero", count(stats["zero"] ?? 0)],
    ["NaN", count(stats["nan"] ?? 0)],
    ["±∞", count(stats["inf"] ?? 0)],
  ];
  return (
    <div class="nnv-details">
      <table>
        <tbody>
          {rows.map(([name, value]) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td>{value}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {stats["histogram"] && (
        <div>
          <Histogram counts={stats["histogram"]} ends={stats["bins"]} format={number} />
          <p class="nnv-dim">
            square root of the counts; the ends hold what lies outside
            {quick["looked_at"] < quick["count"] && `; from a sample of ${count(quick["looked_at"])}`}
          </p>
        </div>
      )}
      <div class="nnv-margins">
        {margins && margins.length === 4 && (
          <>
            <Profile name={`norm of each ${nameOf(axes, place.drawn[0], "row")}`} values={margins[1]} />
            <Profile name={`norm of each ${nameOf(axes, place.drawn[1], "column")}`} values={margins[3]} />
            <Profile name={`mean of each ${nameOf(axes, place.drawn[0], "row")}`} values={margins[0]} />
            <Profile name={`mean of each ${nameOf(axes, place.drawn[1], "column")}`} values={margins[2]} />
          </>
        )}
        {refused && <p class="nnv-dim">{refused}</p>}
      </div>
    </div>
  );
}

/** Statistics over every value, once the kernel has gone through them; the sampled ones before. */
function useExact(model: Model, quick: Record<string, any>, part: string): Record<string, any> {
  const [exact, setExact] = useState<{ part: string; stats: Record<string, any> } | null>(null);
  useEffect(() => {
    if (!(quick["looked_at"] < quick["count"])) return;
    kernelOf(model)
      .ask("stats", { part, exact: true })
      .then(
        ({ info }) => setExact({ part, stats: info["stats"] }),
        () => {},
      );
  }, [part]);
  return exact?.part === part ? exact.stats : quick;
}

const nameOf = (axes: Axis[], axis: number, otherwise: string) =>
  axis < 0 || axes[axis].role === "axis" ? otherwise : axes[axis].role;

const WIDTH = 192;
const HEIGHT = 30;

/** A line of values along an axis; spikes survive where there are more values than pixels. */
function Profile({ name, values }: { name: string; values: Float32Array }) {
  const finite = values.filter((value) => Number.isFinite(value));
  if (!finite.length) return null;
  let [low, high] = [Math.min(0, finite[0]), Math.max(0, finite[0])];
  for (const value of finite) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const y = (value: number) => HEIGHT - ((value - low) / (high - low || 1)) * HEIGHT;
  const columns = Math.min(values.length, WIDTH);
  const bars = Array.from({ length: columns }, (_, k) => {
    const part = values.subarray(
      Math.floor((k * values.length) / columns),
      Math.max(Math.floor(((k + 1) * values.length) / columns), Math.floor((k * values.length) / columns) + 1),
    );
    let salient = 0;
    for (const value of part) if (Number.isFinite(value) && Math.abs(value) > Math.abs(salient)) salient = value;
    return salient;
  });
  const step = WIDTH / columns;
  let most = 0;
  values.forEach((value, k) => {
    if (Math.abs(value) > Math.abs(values[most])) most = k;
  });
  return (
    <figure class="nnv-histogram">
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        role="img"
        aria-label={`${name}: largest ${number(values[most])} at ${most}`}>
        {bars.map((value, k) => (
          <rect
            key={k}
            x={k * step}
            y={Math.min(y(value), y(0))}
            width={Math.max(0.6, step - (step > 3 ? 1 : 0))}
            height={Math.max(0.5, Math.abs(y(value) - y(0)))}
          />
        ))}
      </svg>
      <figcaption>
        <span>{name}</span>
        <span>
          {number(values[most])} at {most}
        </span>
      </figcaption>
    </figure>
  );
}
