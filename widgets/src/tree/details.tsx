// What a selected module has: its parameters, its forward, its saved tensors, lines to copy.
import { useContext, useEffect, useState } from "preact/hooks";
import { bytes, count, number, printable, shape } from "../core/format";
import { kernelOf } from "../core/kernel";
import { useTrait } from "../core/model";
import { copy, Histogram, Notice } from "../core/parts";
import type { Model } from "../core/widget";
import type { NoteForm, Statistics } from "../core/wire";
import { Actions } from "./actions";
import { Badges } from "./badges";
import { kindAt, type Tree, written } from "./rows";

interface Props {
  model: Model;
  tree: Tree;
  path: string;
  note: NoteForm;
  wanted: boolean;
  onWanted(on: boolean): void;
  onClose(): void;
}

interface Found {
  tensors: Record<string, any>[];
  source: string;
  where: string;
}

export function Details({ model, tree, path, note, wanted, onWanted, onClose }: Props) {
  const [aliases] = useTrait<Record<string, string>>(model, "aliases");
  const [found, setFound] = useState<Found | null>(null);
  const [trouble, setTrouble] = useState("");
  const [copied, setCopied] = useState("");
  const actions = useContext(Actions);
  useEffect(() => {
    let current = true;
    kernelOf(model)
      .ask("details", { path })
      .then(
        ({ info }) => current && setFound(info as unknown as Found),
        (error: Error) => current && setTrouble(error.message),
      );
    return () => {
      current = false;
    };
  }, [path]);
  const kind = kindAt(tree, path);
  const name = printable(written(path, aliases));
  const line = `h = ${name}.output`;
  const put = (text: string) =>
    copy(text).then(() => {
      setCopied(text);
      setTimeout(() => setCopied(""), 2500);
    });
  return (
    <aside class="nnv-module" aria-label={`module ${path}`}>
      <div class="nnv-module-head">
        <b class="nnv-path">{name}</b>
        <button type="button" aria-label="close the details" onClick={onClose}>
          ✕
        </button>
      </div>
      <div class="nnv-dim">
        {kind?.className}
        {kind?.note && ` (${kind.note})`}
        {kind && kind.parameters > 0 && ` · ${count(kind.parameters)} parameters · ${bytes(kind.bytes)}`}
      </div>
      {note.o && (
        <div class="nnv-dim">
          {note.i ? `${note.i} → ` : "output "}
          {note.o}
        </div>
      )}
      <div>
        <Badges note={note} wanted={false} />
      </div>
      <div class="nnv-copies">
        <button type="button" class="nnv-line" title="copy this line" onClick={() => put(line)}>
          <code>{line}</code>
        </button>
        <button type="button" title={path} onClick={() => put(path)}>
          copy path
        </button>
        <button
          type="button"
          aria-pressed={wanted}
          title="have this module's output saved at the next run"
          onClick={() => onWanted(!wanted)}>
          save at next run
        </button>
        {actions(path, name).map((action) => (
          <button type="button" key={action.name} title={action.title} onClick={action.run}>
            {action.name}
          </button>
        ))}
      </div>
      <div class="nnv-dim nnv-copied" role="status">
        {copied && `copied: ${copied}`}
      </div>
      {trouble && <Notice text={trouble} />}
      {found?.tensors.map((tensor) => (
        <Parameter key={tensor["name"]} tensor={tensor} />
      ))}
      {found?.source && (
        <details class="nnv-source" open={found.tensors.length === 0}>
          <summary>forward</summary>
          <pre tabIndex={0} role="group" aria-label="source of forward">
            {found.source}
          </pre>
          <div class="nnv-dim">{found.where}</div>
        </details>
      )}
    </aside>
  );
}

function Parameter({ tensor }: { tensor: Record<string, any> }) {
  const stats = tensor["stats"] as Statistics | undefined;
  return (
    <div class="nnv-parameter">
      <div>
        <b class="nnv-path">{printable(tensor["name"])}</b> <code>{shape(tensor["shape"])}</code>
        <div class="nnv-dim">
          {tensor["dtype"]} · {tensor["device"]}
          {tensor["grad"] ? "" : " · frozen"}
        </div>
        {stats && stats.mean !== undefined && (
          <div class="nnv-dim">
            mean {number(stats.mean)} · std {number(stats.std ?? NaN)}
            {stats.nan ? ` · ${stats.nan} NaN` : ""}
          </div>
        )}
        {!stats && <div class="nnv-dim">no values: the weights are not loaded</div>}
      </div>
      {stats?.histogram && stats.bins && <Histogram counts={stats.histogram} ends={stats.bins} format={number} />}
    </div>
  );
}
