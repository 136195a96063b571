// The entry: puts a view into an element and keeps what it needs around it in order.
import { render } from "preact";
import { whenPlaced } from "./core/placed";
import { hideStill } from "./core/still";
import { style } from "./core/styled";
import { View } from "./core/view";
import type { Model } from "./core/widget";
import { registerAll } from "./kinds";
import styles from "./styles.css";

registerAll();

export default {
  render({ model, el }: { model: Model; el: HTMLElement }): () => void {
    const root = document.createElement("div");
    root.className = "nnv";
    // A key pressed in a view is the view's: `d d` must not delete the notebook's cell.
    for (const kind of ["keydown", "keypress", "keyup"]) {
      root.addEventListener(kind, (event) => event.stopPropagation());
    }
    el.append(root);
    const unplaced = whenPlaced(root, () => style(root, styles));
    render(<View model={model} />, root);
    const restore = hideStill(model, root);
    return () => {
      restore();
      unplaced();
      render(null, root);
      root.remove();
    };
  },
};
