// The axes of a tensor: which are drawn, what they stand for, and where on the others one is.
import { visible } from "../core/format";
import type { Axis } from "./labels";

const ROLES = ["batch", "prompt", "step", "token", "query", "key", "head", "feature", "vocabulary", "axis"];

interface Props {
  axes: Axis[];
  drawn: [number, number];
  index: number[];
  onDrawn(drawn: [number, number]): void;
  onIndex(axis: number, at: number): void;
  onRole(axis: number, role: string): void;
}

export function Axes({ axes, drawn, index, onDrawn, onIndex, onRole }: Props) {
  /** Draws an axis; where it was drawn the other way, the two change places. */
  const draw = (axis: number, way: 0 | 1) => {
    const next: [number, number] = [...drawn];
    if (next[1 - way] === axis) next[1 - way] = next[way];
    next[way] = axis;
    onDrawn(next);
  };
  return (
    <div class="nnv-axes">
      {axes.map((axis, k) => {
        const name = axis.role === "axis" ? `axis ${k}` : axis.role;
        const roles = ROLES.includes(axis.role) ? ROLES : [axis.role, ...ROLES];
        const sliding = !drawn.includes(k) && axis.size > 1;
        return (
          <span class={`nnv-axis${drawn.includes(k) ? " nnv-drawn" : ""}`} key={k}>
            <select
              aria-label={`what axis ${k} stands for`}
              value={axis.role}
              onChange={(event) => onRole(k, event.currentTarget.value)}>
              {roles.map((role) => (
                <option key={role} value={role}>
                  {role === "axis" ? `axis ${k}` : role}
                </option>
              ))}
            </select>
            <span class="nnv-size">{axis.size}</span>
            {axis.size > 1 && axes.length > 1 && (
              <>
                <button
                  type="button"
                  class="nnv-way"
                  aria-label={`draw ${name} down`}
                  aria-pressed={drawn[0] === k}
                  onClick={() => draw(k, 0)}>
                  ↓
                </button>
                <button
                  type="button"
                  class="nnv-way"
                  aria-label={`draw ${name} across`}
                  aria-pressed={drawn[1] === k}
                  onClick={() => draw(k, 1)}>
                  →
                </button>
              </>
            )}
            {sliding && (
              <>
                <input
                  type="range"
                  min={0}
                  max={axis.size - 1}
                  value={index[k]}
                  aria-label={`place on ${name}`}
                  aria-valuetext={axis.labels[index[k]] ?? String(index[k])}
                  onInput={(event) => onIndex(k, Number(event.currentTarget.value))}
                />
                <output>
                  {index[k]}
                  {axis.labels[index[k]] !== undefined && (
                    <span class="nnv-token">{visible(axis.labels[index[k]])}</span>
                  )}
                </output>
              </>
            )}
          </span>
        );
      })}
    </div>
  );
}
