// Commands of the palette and of the menu "Model": cells to begin with, and the last two runs side by side.
import type { Application } from "@jupyterlab/application";
import type { CommandPalette } from "@jupyterlab/apputils";
import type { NotebookPanel, NotebookTracker } from "@jupyterlab/notebook";
import { newCell, runInNewCell } from "./cells";
import { linkOf } from "./link";
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

/** Adds the commands; each is there while a notebook is. */
export function addCommands(
  application: Application,
  tracker: NotebookTracker,
  palette: CommandPalette | null,
  category: string,
): void {
  for (const { id, label, caption, act } of COMMANDS) {
    application.commands.addCommand(id, {
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
