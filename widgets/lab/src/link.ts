// The line to one kernel: questions with answers, and news. See nnsight_magic/lab/comms.py.
import type { Comm, Kernel, Message } from "@jupyterlab/services";
import { NEWS, PROTOCOL, TARGET } from "./told";

const PATIENCE = 20_000;
/** Cells after which the extension may be there: `%load_ext nnsight_magic` and its like. */
const MAY_LOAD = /nnsight|load_ext|%run|import_module/;
/** Cells in which a forward runs. */
const RUNS =
  /^\s*%{1,2}(trace|generate|sweep|audit|lens|attention|patch|ablate|attribute|dla|steer|probe|features)\b.*/m;

/** `absent` is a kernel without the extension, `strange` one whose messages are of another version. */
export type Standing = "absent" | "connecting" | "open" | "strange";

const links = new WeakMap<Kernel, Link>();

/** The link of a kernel; one for the whole page. */
export function linkOf(kernel: Kernel): Link {
  const link = links.get(kernel) ?? new Link(kernel);
  links.set(kernel, link);
  return link;
}

export class Link {
  standing: Standing = "absent";
  /** of the kernel's package, once it is known */
  version = "";
  /** the first line of the cell of ours that runs, "" for none */
  running = "";
  private comm: Comm | null = null;
  private next = 1;
  private waiting = new Map<number, (answer: Record<string, any> | null) => void>();
  private listeners = new Set<() => void>();
  private newsListeners = new Set<() => void>();
  private ranListeners = new Set<() => void>();
  private watchers = 0;
  private tryAtIdle = false;
  private mayHaveLoaded = false;
  private again = false;

  constructor(readonly kernel: Kernel) {
    kernel.registerCommTarget(NEWS, (comm) => {
      comm.onMsg = () => this.tell(this.newsListeners);
      this.tell(this.newsListeners);
    });
    kernel.statusChanged.connect((_, status) => this.onStatus(status));
    kernel.iopubMessage.connect((_, message) => this.onMessage(message));
    addEventListener("pagehide", () => this.comm?.close());
    void this.connect();
  }

  /** Calls back when the standing changes; the result ends that. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Calls back when a cell has run, whoever ran it; the result ends that. */
  onRan(listener: () => void): () => void {
    this.ranListeners.add(listener);
    return () => this.ranListeners.delete(listener);
  }

  /** Calls back whenever something may have changed in the kernel, as long as it is wanted. */
  watch(listener: () => void): () => void {
    this.newsListeners.add(listener);
    this.watchers++;
    if (this.watchers === 1) void this.ask("watch", { on: true });
    return () => {
      this.newsListeners.delete(listener);
      this.watchers--;
      if (this.watchers === 0) void this.ask("watch", { on: false });
    };
  }

  /** The kernel's answer: `error` says what is wrong. Null where nobody answers. */
  ask(what: string, details: Record<string, unknown> = {}): Promise<Record<string, any> | null> {
    const comm = this.comm;
    if (!comm || this.standing !== "open") return Promise.resolve(null);
    return this.sendOn(comm, what, details, PATIENCE);
  }

  /** Opens the line, once: a kernel without the extension closes it at once. */
  async connect(): Promise<void> {
    if (this.comm || this.kernel.isDisposed) return;
    this.become("connecting");
    const comm = this.kernel.createComm(TARGET);
    this.comm = comm;
    comm.onMsg = (message) => this.answered(message);
    comm.onClose = () => this.drop(comm);
    await Promise.race([comm.subshellStarted, new Promise((done) => setTimeout(done, 1000))]);
    if (this.comm !== comm) return;
    comm.open({});
    const hello = await this.sendOn(comm, "hello", { protocol: PROTOCOL }, 0);
    if (this.comm !== comm || !hello) return;
    this.again = false;
    this.version = String(hello["version"]);
    this.become(hello["protocol"] === PROTOCOL ? "open" : "strange");
    if (this.watchers) void this.ask("watch", { on: true });
  }

  private sendOn(comm: Comm, what: string, details: object, patience: number): Promise<Record<string, any> | null> {
    const id = this.next++;
    return new Promise((resolve) => {
      this.waiting.set(id, resolve);
      if (patience) setTimeout(() => this.resolve(id, null), patience);
      try {
        comm.send({ ...details, do: what, id });
      } catch {
        this.resolve(id, null);
      }
    });
  }

  private answered(message: Message): void {
    const data = message.content["data"];
    if (data && typeof data === "object" && typeof data["re"] === "number") this.resolve(data["re"], data);
  }

  private resolve(id: number, answer: Record<string, any> | null): void {
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    waiting?.(answer);
  }

  private drop(comm: Comm | null): void {
    if (comm !== this.comm) return;
    this.comm = null;
    for (const id of [...this.waiting.keys()]) this.resolve(id, null);
    this.become("absent");
    const { again } = this;
    this.again = false;
    if (again) void this.connect();
  }

  /** A restart keeps the connection and ends every line. */
  private onStatus(status: string): void {
    if (/restarting|dead/.test(status)) {
      this.drop(this.comm);
      this.tryAtIdle = true;
      this.run("");
    }
    // A message of ours makes the kernel busy and idle too: so it is tried once, and not at every idle.
    if (status === "idle" && this.tryAtIdle) {
      this.tryAtIdle = false;
      void this.connect();
    }
  }

  private onMessage(message: Message): void {
    if (message.header.msg_type === "execute_input" && MAY_LOAD.test(String(message.content["code"])))
      this.mayHaveLoaded = true;
    if (message.header.msg_type === "execute_input")
      this.run(RUNS.exec(String(message.content["code"]))?.[0].trim() ?? "");
    // Questions of this line make the kernel idle too, and are no reason to ask again.
    const idle = message.header.msg_type === "status" && message.content["execution_state"] === "idle";
    if (idle && message.parent_header.msg_type === "execute_request") this.hasRun();
  }

  private hasRun(): void {
    this.run("");
    if (this.mayHaveLoaded) {
      this.mayHaveLoaded = false;
      // A line that was opened before the extension was loaded is about to be closed.
      if (this.standing === "connecting") this.again = true;
      else void this.connect();
    }
    this.tell(this.ranListeners);
  }

  private run(cell: string): void {
    if (cell === this.running) return;
    this.running = cell;
    this.tell(this.listeners);
  }

  private become(standing: Standing): void {
    this.standing = standing;
    this.tell(this.listeners);
  }

  private tell(listeners: Set<() => void>): void {
    for (const listener of [...listeners]) listener();
  }
}
