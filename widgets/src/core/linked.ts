// A model of which some traits are another's: two viewers that look at the same place.
import { tell } from "./model";
import type { Model } from "./widget";

export function linked(own: Model, leader: Model, traits: readonly string[]): Model {
  const side = (event: string) => (traits.includes(event.replace("change:", "")) ? leader : own);
  return {
    get: (name) => side(name).get(name),
    set: (name, value) => side(name).set(name, value),
    save_changes: () => {
      tell(leader);
      tell(own);
    },
    on: (event, callback) => side(event).on(event, callback),
    off: (event, callback) => side(event).off(event, callback),
    send: (content, callbacks, buffers) => own.send(content, callbacks, buffers),
    widget_manager: own.widget_manager,
  };
}
