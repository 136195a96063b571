// A page of its own: the models are what was stored, and no kernel will ever answer.

import { type State, StoredModel } from "./core/stored_model";
import views from "./main";

export { StoredModel };

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
