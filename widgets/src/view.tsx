// Any view by its model: the kind decides.
import { Component, type ComponentChildren, type FunctionComponent } from "preact";
import { CompareView } from "./compare/compare";
import { kernelOf, type Witness } from "./core/kernel";
import { useReferred, type Model } from "./core/model";
import { Notice } from "./core/parts";
import { StepsView } from "./steps/steps";
import { TensorView } from "./tensor/tensor";
import { GridView } from "./tokens/grid";
import { TokensView } from "./tokens/tokens";
import { TraceView } from "./trace/trace";
import { TreeView } from "./tree/tree";

const VIEWS: Record<string, FunctionComponent<{ model: Model; selection: Model | null }>> = {
  tensor: TensorView,
  tree: TreeView,
  tokens: TokensView,
  grid: GridView,
  steps: StepsView,
  compare: CompareView,
  trace: TraceView,
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

/** `selected` is the selection of the view around it, where there is one. */
export function View({ model, selected }: { model: Model; selected?: Model | null }) {
  const [own] = useReferred(model, [model.get("selection")]);
  if (own) kernelOf(model).witness = own as Witness;
  const Kind = VIEWS[model.get("kind")];
  if (!Kind) return <Notice text={`There is no view of the kind ${String(model.get("kind"))}.`} />;
  return (
    <Guard>
      <Kind model={model} selection={selected ?? own ?? null} />
    </Guard>
  );
}
