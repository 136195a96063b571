// The status bar's item: the model, its device and memory, and a stop while a forward runs.
import type { NotebookTracker } from "@jupyterlab/notebook";
import { Widget } from "@lumino/widgets";
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { bytes } from "../../src/core/format";
import { style } from "../../src/core/styled";
import { type Front, followFront } from "./front";
import { type Link, linkOf } from "./link";
import own from "./panel.css";

export class Status extends Widget {
  constructor(private tracker: NotebookTracker) {
    super();
    this.addClass("nnm-status");
  }

  protected override onAfterAttach(): void {
    style(this.node, own);
    render(<InFront tracker={this.tracker} />, this.node);
  }

  protected override onBeforeDetach(): void {
    render(null, this.node);
  }
}

/** The model in use, as nnsight_magic/lab/session.py tells it. */
interface InUse {
  model: string;
  device: string;
  bytes: number;
}

function InFront({ tracker }: { tracker: NotebookTracker }) {
  const [front, setFront] = useState<Front>({ notebook: null, kernel: null });
  useEffect(() => followFront(tracker, setFront), [tracker]);
  return front.kernel ? <OfKernel key={front.kernel.id} link={linkOf(front.kernel)} /> : null;
}

function OfKernel({ link }: { link: Link }) {
  const [, redraw] = useState(0);
  const [told, setTold] = useState<InUse | null>(null);
  useEffect(() => link.onChange(() => redraw((each) => each + 1)), [link]);
  const open = link.standing === "open";
  useEffect(() => {
    if (!open) {
      setTold(null);
      return undefined;
    }
    const look = () =>
      void link.ask("in_use").then((answer) => {
        if (answer && !answer["error"]) setTold(answer as unknown as InUse);
      });
    look();
    return link.onRan(look);
  }, [link, open]);
  if (!told?.model) return null;
  return (
    <>
      <span title="The model in use, its device and the memory of its weights">
        {told.model}
        {told.device && ` · ${told.device} · ${bytes(told.bytes)}`}
      </span>
      {link.running && (
        <button type="button" title={`Stop: ${link.running}`} onClick={() => void link.kernel.interrupt()}>
          ■ stop
        </button>
      )}
    </>
  );
}
