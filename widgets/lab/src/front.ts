// Which notebook is in front, and the kernel that it has now.
import type { NotebookPanel, NotebookTracker, SessionContext } from "@jupyterlab/notebook";
import type { Kernel } from "@jupyterlab/services";

export interface Front {
  notebook: NotebookPanel | null;
  kernel: Kernel | null;
}

/** Calls back now and whenever another notebook comes to the front or gets another kernel. */
export function followFront(tracker: NotebookTracker, listener: (front: Front) => void): () => void {
  let context: SessionContext | null = null;
  const tell = () => {
    const notebook = tracker.currentWidget;
    listener({ notebook, kernel: notebook?.sessionContext.session?.kernel ?? null });
  };
  const turn = () => {
    context?.kernelChanged.disconnect(tell);
    context = tracker.currentWidget?.sessionContext ?? null;
    context?.kernelChanged.connect(tell);
    tell();
  };
  tracker.currentChanged.connect(turn);
  turn();
  return () => {
    tracker.currentChanged.disconnect(turn);
    context?.kernelChanged.disconnect(tell);
  };
}
