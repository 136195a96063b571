// Checks in words: under each thing that was checked its checks, and a map that belongs to them.
import { useReferred, useTrait } from "../core/model";
import { usePacked } from "../core/packed";
import { Notice } from "../core/parts";
import type { Model } from "../core/widget";
import type { CheckedForm, CheckState } from "../core/wire";
import { TensorView } from "../tensor/tensor";

const MARKS: Record<CheckState, [string, string]> = {
  holds: ["✓", "holds"],
  warns: ["!", "warning"],
  fails: ["✗", "fails"],
  none: ["·", "says nothing"],
};

export function ChecksView({ model, selection }: { model: Model; selection: Model | null }) {
  const [groups, trouble] = usePacked(model, (stored: CheckedForm[]) => stored);
  const [notices] = useTrait<string[]>(model, "notices");
  const [map] = useReferred(model, [model.get("map")]);
  const title = model.get("title") as string;
  if (trouble) return <Notice text={trouble} />;
  if (!groups) return <section aria-busy="true" style={{ minHeight: "160px" }} />;
  return (
    <section class="nnv-checks" aria-label={title}>
      <header>
        <b>{title}</b>
      </header>
      {notices.map((text, k) => (
        <div class="nnv-notice" key={k}>
          {text}
        </div>
      ))}
      {groups.map((group, k) => (
        <Group key={k} group={group} />
      ))}
      {map && (
        <div class="nnv-checks-map">
          <TensorView model={map} selection={selection} />
        </div>
      )}
    </section>
  );
}

function Group({ group }: { group: CheckedForm }) {
  return (
    <div class="nnv-checks-group">
      <code>{group.title}</code>
      <dl>
        {group.checks.map(([state, name, words], k) => (
          <div class={`nnv-check nnv-check-${state}`} key={k}>
            <dt>
              <span role="img" aria-label={MARKS[state][1]}>
                {MARKS[state][0]}
              </span>
              {name}
            </dt>
            <dd>{words}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
