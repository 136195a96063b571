// The panel as JupyterLab holds it: drawn while it is seen, and nothing at all while it is not.
import type { NotebookTracker } from "@jupyterlab/notebook";
import { Widget } from "@lumino/widgets";
import { render } from "preact";
import { style } from "../../src/core/styled";
import views from "../../src/styles.css";
import { icon } from "./icon";
import { Panel } from "./panel";
import own from "./panel.css";

export class Side extends Widget {
  constructor(private tracker: NotebookTracker) {
    super();
    this.id = "nnsight-magic-panel";
    this.title.caption = "Model";
    this.title.icon = icon;
    this.addClass("nnv");
    this.addClass("nnm-side");
    this.node.setAttribute("role", "region");
    this.node.setAttribute("aria-label", "Model");
  }

  protected override onAfterAttach(): void {
    if (this.isVisible) this.draw();
  }

  protected override onAfterShow(): void {
    this.draw();
  }

  protected override onAfterHide(): void {
    render(null, this.node);
  }

  protected override onBeforeDetach(): void {
    render(null, this.node);
  }

  protected override onActivateRequest(): void {
    this.node.querySelector<HTMLElement>("input, select, button, [tabindex]")?.focus();
  }

  private draw(): void {
    style(this.node, views);
    style(this.node, own);
    render(<Panel tracker={this.tracker} />, this.node);
  }
}
