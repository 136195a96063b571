// The module tree in the panel: the view that there is, with what can be done from here with a module.
import type { NotebookPanel } from "@jupyterlab/notebook";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Notice } from "../../src/core/parts";
import { type Action, Actions } from "../../src/tree/actions";
import { written } from "../../src/tree/rows";
import { TreeView } from "../../src/tree/tree";
import { insert, isEditing, newCell } from "./cells";
import type { Link } from "./link";
import type { Told, TreeTold } from "./told";
import { newSelection, TreeModel } from "./tree_model";
import { patched, read, zeroed } from "./written_cells";

interface Props {
  notebook: NotebookPanel;
  link: Link;
  told: Told;
}

/** The tree's model, made anew when the kernel's tree is another one. */
function useTree(link: Link, told: Told): [TreeModel | null, string] {
  const [tree, setTree] = useState<TreeModel | null>(null);
  const [trouble, setTrouble] = useState("");
  useEffect(() => {
    let current = true;
    void link.ask("tree", { model: told.model }).then((answer) => {
      if (!current || !answer) return;
      setTrouble(String(answer["error"] ?? ""));
      if (!answer["error"]) setTree((before) => new TreeModel(link, told.model, answer as unknown as TreeTold, before));
    });
    return () => {
      current = false;
    };
  }, [link, told.model, told.tree]);
  useEffect(() => tree?.take(told), [tree, told]);
  return [tree, trouble];
}

export function Modules({ notebook, link, told }: Props) {
  const [tree, trouble] = useTree(link, told);
  const selection = useMemo(newSelection, [tree?.variable]);
  const clicked = useRef(false);
  const nameOf = (path: string) => (tree ? written(path, tree.get("aliases")) : path);

  // A click on a module while a cell is being written puts its name at the cursor.
  useEffect(() => {
    const selected = () => {
      const path = selection.get("module") as string;
      if (clicked.current && path) insert(notebook, told.model, nameOf(path));
      clicked.current = false;
    };
    selection.on("change:module", selected);
    return () => selection.off("change:module", selected);
  });
  const onMouseDown = (event: MouseEvent) => {
    const row = (event.target as Element).closest("[role=treeitem]");
    clicked.current = row !== null && isEditing(notebook);
    // The cell keeps its cursor.
    if (clicked.current) event.preventDefault();
    if (clicked.current && row!.getAttribute("aria-selected") === "true") selection.set("module", "");
  };

  const actions = (_path: string, name: string): Action[] => [
    {
      name: "insert",
      title: "put the name at the cursor of the active cell",
      run: () => insert(notebook, told.model, name),
    },
    { name: "read", title: "read its output in a new cell", run: () => newCell(notebook, read(told, name)) },
    { name: "zero", title: "set its output to zero in a new cell", run: () => newCell(notebook, zeroed(told, name)) },
    {
      name: "patch from…",
      title: "take its output from another prompt, in a new cell",
      run: () => newCell(notebook, patched(told, name)),
    },
  ];
  return (
    <details open>
      <summary>Modules</summary>
      {trouble && <Notice text={trouble} />}
      {tree && (
        <div role="group" aria-label="modules" onMouseDown={onMouseDown}>
          <Actions.Provider value={actions}>
            <TreeView key={`${tree.variable} ${tree.version}`} model={tree} selection={selection} />
          </Actions.Provider>
        </div>
      )}
    </details>
  );
}
