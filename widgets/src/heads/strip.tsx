// The prompt as its tokens: what one of them attends to, and what attends to it.
import { useState } from "preact/hooks";
import type { Ground } from "../core/colour";
import { number, visible } from "../core/format";
import { useTrait } from "../core/model";
import { Notice } from "../core/parts";
import { useSelected } from "../core/selection";
import type { Model } from "../core/widget";
import { Legend, Line } from "../tokens/line";
import type { Strip } from "../tokens/strips";
import { type Links, strongest, useLinks } from "./links";
import { type HeadsForm, named, type Place } from "./sizes";

const TOLD = 4; // tokens that are told in words
const NAMED = 8; // heads of a mean that are named
const LEAST = 0.05; // weights are not to look as if they were more

interface Props {
  model: Model;
  large: Model;
  form: HeadsForm;
  at: Place;
  ground: Ground;
  selection: Model | null;
}

export function TokenStrips({ model, large, form, at, ground, selection }: Props) {
  const [chosen, setChosen] = useTrait<Place[]>(model, "chosen");
  const [selected, setSelected] = useSelected(selection, "token");
  const [hover, setHover] = useState<number | null>(null);
  const count = form.tokens.length;
  const token = hover ?? (selected >= 0 && selected < count ? selected : count - 1);
  const heads = chosen.length ? chosen : [at];
  const [links, trouble] = useLinks(model, large, heads, token);
  const rows = large.get("about").shape[2] as number;
  if (rows !== count) return null; // the patterns are pooled: their rows are no tokens
  const keys = form.sink ? [...form.tokens, "sink"] : form.tokens;
  const to = Array.from({ length: keys.length }, (_, k) => links?.to[k] ?? 0);
  const from = Array.from({ length: count }, (_, k) => links?.from[k] ?? 0);
  const limits: [number, number] = [0, Math.max(LEAST, ...to, ...from)];
  const line = (name: string, tokens: string[], weight: number[]) => (
    <Line
      strip={{ ...BARE, name, tokens, numbers: { weight } }}
      coloured="weight"
      limits={limits}
      ground={ground}
      selected={token}
      own
      onHover={(position) => setHover(position !== null && position < count ? position : null)}
      onSelect={(position) => position < count && setSelected(position === selected ? -1 : position)}
    />
  );
  return (
    <div class="nnv-heads-strip" role="group" aria-label="what a token attends to, and what attends to it">
      <div class="nnv-facts nnv-dim">
        token {token} <span class="nnv-tok">{visible(form.tokens[token] ?? "")}</span>
        <span>
          {chosen.length
            ? `the mean of ${chosen.length} chosen heads: ${told(form, chosen)}`
            : `head ${named(form, at)}`}
        </span>
        {chosen.length > 0 && (
          <button type="button" onClick={() => setChosen([])}>
            one head alone
          </button>
        )}
        <Legend limits={limits} ground={ground} what="weight" />
      </div>
      <div class="nnv-lines">
        {line("attends to", keys, to)}
        {line("attended from", form.tokens, from)}
      </div>
      <output class="nnv-facts nnv-dim" aria-live="polite">
        {links && (
          <>
            attends to <Strongest keys={keys} weights={links.to} /> · attended from{" "}
            <Strongest keys={keys} weights={links.from} />
          </>
        )}
      </output>
      {trouble && <Notice text={trouble} />}
    </div>
  );
}

const BARE: Strip = { name: "", tokens: [], top: [], clean: [], numbers: {}, generated: 0, heads: ["", ""] };

const told = (form: HeadsForm, heads: Place[]) =>
  heads
    .slice(0, NAMED)
    .map((place) => named(form, place))
    .join(", ") + (heads.length > NAMED ? " …" : "");

/** The strongest links in words, the strongest first; a token has its own direction of writing. */
function Strongest({ keys, weights }: { keys: string[]; weights: Links["to"] }) {
  const places = strongest(weights, TOLD);
  if (!places.length) return <>none</>;
  return (
    <>
      {places.map((k, place) => (
        <span key={k}>
          {place > 0 && ", "}
          <bdi>{visible(keys[k] ?? "")}</bdi> {number(Number(weights[k].toPrecision(2)))}
        </span>
      ))}
    </>
  );
}
