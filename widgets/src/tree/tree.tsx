// The module tree: rows that exist only while they are seen, walked by keys, searched by letters.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { bytes, count } from "../core/format";
import { kernelOf } from "../core/kernel";
import { useTrait } from "../core/model";
import { usePacked } from "../core/packed";
import { Notice } from "../core/parts";
import { useSelected } from "../core/selection";
import { walker } from "../core/walk";
import type { Model } from "../core/widget";
import type { NoteForm } from "../core/wire";
import { Badges } from "./badges";
import { Details } from "./details";
import { addKinds, ancestors, missing, noteInside, noteOf, type Row, type Tree, unpack, visibleRows } from "./rows";
import { search } from "./search";

const ROW = 24;
const TALLEST = 18;
const BEYOND = 6;

export function TreeView({ model, selection }: { model: Model; selection: Model | null }) {
  const [tree, trouble] = usePacked(model, unpack);
  if (trouble) return <Notice text={trouble} />;
  if (!tree) return <section class="nnv-tree" aria-busy="true" style={{ minHeight: `${ROW * 6}px` }} />;
  return <Browser model={model} selection={selection} tree={tree} />;
}

interface Props {
  model: Model;
  selection: Model | null;
  tree: Tree;
}

function Browser({ model, selection, tree }: Props) {
  const [expanded, setExpanded] = useTrait<string[]>(model, "expanded");
  const [query, setQuery] = useTrait<string>(model, "query");
  const [notes] = useTrait<Record<string, NoteForm>>(model, "notes");
  const [wanted, setWanted] = useTrait<string[]>(model, "wanted");
  const [selected, select] = useSelected(selection, "module");
  const [active, setActive] = useState<string>(selected);
  const [version, setVersion] = useState(0);
  const title = model.get("title") as string;

  const open = useMemo(() => new Set(expanded), [expanded]);
  const rows = useMemo<Row[]>(() => {
    if (!query.trim()) return visibleRows(tree, title, open);
    return search(tree, query).map((hit, place, all) => ({
      id: hit.path,
      path: hit.path,
      label: hit.path,
      count: 1,
      kind: hit.kind,
      depth: 0,
      open: false,
      opens: false,
      place,
      siblings: all.length,
    }));
  }, [tree, open, query, version]);

  useEffect(() => {
    const numbers = missing(tree, rows);
    if (!numbers.length) return;
    kernelOf(model)
      .ask("kinds", { numbers: numbers.slice(0, 200) })
      .then(
        ({ info }) => {
          addKinds(tree, info["kinds"]);
          setVersion((v) => v + 1);
        },
        () => {},
      );
  }, [rows]);

  // A module selected elsewhere is shown here.
  useEffect(() => {
    if (!selected || query) return;
    const needed = ancestors(tree, selected).filter((id) => !open.has(id));
    if (needed.length) setExpanded([...expanded, ...needed]);
    setActive(selected);
  }, [selected]);

  const toggle = (id: string) => setExpanded(open.has(id) ? expanded.filter((each) => each !== id) : [...expanded, id]);
  const choose = (row: Row) => {
    setActive(row.id);
    select(row.path);
  };
  const total = `${tree.size.toLocaleString("en-US")} modules · ${count(tree.parameters)} parameters · ${bytes(tree.bytes)}`;
  return (
    <section class="nnv-tree" aria-label={`modules of ${title}`}>
      <header>
        <b>{title}</b>
        <span class="nnv-dim">{total}</span>
        <span class="nnv-tools">
          <input
            type="search"
            placeholder="search name, class, path"
            aria-label="search the modules"
            value={query}
            onInput={(event) => setQuery(event.currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key === "Escape") setQuery("");
              if (event.key === "ArrowDown" || event.key === "Enter") {
                event.currentTarget.closest("section")!.querySelector<HTMLElement>("[role=tree]")?.focus();
                if (rows[0]) setActive(rows[0].id);
                event.preventDefault();
              }
            }}
          />
        </span>
      </header>
      <div class="nnv-split">
        <Rows
          title={title}
          tree={tree}
          rows={rows}
          notes={notes}
          wanted={wanted}
          selected={selected}
          active={active}
          query={query}
          onToggle={toggle}
          onChoose={choose}
          onActive={setActive}
        />
        {selected !== "" && (
          <Details
            key={selected}
            model={model}
            tree={tree}
            path={selected}
            note={noteOf(notes, selected)}
            wanted={wanted.includes(selected)}
            onWanted={(on) => setWanted(on ? [...wanted, selected] : wanted.filter((each) => each !== selected))}
            onClose={() => select("")}
          />
        )}
      </div>
      {query.trim() !== "" && (
        <p class="nnv-dim nnv-found" role="status">
          {rows.length === 0
            ? `no module fits “${query}”`
            : `${rows.length === 500 ? "the best 500" : rows.length} found`}
          {!tree.whole && "; only what was opened before is searched"}
        </p>
      )}
    </section>
  );
}

