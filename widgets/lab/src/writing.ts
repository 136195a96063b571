// In a cell that is being written: the trace's names coloured, what is wrong underlined, and at a hover what
// `?` shows. All of it is the kernel's own answer about the cell's text, for which nothing is run.
import { syntaxTree } from "@codemirror/language";
import { type Extension, StateEffect, StateField, type Text } from "@codemirror/state";
import {
  Decoration,
  type DecorationSet,
  EditorView,
  hoverTooltip,
  type Tooltip,
  ViewPlugin,
  type ViewUpdate,
} from "@codemirror/view";
import { printable } from "../../src/core/format";
import { isOurs } from "./cells";
import type { Link } from "./link";

/** Milliseconds without a key after which the kernel is asked. */
const PAUSE = 200;
/** Milliseconds after which a kernel is looked for again, where the notebook has none. */
const NO_KERNEL = 1000;
export const MEASURED = "nnsight-magic:check";

interface Problem {
  line: number;
  start: number;
  end: number;
  message: string;
  hint: string;
}

interface Checked {
  names: ReadonlySet<string>;
  problems: DecorationSet;
}

const NOTHING: Checked = { names: new Set(), problems: Decoration.none };
const NAME = Decoration.mark({ class: "nnm-name" });

const arrive = StateEffect.define<Checked>();

const checked = StateField.define<Checked>({
  create: () => NOTHING,
  update(value, transaction) {
    for (const effect of transaction.effects) if (effect.is(arrive)) return effect.value;
    if (!transaction.docChanged || value.problems.size === 0) return value;
    return { ...value, problems: value.problems.map(transaction.changes) };
  },
  provide: (field) => EditorView.decorations.from(field, (value) => value.problems),
});

/** Underlines for problems, each with its words; at least one character wide, so that it is seen. */
function underlined(doc: Text, problems: readonly Problem[]): DecorationSet {
  const marks = problems.flatMap((each) => {
    if (each.line < 1 || each.line > doc.lines) return [];
    const line = doc.line(each.line);
    const from = Math.min(line.from + each.start, Math.max(line.from, line.to - 1));
    const to = Math.min(Math.max(line.from + each.end, from + 1), line.to);
    if (from >= to) return [];
    const words = each.hint ? `${each.message}; ${each.hint}` : each.message;
    return [Decoration.mark({ class: "nnm-wrong", words: printable(words) }).range(from, to)];
  });
  return Decoration.set(marks, true);
}

/** Asks after a pause in typing, after every cell that ran, and when the kernel comes or goes. */
class Checker {
  private timer = 0;
  private asking = false;
  private link: Link | null = null;
  private forget: (() => void)[] = [];

  constructor(
    private view: EditorView,
    private linkNow: () => Link | null,
  ) {
    this.later();
  }

  update(update: ViewUpdate): void {
    if (update.docChanged) this.later();
  }

  destroy(): void {
    clearTimeout(this.timer);
    this.follow(null);
  }

  private later = (pause = PAUSE) => {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.check(), pause);
  };

  private follow(link: Link | null): void {
    if (link === this.link) return;
    for (const end of this.forget) end();
    this.forget = [];
    this.link = link;
    if (!link) return;
    const ran = () => {
      // The extension may have been loaded by a cell that began before this editor was there.
      void link.connect();
      this.later();
    };
    this.forget = [link.onChange(() => this.later()), link.onRan(ran)];
  }

  private async check(): Promise<void> {
    if (this.asking) return this.later();
    const { doc } = this.view.state;
    const text = doc.toString();
    if (!isOurs(text)) return this.show(NOTHING);
    this.follow(this.linkNow());
    // An editor is there before its notebook is, and before its kernel is: nothing is sent for this.
    if (!this.link) return this.later(NO_KERNEL);
    const began = performance.now();
    this.asking = true;
    const answer = await this.link.ask("check", { text });
    this.asking = false;
    if (this.view.state.doc !== doc) return;
    if (!answer || answer["error"]) return this.show(NOTHING);
    this.show({ names: new Set(answer["names"]), problems: underlined(doc, answer["problems"]) });
    performance.clearMeasures(MEASURED);
    performance.measure(MEASURED, { start: began });
  }

  private show(found: Checked): void {
    if (found !== NOTHING || this.view.state.field(checked) !== NOTHING)
      this.view.dispatch({ effects: arrive.of(found) });
  }
}

