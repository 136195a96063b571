// What the panel uses of JupyterLab, Lumino and CodeMirror, as far as it uses it. Their packages are 400 MB
// of types and builders; the application brings the code itself, and the tests run in it.
declare const VERSION: string;

declare module "*.css" {
  const text: string;
  export default text;
}

declare module "*.ipynb" {
  const notebook: object;
  export default notebook;
}

declare module "@lumino/signaling" {
  export interface ISignal<Sender, Args> {
    connect(slot: (sender: Sender, args: Args) => void): boolean;
    disconnect(slot: (sender: Sender, args: Args) => void): boolean;
  }
}

declare module "@lumino/widgets" {
  export class Widget {
    constructor(options?: { node?: HTMLElement });
    id: string;
    readonly node: HTMLElement;
    readonly title: { label: string; caption: string; icon: unknown };
    readonly isVisible: boolean;
    readonly isDisposed: boolean;
    addClass(name: string): void;
    dispose(): void;
    protected onAfterShow(message: unknown): void;
    protected onAfterHide(message: unknown): void;
    protected onAfterAttach(message: unknown): void;
    protected onBeforeDetach(message: unknown): void;
    protected onActivateRequest(message: unknown): void;
  }
}

declare module "@jupyterlab/services" {
  import type { ISignal } from "@lumino/signaling";

  export interface Message {
    header: { msg_type: string };
    parent_header: { msg_type?: string };
    content: Record<string, any>;
  }
  export interface Comm {
    readonly commId: string;
    readonly subshellStarted?: Promise<unknown>;
    onMsg: (message: Message) => void;
    onClose: (message: Message) => void;
    open(data: object): unknown;
    send(data: object): unknown;
    close(): unknown;
  }
  export interface Kernel {
    readonly id: string;
    readonly status: string;
    readonly isDisposed: boolean;
    readonly statusChanged: ISignal<Kernel, string>;
    readonly iopubMessage: ISignal<Kernel, Message>;
    readonly disposed: ISignal<Kernel, void>;
    createComm(target: string): Comm;
    registerCommTarget(target: string, callback: (comm: Comm, message: Message) => void): void;
    interrupt(): Promise<void>;
  }
}

declare module "@jupyterlab/notebook" {
  import type { Kernel } from "@jupyterlab/services";
  import type { ISignal } from "@lumino/signaling";
  import type { Widget } from "@lumino/widgets";

  export interface Editor {
    readonly model: unknown;
    replaceSelection?(text: string): void;
    focus(): void;
    hasFocus(): boolean;
  }
  export interface Cell extends Widget {
    readonly model: { type: string; sharedModel: { getSource(): string; setSource(text: string): void } };
    readonly editor: Editor | null;
  }
  export interface NotebookContent extends Widget {
    readonly widgets: readonly Cell[];
    readonly activeCell: Cell | null;
    activeCellIndex: number;
    mode: "command" | "edit";
    deselectAll(): void;
    scrollToItem?(index: number, align?: string): Promise<void>;
  }
  export interface SessionContext {
    readonly session: { readonly kernel: Kernel | null } | null;
    readonly kernelChanged: ISignal<SessionContext, unknown>;
  }
  export interface NotebookPanel extends Widget {
    readonly content: NotebookContent;
    readonly sessionContext: SessionContext;
    readonly context: { readonly path: string };
  }
  export interface NotebookTracker {
    readonly currentWidget: NotebookPanel | null;
    readonly activeCell: Cell | null;
    readonly currentChanged: ISignal<NotebookTracker, NotebookPanel | null>;
    find(wanted: (notebook: NotebookPanel) => boolean): NotebookPanel | undefined;
  }
  export const INotebookTracker: object;
  export const NotebookActions: {
    insertBelow(notebook: NotebookContent): void;
    run(notebook: NotebookContent, context?: SessionContext): Promise<boolean>;
  };
}

declare module "@jupyterlab/application" {
  import type { Widget } from "@lumino/widgets";

  export interface Command {
    label: string;
    caption?: string;
    icon?: unknown;
    execute(args: Record<string, unknown>): unknown;
    isEnabled?(): boolean;
  }
  export interface Application {
    readonly commands: {
      addCommand(id: string, command: Command): void;
      execute(id: string, args?: object): Promise<any>;
    };
    readonly shell: {
      add(widget: Widget, area: string, options?: { rank: number }): void;
      activateById(id: string): void;
    };
    readonly restored: Promise<void>;
    readonly serviceManager: {
      readonly contents: {
        get(path: string, options?: { content: boolean }): Promise<unknown>;
        save(path: string, model: object): Promise<unknown>;
      };
    };
  }
  export interface Plugin {
    id: string;
    description: string;
    autoStart: boolean;
    requires?: object[];
    optional?: object[];
    activate(application: Application, ...services: any[]): void;
  }
}

