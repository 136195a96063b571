// What the panel shows: of the notebook in front, the model's modules, what is saved, runs and edits.
import type { NotebookPanel, NotebookTracker } from "@jupyterlab/notebook";
import { useCallback, useEffect, useState } from "preact/hooks";
import { bytes, count } from "../../src/core/format";
import { Notice } from "../../src/core/parts";
import { newCell } from "./cells";
import { type Front, followFront } from "./front";
import { type Link, linkOf, type Standing } from "./link";
import { EditsList, RunsList, SavedList } from "./lists";
import { Modules } from "./modules";
import { PROTOCOL, type Told } from "./told";

export function Panel({ tracker }: { tracker: NotebookTracker }) {
  const [front, setFront] = useState<Front>({ notebook: null, kernel: null });
  useEffect(() => followFront(tracker, setFront), [tracker]);
  if (!front.notebook) return <Hint text="Open a notebook, and its model is shown here." />;
  if (!front.kernel) return <Hint text="This notebook has no kernel." />;
  const link = linkOf(front.kernel);
  return <OfKernel key={front.kernel.id} notebook={front.notebook} link={link} />;
}

/** A sentence where there is nothing to show, and what to type. */
function Hint({ text, type, notebook }: { text: string; type?: string; notebook?: NotebookPanel }) {
  return (
    <div class="nnm-hint" role="status">
      {text}
      {type && <code>{type}</code>}
      {type && notebook && (
        <button type="button" onClick={() => newCell(notebook, type)}>
          put it into a new cell
        </button>
      )}
    </div>
  );
}

function useStanding(link: Link): Standing {
  const [standing, setStanding] = useState(link.standing);
  useEffect(() => {
    const look = () => setStanding(link.standing);
    look();
    return link.onChange(look);
  }, [link]);
  return standing;
}

function OfKernel({ notebook, link }: { notebook: NotebookPanel; link: Link }) {
  const standing = useStanding(link);
  // The panel came into sight: perhaps the extension was loaded in a way that nobody saw.
  useEffect(() => void link.connect(), [link]);
  if (standing === "connecting") return <div aria-busy="true" />;
  if (standing === "absent")
    return (
      <Hint text="This kernel has not loaded nnsight_magic. Type:" type="%load_ext nnsight_magic" notebook={notebook} />
    );
  if (standing === "strange") {
    const text = `This panel is of nnsight_magic ${VERSION} (messages ${PROTOCOL}), and the kernel has ${link.version}. Install the same in both, and reload the page; until then everything else works.`;
    return <Hint text={text} />;
  }
  return <Connected notebook={notebook} link={link} />;
}

/** The variable of the model that is looked at, by kernel; it stays when the panel is closed. */
const chosen = new WeakMap<Link, string>();

function useTold(link: Link): [Told | null, string, () => void] {
  const [told, setTold] = useState<Told | null>(null);
  const [trouble, setTrouble] = useState("");
  const look = useCallback(() => {
    void link.ask("state", { model: chosen.get(link) ?? "" }).then((answer) => {
      if (answer && !answer["error"]) setTold(answer as unknown as Told);
      setTrouble(answer ? String(answer["error"] ?? "") : "");
    });
  }, [link]);
  useEffect(() => {
    look();
    return link.watch(look);
  }, [link]);
  return [told, trouble, look];
}

function Connected({ notebook, link }: { notebook: NotebookPanel; link: Link }) {
  const [told, silent, look] = useTold(link);
  const [trouble, setTrouble] = useState("");
  if (!told) return silent ? <Notice text={silent} /> : <div aria-busy="true" />;
  if (!told.models.length && !told.runs.length && !told.saved.length)
    return <Hint text="No model is loaded in this notebook yet. Load one:" type="%model demo" notebook={notebook} />;
  const act = (what: string, details: Record<string, unknown>) => {
    void link.ask(what, { model: told.model, ...details }).then((answer) => {
      setTrouble(answer ? String(answer["error"] ?? "") : "The kernel does not answer.");
      look();
    });
  };
  const choose = (name: string) => {
    chosen.set(link, name);
    look();
  };
  const common = { notebook, told, act };
  return (
    <>
      <Head told={told} onChoose={choose} />
      {(trouble || silent) && <Notice text={trouble || silent} />}
      {told.model && <Modules notebook={notebook} link={link} told={told} />}
      <SavedList {...common} />
      <RunsList {...common} />
      <EditsList {...common} />
    </>
  );
}

function Head({ told, onChoose }: { told: Told; onChoose(name: string): void }) {
  const { facts } = told;
  const size =
    facts && `${count(facts.parameters)} parameters · ${bytes(facts.bytes)} · ${facts.dtype} on ${facts.device}`;
  return (
    <>
      <header>
        <select
          aria-label="the model that is shown"
          value={told.model}
          onChange={(event) => onChoose(event.currentTarget.value)}>
          {told.models.map(({ name, title }) => (
            <option key={name} value={name}>
              {name === title ? name : `${name} — ${title}`}
            </option>
          ))}
        </select>
      </header>
      {size && <div class="nnm-facts">{size}</div>}
    </>
  );
}
