// What JupyterLab 4 and Notebook 7 load: the side panel "Model", and help in the cells themselves. Each stands
// alone, so that where one cannot be, the others are.
import type { Application, Plugin } from "@jupyterlab/application";
import { type CommandPalette, ICommandPalette } from "@jupyterlab/apputils";
import { type EditorExtensionRegistry, IEditorExtensionRegistry } from "@jupyterlab/codemirror";
import { ILauncher, type Launcher } from "@jupyterlab/launcher";
import { INotebookTracker, type NotebookTracker } from "@jupyterlab/notebook";
import { ISettingRegistry, type SettingRegistry } from "@jupyterlab/settingregistry";
import { IStatusBar, type StatusBar } from "@jupyterlab/statusbar";
import { addCommands } from "./commands";
import { linkOf } from "./link";
import { followSettings } from "./settings";
import { Side } from "./side";
import { Status } from "./status";
import { writing } from "./writing";

const SHOW = "nnsight-magic:show";

const panel: Plugin = {
  id: "nnsight-magic:plugin",
  description: "Modules, saved tensors, runs and edits of the notebook's model, beside it.",
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette, ILauncher],
  activate(
    application: Application,
    tracker: NotebookTracker,
    palette: CommandPalette | null,
    launcher: Launcher | null,
  ) {
    const side = new Side(tracker);
    application.shell.add(side, "left", { rank: 900 });
    application.commands.addCommand(SHOW, {
      label: "Show the Model Panel",
      caption: "Modules, saved tensors, runs and edits",
      execute: () => application.shell.activateById(side.id),
    });
    palette?.addItem({ command: SHOW, category: "Model" });
    addCommands(application, tracker, palette, launcher, "Model");
  },
};

const cells: Plugin = {
  id: "nnsight-magic:cells",
  description: "Names of a trace, mistakes and modules in cells that are being written.",
  autoStart: true,
  requires: [INotebookTracker, IEditorExtensionRegistry],
  activate(_: Application, tracker: NotebookTracker, editors: EditorExtensionRegistry) {
    editors.addExtension({
      name: "nnsight-magic:cells",
      factory: ({ model }) => {
        const linkNow = () => {
          const notebook = tracker.find((each) => each.content.widgets.some((cell) => cell.model === model));
          const kernel = notebook?.sessionContext.session?.kernel;
          return kernel ? linkOf(kernel) : null;
        };
        return { instance: () => writing(linkNow), reconfigure: () => null };
      },
    });
  },
};

const settings: Plugin = {
  id: "nnsight-magic:settings",
  description: "The settings page: defaults of the magics' options, in every kernel.",
  autoStart: true,
  requires: [INotebookTracker, ISettingRegistry],
  activate(_: Application, tracker: NotebookTracker, registry: SettingRegistry) {
    // They stand in the schema of the panel's plugin, beside its menu.
    void registry.load(panel.id).then((found) => followSettings(found, tracker), console.warn);
  },
};

const status: Plugin = {
  id: "nnsight-magic:status",
  description: "The model in use, its device and memory, and a stop while a forward runs.",
  autoStart: true,
  requires: [INotebookTracker, IStatusBar],
  activate(_: Application, tracker: NotebookTracker, bar: StatusBar) {
    const item = new Status(tracker);
    bar.registerStatusItem(status.id, { item, align: "left", rank: 90, isActive: () => true });
  },
};

export default [panel, cells, settings, status];
