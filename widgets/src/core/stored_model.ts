// A model over state that is not a widget's: traits change and are heard of.
import type { Model } from "./widget";

export type State = Record<string, any>;

/** Messages go nowhere, unless a class above sends them. */
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
    this.emit(`change:${name}`);
  }

  save_changes(): void {}

  on(event: string, callback: (...args: any[]) => void): void {
    const all = this.listeners.get(event) ?? new Set();
    this.listeners.set(event, all.add(callback));
  }

  off(event: string, callback: (...args: any[]) => void): void {
    this.listeners.get(event)?.delete(callback);
  }

  send(_content: unknown): void {
    throw new Error("no kernel");
  }

  protected emit(event: string, ...args: unknown[]): void {
    for (const listener of this.listeners.get(event) ?? []) listener(...args);
  }
}
