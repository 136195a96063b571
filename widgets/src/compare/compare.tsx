// Two tensors and their difference, at one place and in one colour scale.
import { useMemo, useState } from "preact/hooks";
import { linked } from "../core/linked";
import { useReferred, useTrait } from "../core/model";
import { Notice } from "../core/parts";
import type { Model } from "../core/widget";
import { type Pointed, TensorView } from "../tensor/tensor";

const PLACE = ["axes", "drawn", "index", "window", "part", "ordered", "cell"] as const;
const COLOURS = ["limits", "palette"] as const;

/** Whether the difference is drawn in the colours of the two, so that one scale tells of all. */
function sameScale(first: Model, difference: Model): boolean {
  const [both, own] = [first, difference].map((each) => each.get("scale") as { min?: number; max?: number });
  return own.max === Math.max(Math.abs(both.min ?? 0), Math.abs(both.max ?? 0));
}

export function CompareView({ model, selection }: { model: Model; selection: Model | null }) {
  const [amplified, setAmplified] = useTrait<boolean>(model, "amplified");
  const [first, second, difference] = useReferred(
    model,
    ["first", "second", "difference"].map((name) => model.get(name)),
  );
  const panes = useMemo(() => {
    if (!first || !second) return null;
    return {
      second: linked(second, first, [...PLACE, ...COLOURS]),
      difference: difference ? linked(difference, first, PLACE) : null,
    };
  }, [first, second, difference]);
  const pointed = useState<[number, number] | null>(null) as Pointed;
  const title = model.get("title") as string;
  if (!first || !panes) return <section aria-busy="true" style={{ minHeight: "240px" }} />;
  const notice = model.get("notice") as string;
  return (
    <section class="nnv-compare" aria-label={`comparison ${title}`}>
      {(title || panes.difference) && (
        <header>
          {title && <b>{title}</b>}
          {panes.difference && (
            <span class="nnv-tools">
              <button
                type="button"
                aria-pressed={amplified}
                title="give the difference a colour scale of its own"
                onClick={() => setAmplified(!amplified)}>
                amplify the difference
              </button>
            </span>
          )}
        </header>
      )}
      <div class="nnv-panes">
        <TensorView model={first} selection={selection} pointed={pointed} pane />
        <TensorView model={panes.second} selection={selection} pointed={pointed} pane follows />
        {panes.difference && (
          <TensorView
            key={String(amplified)}
            model={panes.difference}
            selection={selection}
            pointed={pointed}
            pane
            follows
            ownScale={amplified}
            scaled={amplified || !sameScale(first, panes.difference)}
          />
        )}
      </div>
      {notice && <Notice text={notice} />}
    </section>
  );
}
