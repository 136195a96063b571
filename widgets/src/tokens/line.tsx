// A prompt as its tokens, coloured by a number of each, and what the colours stand for.
import { useEffect, useRef, useState } from "preact/hooks";
import { cachedScale, css, type Ground, inkOn, place } from "../core/colour";
import { number } from "../core/format";
import { reveal, Token } from "../core/parts";
import { walker } from "../core/walk";
import type { Strip } from "./strips";

const SHOWN = 1200;
const MEANING_OF_KL =
  "how far the prediction after each token moved: the Kullback–Leibler divergence of the one without the writes from the one with them";

/** What the colours of the tokens stand for, from one end to the other. */
export function Legend({ limits, ground, what }: { limits: [number, number]; ground: Ground; what: string }) {
  const colours = cachedScale(limits[0] < 0 ? "diverging" : "sequential", ground);
  const stops = [0, 64, 128, 192, 255].map((k) => css(colours[k])).join(", ");
  return (
    <span class="nnv-legend nnv-dim" title={what === "KL" ? MEANING_OF_KL : undefined}>
      {number(limits[0])} <i style={{ background: `linear-gradient(to right, ${stops})` }} /> {number(limits[1])}
      {what === "KL" && " nats"}
    </span>
  );
}

interface LineProps {
  strip: Strip;
  coloured: string;
  limits: [number, number];
  ground: Ground;
  selected: number;
  own: boolean;
  onHover(position: number | null): void;
  onSelect(position: number): void;
}

let serial = 0;

/** The tokens of a prompt; keys walk them. */
export function Line({ strip, coloured, limits: [low, high], ground, selected, own, onHover, onSelect }: LineProps) {
  const [all, setAll] = useState(false);
  const [active, setActive] = useState(-1);
  const id = useRef(`nnv-strip-${serial++}`).current;
  const values = strip.numbers[coloured];
  const colours = cachedScale(low < 0 ? "diverging" : "sequential", ground);
  const shown = all ? strip.tokens : strip.tokens.slice(0, SHOWN);
  const first = strip.tokens.length - strip.generated;
  const at = active >= 0 ? active : own && selected >= 0 ? selected : strip.tokens.length - 1;
  const box = useRef<HTMLDivElement>(null);
  const chosen = active >= 0 ? active : own ? selected : -1;
  useEffect(() => {
    if (chosen >= 0) reveal(box.current, box.current?.children[chosen]);
  }, [chosen]);
  const look = (position: number) => {
    setActive(position);
    onHover(position < 0 ? null : position);
  };
  const keys = walker({
    at: [0, at],
    size: [1, shown.length],
    go: ([, to]) => look(to),
    others: { Enter: () => onSelect(at), " ": () => onSelect(at), Escape: () => look(-1) },
  });
  return (
    <div class={`nnv-line${strip.name ? " nnv-named" : ""}`}>
      {strip.name && <b class="nnv-strip-name">{strip.name}</b>}
      <div
        ref={box}
        class="nnv-strip"
        role="listbox"
        tabIndex={0}
        aria-label={`tokens ${strip.name}`}
        aria-activedescendant={at >= 0 && at < shown.length ? `${id}-${at}` : undefined}
        onKeyDown={keys}
        onMouseLeave={() => onHover(null)}
        onBlur={() => look(-1)}>
        {shown.map((token, k) => {
          const value = values?.[k];
          const colour = values && typeof value === "number" ? colours[place(value, low, high)] : null;
          const kind = `${k >= first ? " nnv-new" : ""}${own && k === selected ? " nnv-selected" : ""}${k === active ? " nnv-active" : ""}`;
          return (
            <span
              key={k}
              id={`${id}-${k}`}
              role="option"
              class={`nnv-tok${kind}`}
              aria-selected={own && k === selected}
              style={colour ? { background: css(colour), color: inkOn(colour) } : undefined}
              title={`${k}: ${JSON.stringify(token)}${typeof value === "number" ? ` · ${coloured} ${number(value)}` : ""}`}
              onMouseEnter={() => onHover(k)}
              onClick={() => {
                setActive(-1);
                onSelect(k);
              }}>
              <Token text={token} />
            </span>
          );
        })}
      </div>
      {strip.tokens.length > shown.length && (
        <button type="button" onClick={() => setAll(true)}>
          show {strip.tokens.length - shown.length} more tokens
        </button>
      )}
    </div>
  );
}
