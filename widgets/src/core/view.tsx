// Any view by its model: the kind decides. Views that hold others know this file, and no other kind.
import { Component, type ComponentChildren } from "preact";
import { kernelOf, type Witness } from "./kernel";
import { useReferred } from "./model";
import { Notice } from "./parts";
import type { Kind, Model } from "./widget";

const KINDS = new Map<string, Kind>();

/** From now on a model of that kind is shown by this view. */
export function register(name: string, kind: Kind): void {
  KINDS.set(name, kind);
}

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
  const Kind = KINDS.get(model.get("kind"));
  if (!Kind) return <Notice text={`There is no view of the kind ${String(model.get("kind"))}.`} />;
  return (
    <Guard>
      <Kind model={model} selection={selected ?? own ?? null} />
    </Guard>
  );
}
