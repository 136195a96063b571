// The panel's lists: saved tensors, runs, edits. What is empty is not shown.
import type { NotebookPanel } from "@jupyterlab/notebook";
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { bytes, printable } from "../../src/core/format";
import { copy } from "../../src/core/parts";
import { goTo, runInNewCell } from "./cells";
import type { Edit, Run, Saved, Told } from "./told";

interface Props {
  notebook: NotebookPanel;
  told: Told;
  act(what: string, details: Record<string, unknown>): void;
}

function Section({ name, note, children }: { name: string; note: string; children: ComponentChildren }) {
  return (
    <details open>
      <summary>
        {name} <small>{note}</small>
      </summary>
      {children}
    </details>
  );
}

/** A button for what cannot be taken back: the first press asks, the second does it. */
function Sure({ name, label, onSure }: { name: string; label: string; onSure(): void }) {
  const [asked, setAsked] = useState(false);
  return (
    <button
      type="button"
      aria-label={asked ? `really ${label}` : label}
      onBlur={() => setAsked(false)}
      onClick={() => (asked ? onSure() : setAsked(true))}>
      {asked ? `really ${name}?` : name}
    </button>
  );
}

export function SavedList({ notebook, told, act }: Props) {
  const { saved } = told;
  if (!saved.length) return null;
  const total = saved.reduce((sum, each) => sum + each.bytes, 0);
  return (
    <Section name="Saved" note={`${saved.length} · ${bytes(total)}`}>
      <ul class="nnm-list">
        {saved.map((each) => (
          <OneSaved
            key={each.name}
            saved={each}
            notebook={notebook}
            onDrop={() => act("drop_saved", { names: [each.name] })}
          />
        ))}
      </ul>
    </Section>
  );
}

function OneSaved({ saved, notebook, onDrop }: { saved: Saved; notebook: NotebookPanel; onDrop(): void }) {
  const { name } = saved;
  return (
    <li>
      <div class="nnm-line">
        <b>{printable(name)}</b> <code>{printable(saved.form)}</code>
        <span class="nnm-far">{bytes(saved.bytes)}</span>
      </div>
      <div class="nnm-small">
        run {saved.run} {saved.dtype && `· ${saved.dtype} `}· <code>{printable(saved.where)}</code>
      </div>
      <div class="nnm-acts">
        <button type="button" aria-label={`open ${name}`} onClick={() => runInNewCell(notebook, opened(name))}>
          open
        </button>
        <button type="button" aria-label={`copy the name ${name}`} onClick={() => void copy(name)}>
          copy name
        </button>
        <Sure name="drop" label={`drop ${name}`} onSure={onDrop} />
      </div>
    </li>
  );
}

const opened = (name: string) => `from nnsight_magic.views import show\nshow(${name}, "${name}")`;

export function RunsList({ notebook, told, act }: Props) {
  const { runs } = told;
  const [picked, setPicked] = useState<number[]>([]);
  if (!runs.length) return null;
  const both = picked.filter((number) => runs.some((run) => run.number === number)).sort((a, b) => a - b);
  const pick = (number: number, on: boolean) =>
    setPicked(on ? [...both.slice(-1), number] : both.filter((each) => each !== number));
  return (
    <Section name="Runs" note={String(runs.length)}>
      {runs.length > 1 && (
        <button
          type="button"
          disabled={both.length !== 2}
          title="mark two runs first"
          onClick={() => runInNewCell(notebook, `%runs ${both.join(" ")}`)}>
          {both.length === 2 ? `compare runs ${both.join(" and ")}` : "compare the two marked runs"}
        </button>
      )}
      <ul class="nnm-list">
        {runs.map((run) => (
          <OneRun
            key={run.number}
            run={run}
            marked={both.includes(run.number)}
            notebook={notebook}
            onMark={(on) => pick(run.number, on)}
            onDrop={() => act("drop_run", { run: run.number })}
          />
        ))}
      </ul>
    </Section>
  );
}

interface RunProps {
  run: Run;
  marked: boolean;
  notebook: NotebookPanel;
  onMark(on: boolean): void;
  onDrop(): void;
}

function OneRun({ run, marked, notebook, onMark, onDrop }: RunProps) {
  const [lost, setLost] = useState(false);
  return (
    <li>
      <div class="nnm-line">
        <input
          type="checkbox"
          checked={marked}
          aria-label={`mark run ${run.number} to compare it`}
          onChange={(event) => onMark(event.currentTarget.checked)}
        />
        <b>{run.number}</b> <span>{run.kind}</span>
        <span class="nnm-far">
          {run.ran} · {run.time}
        </span>
      </div>
      {run.prompt && <div class="nnm-small">“{printable(run.prompt)}”</div>}
      <Names word="wrote" names={run.wrote} />
      <Names word="read" names={run.read} />
      <Names word="edits" names={run.edits} />
      {run.best && <div class="nnm-small">best: {printable(run.best)}</div>}
      <div class="nnm-acts">
        <button
          type="button"
          aria-label={`go to the cell of run ${run.number}`}
          onClick={() => setLost(!goTo(notebook, run.source))}>
          go to its cell
        </button>
        <Sure name="drop" label={`drop run ${run.number}`} onSure={onDrop} />
      </div>
      {lost && (
        <div class="nnm-small" role="status">
          no cell of this notebook has its text any more
        </div>
      )}
    </li>
  );
}

function Names({ word, names }: { word: string; names: string[] }) {
  if (!names.length) return null;
  return (
    <div class="nnm-small">
      {word} <code>{printable(names.slice(0, 8).join(", "))}</code>
      {names.length > 8 && ` and ${names.length - 8} more`}
    </div>
  );
}

export function EditsList({ told, act }: Props) {
  if (!told.edits.length) return null;
  const on = told.edits.filter((each) => each.on).length;
  return (
    <Section name="Edits" note={`${on} of ${told.edits.length} on`}>
      <ul class="nnm-list">
        {told.edits.map((each) => (
          <OneEdit key={each.name} edit={each} act={act} />
        ))}
      </ul>
    </Section>
  );
}

function OneEdit({ edit, act }: { edit: Edit; act: Props["act"] }) {
  const { name } = edit;
  return (
    <li class={edit.on ? "" : "nnm-off"}>
      <div class="nnm-line">
        <label>
          <input
            type="checkbox"
            role="switch"
            checked={edit.on}
            aria-checked={edit.on}
            onChange={(event) => act("switch_edit", { name, on: event.currentTarget.checked })}
          />{" "}
          <b>{printable(name)}</b>
        </label>
        <span class="nnm-far">{edit.steps}</span>
      </div>
      {edit.writes.map((write, k) => (
        <div class="nnm-small" key={k}>
          <code>{printable(write)}</code>
        </div>
      ))}
      <div class="nnm-acts">
        <Sure name="remove" label={`remove the edit ${name}`} onSure={() => act("remove_edit", { name })} />
      </div>
    </li>
  );
}
