// A trace's result: small at first, with everything that was kept one click away.
import { printable, shape as shapeText } from "../core/format";
import { useReferred, useTrait } from "../core/model";
import { Token } from "../core/parts";
import { useSelected } from "../core/selection";
import { View } from "../core/view";
import type { Model } from "../core/widget";
import type { TextsForm } from "../core/wire";
import { TensorView } from "../tensor/tensor";

export function TraceView({ model, selection }: { model: Model; selection: Model | null }) {
  const [facts] = useTrait<string[]>(model, "facts");
  const [wrote] = useTrait<string[]>(model, "wrote");
  const [notices] = useTrait<string[]>(model, "notices");
  const [open, setOpen] = useTrait<number[]>(model, "open_tensors");
  const [others] = useTrait<string[]>(model, "others");
  const [texts] = useTrait<TextsForm[]>(model, "texts");
  const [hasTree] = useTrait<boolean>(model, "has_tree");
  const [treeOpen, setTreeOpen] = useTrait<boolean>(model, "tree_open");
  const references = useParts(model);
  const [tokens, steps, tree, ...tensors] = useReferred(model, references);
  const title = model.get("title") as string;
  const toggle = (k: number) => setOpen(open.includes(k) ? open.filter((each) => each !== k) : [...open, k]);
  return (
    <section class="nnv-trace" aria-label={title}>
      <header>
        <b>{title}</b>
        <span class="nnv-dim">{facts.join(" · ")}</span>
        {wrote.length > 0 && (
          <span class="nnv-dim">
            wrote{" "}
            <code class="nnv-wrote-list">
              {wrote.slice(0, 4).join(", ")}
              {wrote.length > 4 && " …"}
            </code>
          </span>
        )}
        {(tree || hasTree) && (
          <span class="nnv-tools">
            <button
              type="button"
              aria-pressed={treeOpen}
              aria-expanded={treeOpen}
              onClick={() => setTreeOpen(!treeOpen)}>
              <span aria-hidden="true">{treeOpen ? "▾" : "▸"} </span>modules
            </button>
          </span>
        )}
      </header>
      {notices.map((text, k) => (
        <div class="nnv-notice" key={k}>
          {text}
        </div>
      ))}
      {steps && <View model={steps} selected={selection} />}
      {(texts ?? []).map((each, k) => (
        <TwoTexts key={k} texts={each} />
      ))}
      {tokens && <View model={tokens} selected={selection} />}
      {tensors.length > 0 && (
        <ul class="nnv-thumbs" aria-label="saved tensors">
          {tensors.map(
            (each, k) =>
              each && (
                <Thumb key={k} model={each} selection={selection} open={open.includes(k)} onToggle={() => toggle(k)} />
              ),
          )}
        </ul>
      )}
      {others.length > 0 && <div class="nnv-dim nnv-others">also saved: {others.join(", ")}</div>}
      {tensors.map(
        (each, k) =>
          each &&
          open.includes(k) && (
            <div class="nnv-opened" key={k}>
              <View model={each} selected={selection} />
            </div>
          ),
      )}
      {treeOpen && !tree && (
        <div class="nnv-dim">The modules come from the kernel. If they do not, run the cell again.</div>
      )}
      {tree && treeOpen && (
        <div class="nnv-opened">
          <View model={tree} selected={selection} />
        </div>
      )}
    </section>
  );
}

/** Two texts, token over token, with what differs marked; columns go on in the next line. */
function TwoTexts({ texts: { name, heads, columns } }: { texts: TextsForm }) {
  return (
    <div
      class="nnv-two"
      role="group"
      aria-label={[name, "new tokens with the writes and without"].filter(Boolean).join(": ")}>
      {name && <b>{printable(name)}</b>}
      <div class="nnv-column nnv-dim">
        {heads.map((head) => (
          <span key={head}>{head}</span>
        ))}
      </div>
      {columns.map((column, k) => (
        <div class={`nnv-column${column[0] === column[1] ? "" : " nnv-differs"}`} key={k}>
          {column.map((token, row) => (
            <span class={token === null ? "nnv-none" : "nnv-tok"} key={row}>
              {token === null ? "\u00a0" : <Token text={token} />}
            </span>
          ))}
        </div>
      ))}
    </div>
  );
}

/** References to the parts, in the order in which they stand. */
function useParts(model: Model): unknown[] {
  const [tokens] = useTrait<unknown>(model, "tokens");
  const [steps] = useTrait<unknown>(model, "steps");
  const [tree] = useTrait<unknown>(model, "tree");
  const [tensors] = useTrait<unknown[]>(model, "tensors");
  return [tokens, steps, tree, ...tensors];
}

interface ThumbProps {
  model: Model;
  selection: Model | null;
  open: boolean;
  onToggle(): void;
}

function Thumb({ model, selection, open, onToggle }: ThumbProps) {
  const [module] = useSelected(selection, "module");
  const compared = model.get("kind") === "compare";
  const [first] = useReferred(model, compared ? [model.get("difference") ?? model.get("first")] : []);
  const shown = compared ? first : model;
  if (!shown) return null;
  const own = model.get("module") as string | undefined;
  const marked = own !== undefined && own !== "" && own === module;
  const about = shown.get("about") as { shape: number[] };
  return (
    <li>
      <button
        type="button"
        class={`nnv-thumb-button${marked ? " nnv-selected" : ""}`}
        aria-expanded={open}
        aria-pressed={open}
        title={shown.get("expression")}
        onClick={onToggle}>
        <span class="nnv-thumb-box" aria-hidden="true">
          <TensorView model={shown} selection={null} thumb />
        </span>
        <span class="nnv-thumb-name">
          <b>{model.get("title")}</b> <code>{shapeText(about.shape)}</code>
        </span>
      </button>
    </li>
  );
}
