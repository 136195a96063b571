// What can be done with a selected module where the tree stands beside a notebook.
import { createContext } from "preact";

export interface Action {
  name: string;
  title: string;
  run(): void;
}

/** Actions on the module at a path, which a cell calls by the name. */
export const Actions = createContext<(path: string, name: string) => Action[]>(() => []);
