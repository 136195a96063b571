// The side panel "Model" of JupyterLab 4 and Notebook 7.
import type { Application, Plugin } from "@jupyterlab/application";
import { type CommandPalette, ICommandPalette } from "@jupyterlab/apputils";
import { INotebookTracker, type NotebookTracker } from "@jupyterlab/notebook";
import { Side } from "./side";

const SHOW = "nnsight-magic:show";

const panel: Plugin = {
  id: "nnsight-magic:plugin",
  description: "Modules, saved tensors, runs and edits of the notebook's model, beside it.",
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette],
  activate(application: Application, tracker: NotebookTracker, palette: CommandPalette | null) {
    const side = new Side(tracker);
    application.shell.add(side, "left", { rank: 900 });
    application.commands.addCommand(SHOW, {
      label: "Show the Model Panel",
      caption: "Modules, saved tensors, runs and edits",
      execute: () => application.shell.activateById(side.id),
    });
    palette?.addItem({ command: SHOW, category: "Model" });
  },
};

export default [panel];
