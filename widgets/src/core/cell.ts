// A new cell of the notebook, below the one that a view stands in. Only the text comes from the kernel;
// where a front end lets nobody add cells, the caller copies it instead.
import type { Model } from "./widget";

interface SharedCell {
  cell_type: string;
  source: string;
}

/** The notebook's model, as far as JupyterLab and Notebook 7 have it behind a widget's manager. */
interface Book {
  cells: { length: number };
  insertCell(index: number, cell: SharedCell): unknown;
}

function bookOf(model: Model): Book | null {
  const manager = model.widget_manager as { context?: { model?: { sharedModel?: unknown } } } | undefined;
  const book = manager?.context?.model?.sharedModel as Partial<Book> | undefined;
  return book && typeof book.insertCell === "function" && book.cells ? (book as Book) : null;
}

/** The number of the notebook's cell that an element stands in; -1 where it stands in none. */
export function cellNumber(element: Element | null): number {
  const cell = element?.closest(".jp-Cell");
  if (!cell) return -1;
  // Cells out of sight are not in the page, so each that is says which one it is.
  const windowed = cell.closest("[data-windowed-list-index]")?.getAttribute("data-windowed-list-index");
  if (windowed) return Number(windowed);
  const all = cell.parentElement?.querySelectorAll(":scope > .jp-Cell") ?? [];
  return [...all].indexOf(cell);
}

/** Puts a cell below the view's own, and says whether it could. */
export function insertBelow(model: Model, element: Element | null, source: string): boolean {
  const book = bookOf(model);
  const at = cellNumber(element);
  if (!book || at < 0) return false;
  book.insertCell(Math.min(at + 1, book.cells.length), { cell_type: "code", source });
  return true;
}
