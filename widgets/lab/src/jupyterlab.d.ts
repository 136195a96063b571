// What the panel uses of JupyterLab, Lumino and CodeMirror, as far as it uses it. Their packages are 400 MB
// of types and builders; the application brings the code itself, and the tests run in it.
declare const VERSION: string;

declare module "*.css" {
  const text: string;
  export default text;
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
