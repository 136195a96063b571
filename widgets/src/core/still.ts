// A view's still twin stands in an output of its own, for notebooks without a kernel. The live view
// hides it while it is alive.
import { whenPlaced } from "./placed";
import type { Model } from "./widget";

/** How many live views hide an output, and how it was displayed before the first of them. */
const hidden = new WeakMap<HTMLElement, { views: number; display: string }>();

function hide(output: HTMLElement): void {
  const before = hidden.get(output);
  hidden.set(output, { views: (before?.views ?? 0) + 1, display: before?.display ?? output.style.display });
  output.style.display = "none";
}

function give(output: HTMLElement): void {
  const { views, display } = hidden.get(output)!;
  if (views > 1) {
    hidden.set(output, { views: views - 1, display });
    return;
  }
  hidden.delete(output);
  output.style.display = display;
}

export function hideStill(model: Model, root: HTMLElement): () => void {
  const id = model.get("twin") as string | undefined;
  if (!id) return () => {};
  const mine = new Set<HTMLElement>();
  const look = () => {
    // JupyterLab draws a cell before it is in the page, where the document does not know it.
    const area = root.closest(".jp-OutputArea, .output_wrapper");
    for (const place of area ? [area, document] : [document]) {
      for (const twin of place.querySelectorAll<HTMLElement>(`[data-nnv="${CSS.escape(id)}"]`)) {
        const output = twin.closest<HTMLElement>(".jp-OutputArea-child, .output_area") ?? twin;
        if (output.contains(root) || mine.has(output)) continue;
        mine.add(output);
        hide(output);
      }
    }
  };
  const unplaced = whenPlaced(root, look);
  // The twin may come after the view, and comes again when its output is drawn again.
  const changes = new MutationObserver(look);
  changes.observe(root.closest(".jp-OutputArea, .output_wrapper") ?? root.ownerDocument.body, {
    childList: true,
    subtree: true,
  });
  return () => {
    changes.disconnect();
    unplaced();
    mine.forEach(give);
  };
}
