// The colour scale below a picture: its ends, which can be typed, and its colours.
import { useEffect, useRef } from "preact/hooks";
import { cachedScale, css, type Ground, MINUS_COLOUR, NAN_COLOUR, type Palette, PLUS_COLOUR } from "../core/colour";
import { number } from "../core/format";

interface Props {
  limits: [number, number];
  automatic: boolean;
  /** the least and the greatest value */
  range: [number, number] | null;
  palette: Palette;
  chosen: string;
  ground: Ground;
  /** whether values that are drawn lie below the limits, and above them */
  outside: [boolean, boolean];
  nan: string;
  /** whether NaN is what was not computed */
  empty?: boolean;
  /** whether bars are drawn, which have a height and no colour of their own */
  bars?: boolean;
  inf: string;
  onLimits(limits: number[]): void;
  onPalette(palette: string): void;
}

const HATCHED = "repeating-linear-gradient(135deg, transparent 0 2px, currentColor 2px 3px)";

/** Room for a long number. */
const wide = (end: number) => ({ width: `${Math.max(8, number(end).length + 1)}ch` });

export function Scale(props: Props) {
  const { limits, palette, ground } = props;
  const strip = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const context = strip.current!.getContext("2d")!;
    cachedScale(palette, ground).forEach((colour, k) => {
      context.fillStyle = css(colour);
      context.fillRect(k, 0, 1, 1);
    });
  }, [palette, ground]);
  const typed = (end: 0 | 1) => (event: { currentTarget: HTMLInputElement }) => {
    const value = Number(event.currentTarget.value.replace("−", "-"));
    const next = [...limits];
    next[end] = value;
    if (Number.isFinite(value) && next[0] < next[1]) props.onLimits(next);
    else event.currentTarget.value = number(limits[end]);
  };
  return (
    <div class="nnv-scale">
      <input
        aria-label="lower end of the colour scale"
        value={number(limits[0])}
        style={wide(limits[0])}
        onChange={typed(0)}
      />
      {props.outside[0] && (
        <Beyond way="◂" colour={css(cachedScale(palette, ground)[0])} text="values lie below this end of the scale" />
      )}
      {/* biome-ignore lint/a11y/noAriaHiddenOnFocusable: this canvas takes no focus */}
      <canvas ref={strip} width={256} height={1} aria-hidden="true" hidden={props.bars} />
      {props.outside[1] && (
        <Beyond way="▸" colour={css(cachedScale(palette, ground)[255])} text="values lie above this end of the scale" />
      )}
      <input
        aria-label="upper end of the colour scale"
        value={number(limits[1])}
        style={wide(limits[1])}
        onChange={typed(1)}
      />
      <select
        hidden={props.bars}
        aria-label="colours"
        value={props.chosen}
        onChange={(event) => props.onPalette(event.currentTarget.value)}>
        {["auto", "diverging", "sequential", "grey"].map((each) => (
          <option key={each}>{each}</option>
        ))}
      </select>
      {props.range && props.range[0] < props.range[1] && limits.join() !== props.range.join() && (
        <button
          type="button"
          onClick={() => props.onLimits(props.range!)}
          title="limits at the least and the greatest value">
          full range
        </button>
      )}
      {!props.automatic && (
        <button type="button" onClick={() => props.onLimits([])} title="limits that fit the values">
          automatic limits
        </button>
      )}
      {props.nan && <Mark colour={props.empty ? HATCHED : css(NAN_COLOUR)} text={props.nan} />}
      {props.inf && (
        <Mark colour={`linear-gradient(90deg, ${css(MINUS_COLOUR)} 50%, ${css(PLUS_COLOUR)} 50%)`} text={props.inf} />
      )}
    </div>
  );
}

/** Says that the picture has values outside of the scale, drawn in the colour of its end. */
function Beyond({ way, colour, text }: { way: string; colour: string; text: string }) {
  return (
    <span class="nnv-beyond" role="img" aria-label={text} title={text} style={{ color: colour }}>
      {way}
    </span>
  );
}

function Mark({ colour, text }: { colour: string; text: string }) {
  return (
    <span class="nnv-mark">
      <i style={{ background: colour }} />
      {text}
    </span>
  );
}
