// A generation step by step: the text as it streams in, and what else could have come.
import { useEffect, useRef, useState } from "preact/hooks";
import { percent } from "../core/format";
import { kernelOf } from "../core/kernel";
import { useTrait } from "../core/model";
import { Notice, reveal, Token } from "../core/parts";
import { useSelected } from "../core/selection";
import type { Model } from "../core/widget";
import type { StepForm } from "../core/wire";
import { Bars } from "../tokens/bars";
import type { Guess } from "../tokens/strips";

export interface Step {
  token: string;
  p: number | null;
  candidates: Guess[];
  saved: string[];
}

export function unpackSteps(packed: StepForm[]): Step[] {
  return packed.map(([token, p, flat, saved]) => {
    const candidates: Guess[] = [];
    for (let k = 0; k + 1 < (flat?.length ?? 0); k += 2)
      candidates.push({ token: String(flat[k]), p: Number(flat[k + 1] ?? 0) });
    return { token, p: p ?? null, candidates, saved: saved ?? [] };
  });
}

/** Which of the new tokens one is, and its step as Python counts it, from 0. */
export const stepText = (index: number, count: number) => `new token ${index + 1} of ${count} (step ${index})`;

/** The step that is shown: the one that is selected, else the last; -1 where there is none. */
export const stepAt = (selected: number, count: number) => (selected >= 0 && selected < count ? selected : count - 1);

export function StepsView({ model, selection }: { model: Model; selection: Model | null }) {
  const [packed] = useTrait<StepForm[]>(model, "steps");
  const [prompt] = useTrait<string[]>(model, "prompt");
  const [running] = useTrait<boolean>(model, "running");
  const [stopping] = useTrait<boolean>(model, "stopping");
  const [selected, setSelected] = useSelected(selection, "step");
  const [trouble, setTrouble] = useState("");
  const steps = unpackSteps(packed);
  const last = steps.length - 1;
  const at = stepAt(selected, steps.length);
  const step = steps[at];
  const title = model.get("title") as string;
  const text = useRef<HTMLDivElement>(null);
  useEffect(() => {
    reveal(text.current, text.current?.querySelector(".nnv-selected"));
  }, [at, running]);
  const stop = () => {
    setTrouble("");
    kernelOf(model)
      .ask("stop")
      .catch((error: Error) => setTrouble(error.message));
  };
  const rows = Math.max(1, ...steps.map((each) => each.candidates.length));
  const where = stepText(at, steps.length);
  return (
    <section class="nnv-steps" aria-label={`generation ${title}`}>
      {title && (
        <header>
          <b>{title}</b>
          {!running && (
            <span class="nnv-dim">
              {steps.length} new token{steps.length === 1 ? "" : "s"}
            </span>
          )}
        </header>
      )}
      <div class="nnv-text" ref={text} tabIndex={0} role="group" aria-label="prompt and generated tokens">
        {prompt.map((token, k) => (
          <span class="nnv-tok nnv-old" key={k}>
            <Token text={token} />
          </span>
        ))}
        {steps.map((each, k) => (
          <button
            type="button"
            key={`s${k}`}
            class={`nnv-tok nnv-new${k === at ? " nnv-selected" : ""}`}
            tabIndex={-1}
            aria-pressed={k === at}
            title={`step ${k}: ${JSON.stringify(each.token)}${each.p === null ? "" : ` ${percent(each.p)}`}`}
            onClick={() => setSelected(k)}>
            <Token text={each.token} />
          </button>
        ))}
        {running && <span class="nnv-caret" aria-hidden="true" />}
      </div>
      {(step || running) && (
        <div class="nnv-scrub-line">
          {step && (
            <label class="nnv-scrub nnv-dim">
              <span>{where}</span>
              <input
                type="range"
                min={0}
                max={last}
                value={at}
                aria-valuetext={`${where}: ${step.token}`}
                onInput={(event) => setSelected(Number(event.currentTarget.value))}
              />
              <span>
                <span class="nnv-tok nnv-new">
                  <Token text={step.token} />
                </span>
                {step.p !== null && <b> {percent(step.p)}</b>}
              </span>
            </label>
          )}
          <span class="nnv-tools">
            <span class="nnv-dim" role="status">
              {running ? (stopping ? "stopping …" : "generating …") : ""}
            </span>
            {running && (
              <button type="button" class="nnv-stop" disabled={stopping} onClick={stop}>
                ■ stop
              </button>
            )}
          </span>
        </div>
      )}
      {step && (
        <div class="nnv-prediction" style={{ minHeight: `${24 + rows * 21}px` }}>
          {step.candidates.length > 0 && <Bars now={step.candidates} clean={[]} head="candidates" />}
          {step.saved.length > 0 && (
            <div class="nnv-dim">
              saved here:{" "}
              {step.saved.map((name) => (
                <span class="nnv-badge nnv-saved" key={name}>
                  {name}
                </span>
              ))}
            </div>
          )}
        </div>
      )}
      {!running && !steps.length && !title && <div class="nnv-dim">no new tokens</div>}
      {trouble && <Notice text={trouble} />}
    </section>
  );
}
