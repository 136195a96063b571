// Commands of the palette and of the menu "Model": cells to begin with, and the last two runs side by side.
import type { Application } from "@jupyterlab/application";
import type { CommandPalette } from "@jupyterlab/apputils";
import type { Launcher } from "@jupyterlab/launcher";
import type { NotebookPanel, NotebookTracker } from "@jupyterlab/notebook";
import { newCell, runInNewCell } from "./cells";
import { icon } from "./icon";
import { type Link, linkOf } from "./link";
import { openQuickstart } from "./quickstart";
import type { Told } from "./told";
import { begun } from "./written_cells";

/** What the kernel of a notebook has; null where it has not loaded the extension. */
async function toldOf(notebook: NotebookPanel): Promise<Told | null> {
  const kernel = notebook.sessionContext.session?.kernel;
  const answer = kernel ? await linkOf(kernel).ask("state", { model: "" }) : null;
  return answer && !answer["error"] ? (answer as unknown as Told) : null;
}

interface Command {
  id: string;
  label: string;
  caption: string;
  act(notebook: NotebookPanel, told: Told | null): void;
}

const COMMANDS: readonly Command[] = [
  {
    id: "nnsight-magic:new-trace",
    label: "New Trace Cell",
    caption: "A %%trace cell below the active one, with the last prompt",
    act: (notebook, told) => newCell(notebook, begun.trace(told)),
  },
  {
    id: "nnsight-magic:new-generate",
    label: "New Generate Cell",
    caption: "A %%generate cell below the active one, with the last prompt",
    act: (notebook, told) => newCell(notebook, begun.generate(told)),
  },
  {
    id: "nnsight-magic:new-sweep",
    label: "New Sweep Cell",
    caption: "A %%sweep cell below the active one, with the last prompt",
    act: (notebook, told) => newCell(notebook, begun.sweep(told)),
  },
  {
    id: "nnsight-magic:compare-last",
    label: "Compare the Last Two Runs",
    caption: "Runs %runs with the numbers of the last two, in a new cell",
    act(notebook, told) {
      const [last, before] = told?.runs ?? [];
      if (last && before) runInNewCell(notebook, `%runs ${before.number} ${last.number}`);
      else newCell(notebook, "# There are no two runs to compare yet.");
    },
  },
];

function linkInFront(tracker: NotebookTracker): Link | null {
  const kernel = tracker.currentWidget?.sessionContext.session?.kernel;
  return kernel ? linkOf(kernel) : null;
}

/** Adds the commands; those for cells are there while a notebook is, the stop while a forward runs. */
export function addCommands(
  application: Application,
  tracker: NotebookTracker,
  palette: CommandPalette | null,
  launcher: Launcher | null,
  category: string,
): void {
  const { commands } = application;
  commands.addCommand("nnsight-magic:stop", {
    label: "Stop the Running Forward",
    caption: "Interrupts the kernel; what there is so far is kept",
    isEnabled: () => Boolean(linkInFront(tracker)?.running),
    execute: () => linkInFront(tracker)?.kernel.interrupt(),
  });
  commands.addCommand("nnsight-magic:quickstart", {
    label: "Look Inside a Model",
    caption: "Opens a copy of the quickstart",
    icon,
    execute: (args) => openQuickstart(application, String(args?.["cwd"] ?? "")),
  });
  for (const command of ["nnsight-magic:stop", "nnsight-magic:quickstart"]) palette?.addItem({ command, category });
  launcher?.add({ command: "nnsight-magic:quickstart", category: "Other", rank: 90 });
  for (const { id, label, caption, act } of COMMANDS) {
    commands.addCommand(id, {
      label,
      caption,
      isEnabled: () => tracker.currentWidget !== null,
      execute: async () => {
        const notebook = tracker.currentWidget;
        if (notebook) act(notebook, await toldOf(notebook));
      },
    });
    palette?.addItem({ command: id, category });
  }
}
