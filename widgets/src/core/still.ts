// A view's still twin stands in an output of its own, for notebooks without a kernel. The live view
// hides it while it is alive.
import type { Model } from "./widget";

export function hideStill(model: Model, root: HTMLElement): () => void {
  const id = model.get("twin") as string | undefined;
  if (!id) return () => {};
  const hidden: [HTMLElement, string][] = [];
  const hide = () => {
    const twins = document.querySelectorAll<HTMLElement>(`[data-nnv="${CSS.escape(id)}"]`);
    for (const twin of twins) {
      const output = twin.closest<HTMLElement>(".jp-OutputArea-child, .output_area") ?? twin;
      if (output.contains(root) || hidden.some(([each]) => each === output)) continue;
      hidden.push([output, output.style.display]);
      output.style.display = "none";
    }
  };
  hide();
  // The twin may come after the view, and comes again when its output is drawn again.
  const area = root.closest(".jp-OutputArea, .output_wrapper") ?? root.ownerDocument.body;
  const observer = new MutationObserver(hide);
  observer.observe(area, { childList: true, subtree: true });
  return () => {
    observer.disconnect();
    for (const [output, display] of hidden) output.style.display = display;
  };
}