interface RowsProps {
  title: string;
  tree: Tree;
  rows: Row[];
  notes: Record<string, NoteForm>;
  wanted: string[];
  selected: string;
  active: string;
  query: string;
  onToggle(id: string): void;
  onChoose(row: Row): void;
  onActive(id: string): void;
}

let serial = 0;

function Rows(props: RowsProps) {
  const { rows, tree, active } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const name = useRef(`nnv-tree-${serial++}`).current;
  const typed = useRef({ text: "", at: 0 });
  const height = Math.min(TALLEST, Math.max(rows.length, 3)) * ROW;
  const first = Math.max(0, Math.floor(top / ROW) - BEYOND);
  const last = Math.min(rows.length, Math.ceil((top + height) / ROW) + BEYOND);
  const at = Math.max(
    0,
    rows.findIndex((row) => row.id === active),
  );

  const reveal = (k: number) => {
    const box = scroller.current!;
    if (k * ROW < box.scrollTop) box.scrollTop = k * ROW;
    else if ((k + 1) * ROW > box.scrollTop + box.clientHeight) box.scrollTop = (k + 1) * ROW - box.clientHeight;
  };
  // What was selected elsewhere is brought into view once, as soon as its row is there.
  const shown = useRef("");
  useEffect(() => {
    const k = props.selected ? rows.findIndex((row) => row.path === props.selected && row.count === 1) : -1;
    if (k < 0 || shown.current === props.selected || props.query) return;
    shown.current = props.selected;
    reveal(k);
  }, [props.selected, rows]);
  const go = (k: number) => {
    const to = Math.min(rows.length - 1, Math.max(0, k));
    if (!rows[to]) return;
    props.onActive(rows[to].id);
    reveal(to);
  };
  const row = rows[at];
  const choose = () => props.onChoose(row);
  const inwards = () => {
    if (row.opens && !row.open) props.onToggle(row.id);
    else if (row.open) go(at + 1);
  };
  const outwards = () => {
    if (row.open) return props.onToggle(row.id);
    let parent = at - 1;
    while (parent > 0 && rows[parent].depth >= row.depth) parent--;
    go(parent);
  };
  const openSiblings = () => {
    const alike = rows.filter((each) => each.depth === row.depth && each.opens && !each.open);
    for (const each of alike) props.onToggle(each.id);
  };
  const walk = walker({
    at: [at, 0],
    size: [rows.length, 1],
    go: ([to]) => go(to),
    others: {
      PageDown: () => go(at + TALLEST - 1),
      PageUp: () => go(at - TALLEST + 1),
      Home: () => go(0),
      End: () => go(rows.length - 1),
      ArrowRight: inwards,
      ArrowLeft: outwards,
      Enter: choose,
      " ": choose,
      "*": openSiblings,
    },
    typed: (letter) => typeAhead(letter),
  });
  const keys = (event: KeyboardEvent) => {
    if (row) walk(event);
  };
  /** Letters typed in quick succession find the next row that begins with them. */
  const typeAhead = (letter: string) => {
    const now = performance.now();
    const text = (now - typed.current.at < 700 ? typed.current.text : "") + letter.toLowerCase();
    typed.current = { text, at: now };
    for (let k = text.length > 1 ? 0 : 1; k < rows.length; k++) {
      const place = (at + k) % rows.length;
      if (rows[place].label.replace("[", "").toLowerCase().startsWith(text)) return go(place);
    }
  };
  const inView = at >= first && at < last;
  return (
    <div
      class="nnv-rows"
      ref={scroller}
      style={{ height: `${height + 2}px` }}
      role="tree"
      tabIndex={0}
      aria-label={`modules of ${props.title}`}
      aria-activedescendant={inView && rows.length ? `${name}-${at}` : undefined}
      onKeyDown={keys}
      onScroll={(event) => setTop(event.currentTarget.scrollTop)}>
      <div role="none" style={{ height: `${rows.length * ROW}px`, position: "relative" }}>
        {rows.slice(first, last).map((row, k) => (
          <OneRow
            key={row.id}
            row={row}
            tree={tree}
            id={`${name}-${first + k}`}
            top={(first + k) * ROW}
            note={row.id === row.path ? noteOf(props.notes, row.path) : {}}
            inside={noteInside(props.notes, row)}
            wanted={props.wanted.includes(row.path)}
            selected={
              (row.path === props.selected && props.selected !== "" && row.count === 1) ||
              (row.id === props.selected && row.id !== "")
            }
            active={first + k === at}
            onToggle={() => props.onToggle(row.id)}
            onChoose={() => props.onChoose(row)}
          />
        ))}
      </div>
    </div>
  );
}

