// From the panel into the notebook: text at the cursor, new cells, a cell by its text.
import { type Cell, NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";

const OURS = /^\s*%%(trace|generate|edit|sweep|audit)\b/m;

/** Whether a cell is one in which a path is written as the trace's names have it. */
export const isOurs = (source: string) => OURS.test(source);

/** A path in a cell: as a trace cell has it, or from the notebook's variable on. */
export function spelled(source: string, variable: string, name: string): string {
  if (isOurs(source)) return name;
  if (name === "model") return variable;
  return name.startsWith("[") ? `${variable}${name}` : `${variable}.${name}`;
}

/** Whether the cursor of a cell would take text. */
export function isEditing(notebook: NotebookPanel | null): boolean {
  return notebook?.content.activeCell?.editor?.hasFocus() ?? false;
}

/** Puts text at the active cell's cursor; says whether there is one. */
export function insert(notebook: NotebookPanel, variable: string, name: string): boolean {
  const cell = notebook.content.activeCell;
  const editor = cell?.editor;
  if (!cell || !editor?.replaceSelection || cell.model.type !== "code") return false;
  editor.replaceSelection(spelled(cell.model.sharedModel.getSource(), variable, name));
  editor.focus();
  return true;
}

/** Makes a cell below the active one, and puts the cursor into it. */
export function newCell(notebook: NotebookPanel, source: string): Cell | null {
  const { content } = notebook;
  NotebookActions.insertBelow(content);
  const cell = content.activeCell;
  if (!cell) return null;
  cell.model.sharedModel.setSource(source);
  content.mode = "edit";
  cell.editor?.focus();
  return cell;
}

/** Makes a cell and runs it. */
export function runInNewCell(notebook: NotebookPanel, source: string): void {
  if (newCell(notebook, source)) void NotebookActions.run(notebook.content, notebook.sessionContext);
}

const trimmed = (text: string) => text.replace(/\s+$/, "");

/** Makes the cell active that has a run's text as its end; says whether there still is one. */
export function goTo(notebook: NotebookPanel, body: string): boolean {
  const { content } = notebook;
  const at = content.widgets.findLastIndex((cell) => {
    const source = cell.model.sharedModel.getSource();
    return isOurs(source) && trimmed(source).endsWith(trimmed(body));
  });
  if (at < 0 || !body.trim()) return false;
  content.deselectAll();
  content.activeCellIndex = at;
  void content.scrollToItem?.(at, "smart");
  content.node.focus();
  return true;
}
