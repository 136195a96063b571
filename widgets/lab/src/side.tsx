// The panel as JupyterLab holds it: drawn while it is seen, and nothing at all while it is not.
import type { NotebookTracker } from "@jupyterlab/notebook";
import { LabIcon } from "@jupyterlab/ui-components";
import { Widget } from "@lumino/widgets";
import { render } from "preact";
import { style } from "../../src/core/styled";
import views from "../../src/styles.css";
import { Panel } from "./panel";
import own from "./panel.css";

const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="20"><g class="jp-icon3" fill="#616161"><circle cx="5" cy="6" r="2.4"/><circle cx="5" cy="12" r="2.4"/><circle cx="5" cy="18" r="2.4"/><circle cx="19" cy="9" r="2.4"/><circle cx="19" cy="15" r="2.4"/><path d="M5 6 19 9M5 6l14 9M5 12l14-3M5 12l14 3M5 18l14-9M5 18l14-3" fill="none" class="jp-icon3-stroke" stroke="#616161" stroke-width="1.2"/></g></svg>`;

export class Side extends Widget {
  constructor(private tracker: NotebookTracker) {
    super();
    this.id = "nnsight-magic-panel";
    this.title.caption = "Model";
    this.title.icon = new LabIcon({ name: "nnsight-magic:model", svgstr: ICON });
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
