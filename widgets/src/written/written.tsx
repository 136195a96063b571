// Texts by strength, beside the ones without: a slider chooses, and a kernel writes what is not there yet.
import { useEffect, useRef, useState } from "preact/hooks";
import { kernelOf } from "../core/kernel";
import { useTrait } from "../core/model";
import { usePacked } from "../core/packed";
import { Notice } from "../core/parts";
import type { Model } from "../core/widget";
import type { TextForm, WrittenForm } from "../core/wire";
import { nearest, rangeOf, textOf } from "./strengths";

const REST = 300; // milliseconds after which a slider has come to rest
const WAIT = 300_000; // milliseconds that the texts of a strength may take

export function WrittenView({ model }: { model: Model }) {
  const [form, trouble] = usePacked(model, (stored: WrittenForm) => stored);
  const [notices] = useTrait<string[]>(model, "notices");
  const title = model.get("title") as string;
  if (trouble) return <Notice text={trouble} />;
  if (!form) return <section aria-busy="true" style={{ minHeight: "160px" }} />;
  return (
    <section class="nnv-written" aria-label={title}>
      <header>
        <b>{title}</b>
      </header>
      {notices.map((text, k) => (
        <div class="nnv-dim" key={k}>
          {text}
        </div>
      ))}
      <Texts model={model} form={form} />
    </section>
  );
}

function Texts({ model, form }: { model: Model; form: WrittenForm }) {
  const [strength, setStrength] = useTrait<number>(model, "strength");
  const [can] = useTrait<string[]>(model, "can");
  const [asked, setAsked] = useState<number | null>(null);
  const [said, setSaid] = useState("");
  const latest = useRef(0);
  const live = can.includes("write");
  const wanted = asked ?? strength;
  const shown = nearest(form.strengths, wanted);
  const range = rangeOf(form.strengths);
  const go = (to: number) => {
    setSaid("");
    const near = form.strengths[nearest(form.strengths, to)];
    if (!live || near === to) {
      latest.current++;
      setAsked(null);
      setStrength(near);
      return;
    }
    // Of a slider that goes on moving only where it comes to rest is written.
    const mine = ++latest.current;
    const newest = () => mine === latest.current;
    setAsked(to);
    setTimeout(() => {
      if (!newest()) return;
      kernelOf(model)
        .ask("write", { strength: to }, WAIT)
        .then(() => newest() && setStrength(to))
        .catch((error: Error) => newest() && setSaid(error.message))
        .finally(() => newest() && setAsked(null));
    }, REST);
  };
  useEffect(() => setSaid(""), [strength]);
  const plain = form.strengths.indexOf(0);
  return (
    <>
      <div class="nnv-written-line">
        <label>
          strength{" "}
          <input
            type="range"
            min={range.min}
            max={range.max}
            step={live ? range.step : "any"}
            value={wanted}
            aria-valuetext={textOf(wanted)}
            onInput={(event) => !live && go(Number(event.currentTarget.value))}
            onChange={(event) => go(Number(event.currentTarget.value))}
          />
        </label>
        <output>{textOf(wanted)}</output>
        {form.strengths.map((each) => (
          <button type="button" key={each} aria-pressed={each === wanted} onClick={() => go(each)}>
            {textOf(each)}
          </button>
        ))}
        <span role="status" class="nnv-dim">
          {asked !== null ? `writing at ${textOf(asked)} …` : said}
        </span>
      </div>
      {form.prompts.map((prompt, k) => (
        <div class="nnv-written-prompt" key={k} aria-busy={asked !== null}>
          <code>{prompt}</code>
          <div class="nnv-written-texts">
            {plain >= 0 && <Said head="without" said={form.said[plain][k]} />}
            {shown !== plain && <Said head={`at ${textOf(form.strengths[shown])}`} said={form.said[shown][k]} />}
            {shown !== plain && form.control[shown][k] && (
              <Said head="random direction" said={form.control[shown][k]} />
            )}
          </div>
        </div>
      ))}
    </>
  );
}

/** A text: what differs from the one without is marked, with words for who does not see it. */
function Said({ head, said: [pieces, loss] }: { head: string; said: TextForm }) {
  return (
    <section aria-label={head}>
      <div class="nnv-dim">
        {head} <span class="nnv-written-loss">loss {loss === null ? "–" : loss.toFixed(2)}</span>
      </div>
      <p>
        {pieces.map(([text, differs], k) => (differs ? <mark key={k}>{text}</mark> : <span key={k}>{text}</span>))}
        {!pieces.length && <i>∅</i>}
      </p>
    </section>
  );
}