interface RowProps {
  row: Row;
  tree: Tree;
  id: string;
  top: number;
  note: NoteForm;
  inside: NoteForm;
  wanted: boolean;
  selected: boolean;
  active: boolean;
  onToggle(): void;
  onChoose(): void;
}

function OneRow({ row, tree, id, top, note, inside, wanted, selected, active, onToggle, onChoose }: RowProps) {
  const kind = tree.kinds.get(row.kind);
  const repeated = row.count > 1 ? ` × ${row.count}` : "";
  const shapes = note.o ? `${note.i ? `${note.i} → ` : ""}${note.o}` : "";
  return (
    <div
      id={id}
      role="treeitem"
      class={`nnv-row${selected ? " nnv-selected" : ""}${active ? " nnv-active" : ""}${note.n ? " nnv-idle" : ""}`}
      style={{ top: `${top}px`, paddingLeft: `${4 + row.depth * 16}px` }}
      aria-level={row.depth + 1}
      aria-posinset={row.place + 1}
      aria-setsize={row.siblings}
      aria-selected={selected}
      aria-expanded={row.opens ? row.open : undefined}
      onClick={onChoose}
      onDblClick={() => row.opens && onToggle()}>
      <span
        class="nnv-twist"
        aria-hidden="true"
        onClick={(event) => {
          event.stopPropagation();
          if (row.opens) onToggle();
        }}>
        {row.opens ? (row.open ? "▾" : "▸") : ""}
      </span>
      <span class="nnv-name" title={row.label.length > 40 ? row.label : undefined}>
        {row.label}
        {repeated && <b class="nnv-times">{repeated}</b>}
      </span>
      <span class="nnv-class">
        {kind?.className ?? "…"}
        {kind?.note && <span class="nnv-note">({kind.note})</span>}
      </span>
      <Badges note={note} wanted={wanted} most={2} />
      <Badges note={inside} wanted={false} most={2} inside />
      <span class="nnv-shapes">{shapes}</span>
      <span class="nnv-num" title={kind ? `${kind.parameters.toLocaleString("en-US")} parameters` : ""}>
        {kind?.parameters ? count(kind.parameters) : ""}
      </span>
      <span class="nnv-num nnv-wide">{kind?.bytes ? bytes(kind.bytes) : ""}</span>
      <span class="nnv-kind nnv-wide">{kind?.dtype}</span>
      <span class="nnv-kind nnv-wider">{kind?.device}</span>
    </div>
  );
}