/** The trace's names among the variables that are in sight. */
function coloured(view: EditorView): DecorationSet {
  const { names } = view.state.field(checked);
  if (names.size === 0) return Decoration.none;
  const { doc } = view.state;
  const marks: ReturnType<typeof NAME.range>[] = [];
  for (const { from, to } of view.visibleRanges)
    syntaxTree(view.state).iterate({
      from,
      to,
      enter: (node) => {
        if (node.name === "VariableName" && names.has(doc.sliceString(node.from, node.to)))
          marks.push(NAME.range(node.from, node.to));
      },
    });
  return Decoration.set(marks, true);
}

const colours = ViewPlugin.define(
  (view) => ({
    marks: coloured(view),
    update(update: ViewUpdate) {
      const other = update.startState.field(checked).names !== update.state.field(checked).names;
      const parsed = syntaxTree(update.startState) !== syntaxTree(update.state);
      if (other || parsed || update.docChanged || update.viewportChanged) this.marks = coloured(update.view);
    },
  }),
  { decorations: (plugin) => plugin.marks },
);

/** What is wrong at a place, in words. */
function wrongAt(view: EditorView, position: number): string[] {
  const words: string[] = [];
  view.state.field(checked).problems.between(position, position, (_from, _to, mark) => {
    words.push(String(mark.spec["words"]));
  });
  return words;
}

async function explained(view: EditorView, position: number, link: Link | null): Promise<Tooltip | null> {
  const { doc } = view.state;
  const text = doc.toString();
  if (!isOurs(text)) return null;
  const line = doc.lineAt(position);
  const wrong = wrongAt(view, position);
  // A mistake is said alone: what stands before it is explained where that stands.
  const question = { text, line: line.number, column: position - line.from };
  const answer = wrong.length ? null : await link?.ask("about", question);
  const about = String(answer?.["about"] ?? "");
  if ((!about && !wrong.length) || view.state.doc !== doc) return null;
  const word = view.state.wordAt(position);
  return {
    pos: word?.from ?? position,
    end: word?.to ?? position,
    above: true,
    create() {
      const dom = document.createElement("div");
      dom.className = "nnm-about";
      for (const each of wrong) {
        const said = dom.appendChild(document.createElement("div"));
        said.className = "nnm-said";
        said.textContent = each;
      }
      if (about) dom.appendChild(document.createElement("pre")).textContent = printable(about);
      return { dom };
    },
  };
}

const look = EditorView.theme({
  ".nnm-name, .nnm-name > *": { color: "var(--jp-mirror-editor-attribute-color, LinkText)", fontWeight: "600" },
  ".nnm-wrong": {
    textDecoration: "underline wavy var(--jp-error-color1, red)",
    textDecorationSkipInk: "none",
    textUnderlineOffset: "3px",
  },
  ".cm-tooltip:has(> .nnm-about)": {
    background: "var(--jp-layout-color1, Canvas)",
    border: "1px solid var(--jp-border-color1, CanvasText)",
    borderRadius: "2px",
    boxShadow: "var(--jp-elevation-z6, none)",
  },
  ".nnm-about": {
    color: "var(--jp-content-font-color1, CanvasText)",
    padding: "6px 8px",
    maxWidth: "min(90ch, 70vw)",
    maxHeight: "40vh",
    overflow: "auto",
  },
  ".nnm-about pre": {
    margin: "0",
    whiteSpace: "pre-wrap",
    overflowWrap: "anywhere",
    fontFamily: "var(--jp-code-font-family, monospace)",
    fontSize: "var(--jp-code-font-size, 13px)",
  },
  ".nnm-said": {
    color: "var(--jp-content-font-color1, CanvasText)",
    borderLeft: "3px solid var(--jp-error-color1, red)",
    padding: "0 8px",
    marginBottom: "4px",
    fontFamily: "var(--jp-ui-font-family, sans-serif)",
    fontSize: "var(--jp-ui-font-size1, 13px)",
  },
});

/** The extension of one editor; `linkNow` is the link of the kernel that its notebook has. */
export function writing(linkNow: () => Link | null): Extension {
  return [
    checked,
    ViewPlugin.define((view) => new Checker(view, linkNow)),
    colours,
    hoverTooltip((view, position) => explained(view, position, linkNow()), { hoverTime: 400 }),
    look,
  ];
}
