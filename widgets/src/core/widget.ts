// What a notebook gives a view, and what a view is to the notebook and to other views.
import type { FunctionComponent } from "preact";

/** A widget's model as anywidget gives it. */
export interface Model {
  get(name: string): any;
  set(name: string, value: unknown): void;
  save_changes(): void;
  on(event: string, callback: (...args: any[]) => void): void;
  off(event: string, callback: (...args: any[]) => void): void;
  send(content: unknown, callbacks?: unknown, buffers?: ArrayBuffer[]): void;
  widget_manager: { get_model(id: string): Promise<Model> };
}

/** A view of a model; `selection` is the model of what is selected in all views around it. */
export type Kind = FunctionComponent<{ model: Model; selection: Model | null }>;
