// A page of its own: the models are what was stored, and no kernel will ever answer.

import type { Model } from "./core/widget";
import views from "./main";

type State = Record<string, any>;

/** A model over stored state: traits change and are heard of, messages go nowhere. */
export class StoredModel implements Model {
  private listeners = new Map<string, Set<(...args: any[]) => void>>();

  constructor(
    private state: State,
    readonly widget_manager: Model["widget_manager"],
  ) {}

  get(name: string): any {
    return this.state[name];
  }

  set(name: string, value: unknown): void {
    if (this.state[name] === value) return;
    this.state[name] = value;
    for (const listener of this.listeners.get(`change:${name}`) ?? []) listener();
  }

  save_changes(): void {}

  on(event: string, callback: (...args: any[]) => void): void {
    const all = this.listeners.get(event) ?? new Set();
    this.listeners.set(event, all.add(callback));
  }

  off(event: string, callback: (...args: any[]) => void): void {
    this.listeners.get(event)?.delete(callback);
  }

  send(): void {
    throw new Error("no kernel");
  }
}

const bytes = (base64: string) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

/** Models from what a page stores; bytes stand as `{"bytes": base64}`. */
export function modelsFrom(stored: Record<string, State>): Map<string, StoredModel> {
  const models = new Map<string, StoredModel>();
  const manager = {
    get_model: async (id: string) => {
      const found = models.get(id);
      if (!found) throw new Error(`no model ${id}`);
      return found;
    },
  };
  for (const [id, state] of Object.entries(stored)) {
    const plain = Object.entries(state).map(([name, value]) => [
      name,
      typeof value?.bytes === "string" ? bytes(value.bytes) : value,
    ]);
    models.set(id, new StoredModel(Object.fromEntries(plain), manager));
  }
  return models;
}

if (typeof document !== "undefined") {
  const stored = document.getElementById("state");
  const el = document.getElementById("view");
  if (stored && el) {
    const { root, models } = JSON.parse(stored.textContent!);
    views.render({ model: modelsFrom(models).get(root)!, el });
  }
}
