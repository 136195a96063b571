// Prompts as their tokens: coloured by any number, with what is predicted after each.
import { useRef, useState } from "preact/hooks";
import { number } from "../core/format";
import { useTrait } from "../core/model";
import { usePacked } from "../core/packed";
import { Notice, Token } from "../core/parts";
import { useSelected } from "../core/selection";
import { useGround } from "../core/theme";
import type { Model } from "../core/widget";
import { Bars } from "./bars";
import { Legend, Line } from "./line";
import { limitsOf, mostRows, type Strip, unpackStrips } from "./strips";

const PROMPTS = 8; // more are folded away, as in what is stored beside
const LEAST_KL = 0.1; // nats: a prediction that hardly moved is not to look as if it had

export function TokensView({ model, selection }: { model: Model; selection: Model | null }) {
  const [strips, trouble] = usePacked(model, unpackStrips);
  const [coloured, setColoured] = useTrait<string>(model, "coloured");
  const [at, setAt] = useTrait<number>(model, "strip");
  const [token, setToken] = useSelected(selection, "token");
  const [hover, setHover] = useState<[number, number] | null>(null);
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLElement>(null);
  const ground = useGround(() => root.current);
  if (trouble) return <Notice text={trouble} />;
  if (!strips) return <section aria-busy="true" style={{ minHeight: "150px" }} />;
  // A fold that would hide one alone is none; the chosen prompt is never hidden.
  const folds = strips.length > PROMPTS + 1;
  const seen = open || !folds ? strips.length : Math.max(PROMPTS, Math.min(at, strips.length - 1) + 1);
  const known = strips.flatMap((strip) => strip.numbers[coloured] ?? []);
  const limits = limitsOf(known, coloured === "KL" ? LEAST_KL : 0);
  const names = [...new Set(strips.flatMap((strip) => Object.keys(strip.numbers)))];
  const [strip, position] = hover ?? [Math.min(at, strips.length - 1), token];
  const told = position < 0 && !strips[strip].top.length ? strips.find((each) => each.top.length) : undefined;
  const title = model.get("title") as string;
  return (
    <section class="nnv-tokens" aria-label={`tokens ${title}`} ref={root}>
      {(title || names.length > 0) && (
        <header>
          {title && <b>{title}</b>}
          {names.length > 0 && (
            <label class="nnv-dim">
              coloured by{" "}
              <select value={coloured} onChange={(event) => setColoured(event.currentTarget.value)}>
                <option value="">nothing</option>
                {names.map((name) => (
                  <option key={name}>{name}</option>
                ))}
              </select>
            </label>
          )}
          {known.length > 0 && <Legend limits={limits} ground={ground} what={coloured} />}
        </header>
      )}
      <div class="nnv-lines">
        {strips.slice(0, seen).map((each, k) => (
          <Line
            key={k}
            strip={each}
            coloured={coloured}
            limits={limits}
            ground={ground}
            selected={token}
            own={k === at || strips.length === 1}
            onHover={(position) => setHover(position === null ? null : [k, position])}
            onSelect={(position) => {
              setAt(k);
              setToken(position === token && k === at ? -1 : position);
            }}
          />
        ))}
        {folds && seen < strips.length && (
          <button type="button" onClick={() => setOpen(true)}>
            show {strips.length - seen} more prompts
          </button>
        )}
        {folds && open && (
          <button type="button" onClick={() => setOpen(false)}>
            show fewer prompts
          </button>
        )}
      </div>
      <Prediction strips={strips} strip={told ?? strips[strip]} position={position} />
    </section>
  );
}

/** What follows a position; of the last one where none is chosen. Its height stays the same. */
function Prediction({ strips, strip, position }: { strips: Strip[]; strip: Strip; position: number }) {
  const rows = Math.max(...strips.map(mostRows));
  const last = strip.tokens.length - 1 - strip.generated;
  const at = position >= 0 && position < strip.tokens.length ? position : strip.top.length ? last : -1;
  const now = strip.top[at] ?? [];
  return (
    <div class="nnv-prediction" style={{ minHeight: `${24 + (rows ? 24 + rows * 21 : 0)}px` }}>
      {at >= 0 ? <Facts strip={strip} position={at} /> : <Counts strips={strips} />}
      {now.length > 0 && <Bars now={now} clean={strip.clean[at] ?? []} heads={strip.heads} />}
    </div>
  );
}

/** How much there is, while no token is looked at. */
function Counts({ strips }: { strips: Strip[] }) {
  const count = strips.reduce((sum, strip) => sum + strip.tokens.length, 0);
  return (
    <div class="nnv-dim nnv-facts">
      {count} token{count === 1 ? "" : "s"}
    </div>
  );
}

function Facts({ strip, position }: { strip: Strip; position: number }) {
  const after = strip.top[position]?.length ? "after token" : "token";
  return (
    <div class="nnv-dim nnv-facts">
      {strip.name && `${strip.name} · `}
      {after} {position}{" "}
      <span class="nnv-tok">
        <Token text={strip.tokens[position]} />
      </span>
      {Object.entries(strip.numbers).map(([name, values]) =>
        typeof values[position] === "number" ? (
          <span key={name}>
            {name} {number(values[position] as number)}
          </span>
        ) : null,
      )}
    </div>
  );
}
