// The tree view's model where no widget stands behind it: its state and answers come by the panel's line.
import { bytesOf } from "../../src/core/kernel";
import { StoredModel } from "../../src/core/stored_model";
import type { Link } from "./link";
import type { Told, TreeTold } from "./told";

const nowhere = { get_model: () => Promise.reject(new Error("no widget is referred to")) };

export class TreeModel extends StoredModel {
  readonly version: number;

  constructor(
    private link: Link,
    readonly variable: string,
    told: TreeTold,
    before: TreeModel | null,
  ) {
    const packed = Uint8Array.from(atob(told.packed), (character) => character.charCodeAt(0));
    const kept = before?.variable === variable ? before : null;
    const state = {
      title: told.title,
      packed: bytesOf(packed),
      aliases: told.aliases,
      expanded: kept?.get("expanded") ?? told.expanded,
      query: kept?.get("query") ?? "",
      notes: {},
      wanted: [],
    };
    super(state, nowhere);
    this.version = told.version;
  }

  /** What the last runs say. */
  take(told: Told): void {
    this.set("notes", told.notes);
    if (JSON.stringify(told.wanted) !== JSON.stringify(this.get("wanted"))) super.set("wanted", told.wanted);
  }

  override set(name: string, value: unknown): void {
    const before = this.get(name);
    super.set(name, value);
    if (name === "wanted" && before !== value) void this.link.ask("want", { model: this.variable, paths: value });
  }

  override send(content: unknown): void {
    const { do: what, id, ...details } = content as Record<string, any>;
    void this.link.ask(what, { ...details, model: this.variable }).then((answer) => {
      if (answer) this.emit("msg:custom", { ...answer, re: id }, []);
    });
  }
}

/** What is selected in the tree. */
export function newSelection(): StoredModel {
  return new StoredModel({ module: "" }, nowhere);
}
