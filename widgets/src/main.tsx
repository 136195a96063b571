// The entry: finds the view for a model, and keeps what a view needs around it in order.
import { Component, render, type ComponentChildren, type FunctionComponent } from "preact";
import { useReferred, type Model } from "./core/model";
import { Notice } from "./core/parts";
import { hideStill } from "./core/still";
import styles from "./styles.css";
import { TensorView } from "./tensor/tensor";
import { TreeView } from "./tree/tree";

const VIEWS: Record<string, FunctionComponent<{ model: Model; selection: Model | null }>> = {
  tensor: TensorView,
  tree: TreeView,
};

/** An error while drawing becomes a notice, and leaves the rest of the notebook alone. */
class Guard extends Component<{ children: ComponentChildren }, { trouble: string }> {
  override state = { trouble: "" };
  static override getDerivedStateFromError(error: Error) {
    return { trouble: error.message };
  }
  override render() {
    if (this.state.trouble) return <Notice text={`This view cannot be drawn: ${this.state.trouble}`} />;
    return this.props.children;
  }
}

export function View({ model }: { model: Model }) {
  const [selection] = useReferred(model, [model.get("selection")]);
  const Kind = VIEWS[model.get("kind")];
  if (!Kind) return <Notice text={`There is no view of the kind ${String(model.get("kind"))}.`} />;
  return (
    <Guard>
      <Kind model={model} selection={selection ?? null} />
    </Guard>
  );
}

const styled = new WeakSet<Node>();

function style(element: Element): void {
  const root = element.getRootNode() as Document | ShadowRoot;
  if (styled.has(root) || !("adoptedStyleSheets" in root)) return;
  styled.add(root);
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(styles);
  root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet];
}

export default {
  render({ model, el }: { model: Model; el: HTMLElement }): () => void {
    const root = document.createElement("div");
    root.className = "nnv";
    // A key pressed in a view is the view's: `d d` must not delete the notebook's cell.
    for (const kind of ["keydown", "keypress", "keyup"]) {
      root.addEventListener(kind, (event) => event.stopPropagation());
    }
    el.append(root);
    style(root);
    render(<View model={model} />, root);
    const restore = hideStill(model, root);
    return () => {
      restore();
      render(null, root);
      root.remove();
    };
  },
};