declare module "@jupyterlab/apputils" {
  export interface CommandPalette {
    addItem(item: { command: string; category: string; args?: object }): unknown;
  }
  export const ICommandPalette: object;
}

declare module "@jupyterlab/ui-components" {
  export class LabIcon {
    constructor(options: { name: string; svgstr: string });
  }
}

declare module "@jupyterlab/codemirror" {
  import type { Extension } from "@codemirror/state";

  export interface EditorExtensionRegistry {
    addExtension(factory: {
      name: string;
      factory(options: { model: unknown }): { instance(value: unknown): Extension; reconfigure(value: unknown): null };
    }): void;
  }
  export const IEditorExtensionRegistry: object;
}

declare module "@codemirror/state" {
  export type Extension = unknown;
  export interface Line {
    readonly from: number;
    readonly to: number;
    readonly number: number;
  }
  export interface Text {
    readonly lines: number;
    line(number: number): Line;
    lineAt(position: number): Line;
    sliceString(from: number, to?: number): string;
    toString(): string;
  }
  export interface Effect {
    is<Value>(type: EffectType<Value>): this is { value: Value };
  }
  export interface EffectType<Value> {
    of(value: Value): Effect;
  }
  export const StateEffect: { define<Value>(): EffectType<Value> };
  export interface Transaction {
    readonly docChanged: boolean;
    readonly changes: object;
    readonly effects: readonly Effect[];
  }
  export interface StateField<Value> {
    readonly stored: Value;
  }
  export const StateField: {
    define<Value>(how: {
      create(): Value;
      update(value: Value, transaction: Transaction): Value;
      provide(field: StateField<Value>): Extension;
    }): StateField<Value>;
  };
  export interface EditorState {
    readonly doc: Text;
    field<Value>(field: StateField<Value>): Value;
    wordAt(position: number): { readonly from: number; readonly to: number } | null;
  }
}

declare module "@codemirror/language" {
  import type { EditorState } from "@codemirror/state";

  export interface Node {
    readonly name: string;
    readonly from: number;
    readonly to: number;
  }
  export function syntaxTree(state: EditorState): {
    iterate(how: { from: number; to: number; enter(node: Node): void }): void;
  };
}

declare module "@codemirror/view" {
  import type { EditorState, Effect, Extension, StateField } from "@codemirror/state";

  export interface Range {
    readonly from: number;
    readonly to: number;
  }
  export interface Decoration {
    readonly spec: Record<string, unknown>;
    range(from: number, to: number): Range & { value: Decoration };
  }
  export interface DecorationSet {
    readonly size: number;
    map(changes: object): DecorationSet;
    between(from: number, to: number, found: (from: number, to: number, mark: Decoration) => void): void;
  }
  export const Decoration: {
    mark(spec: { class: string; words?: string }): Decoration;
    set(marks: readonly (Range & { value: Decoration })[], sort: boolean): DecorationSet;
    readonly none: DecorationSet;
  };
  export class EditorView {
    readonly state: EditorState;
    readonly visibleRanges: readonly Range[];
    dispatch(change: { effects: Effect }): void;
    static theme(rules: Record<string, Record<string, string>>): Extension;
    static readonly decorations: {
      from<Value>(field: StateField<Value>, get: (value: Value) => DecorationSet): Extension;
    };
  }
  export interface ViewUpdate {
    readonly view: EditorView;
    readonly state: EditorState;
    readonly startState: EditorState;
    readonly docChanged: boolean;
    readonly viewportChanged: boolean;
  }
  interface Plugin {
    update?(update: ViewUpdate): void;
    destroy?(): void;
  }
  export const ViewPlugin: {
    define<P extends Plugin>(
      create: (view: EditorView) => P,
      how?: { decorations(plugin: P): DecorationSet },
    ): Extension;
  };
  export interface Tooltip {
    pos: number;
    end?: number;
    above?: boolean;
    create(view: EditorView): { dom: HTMLElement };
  }
  export function hoverTooltip(
    source: (view: EditorView, position: number) => Promise<Tooltip | null>,
    how?: { hoverTime: number },
  ): Extension;
}

declare module "@jupyterlab/launcher" {
  export interface Launcher {
    add(item: { command: string; category: string; rank: number }): unknown;
  }
  export const ILauncher: object;
}

declare module "@jupyterlab/statusbar" {
  import type { Widget } from "@lumino/widgets";

  export interface StatusBar {
    registerStatusItem(
      id: string,
      item: { item: Widget; align: "left" | "middle" | "right"; rank: number; isActive(): boolean },
    ): unknown;
  }
  export const IStatusBar: object;
}

declare module "@jupyterlab/settingregistry" {
  import type { ISignal } from "@lumino/signaling";

  export interface Settings {
    /** what the user has set, without the defaults */
    readonly user: Record<string, unknown>;
    readonly changed: ISignal<Settings, void>;
  }
  export interface SettingRegistry {
    load(plugin: string): Promise<Settings>;
  }
  export const ISettingRegistry: object;
}
