// Questions to the kernel: numbered, answered in any order, never waited for without end.
import type { Model } from "./widget";

export interface Answer {
  info: Record<string, any>;
  buffers: Uint8Array[];
}

export class Refused extends Error {}
export class Silent extends Error {
  constructor() {
    super("The kernel does not answer. This is what was stored; run the cell again for more.");
  }
}

/** A model of the same kernel, as far as the notebook tells of it whether its line is cut. */
export interface Witness {
  comm_live?: boolean;
  widget_manager?: { kernel?: { isDisposed?: boolean; status?: string } | null };
}

function isCut(witness: Witness | null): boolean {
  const kernel = witness?.widget_manager?.kernel;
  return witness?.comm_live === false || kernel === null || kernel?.isDisposed === true || kernel?.status === "dead";
}

export type Pulse = "unknown" | "alive" | "silent";

const PATIENCE = 6000;
const lines = new WeakMap<Model, Kernel>();

/** The line to the kernel of a model; one for all views of it. */
export function kernelOf(model: Model): Kernel {
  const line = lines.get(model) ?? new Kernel(model);
  lines.set(model, line);
  return line;
}

interface Waiting {
  question: Record<string, unknown>;
  /** milliseconds after which the kernel counts as silent */
  patience: number;
  answer: (answer: Answer) => void;
  refuse: (error: Error) => void;
}

export class Kernel {
  pulse: Pulse = "unknown";
  witness: Witness | null = null;
  private next = 1;
  private waiting = new Map<number, Waiting>();
  private listeners = new Set<() => void>();

  constructor(
    private model: Model,
    private patience = PATIENCE,
  ) {
    model.on("msg:custom", (content: unknown, buffers: unknown) => this.heard(content, buffers));
  }

  /** Rejects with `Refused` where the kernel says why, with `Silent` where it says nothing. */
  ask(what: string, details: Record<string, unknown> = {}, patience = this.patience): Promise<Answer> {
    if (this.cut) {
      this.feel("silent");
      return Promise.reject(new Silent());
    }
    return new Promise((answer, refuse) => this.send({ question: { ...details, do: what }, patience, answer, refuse }));
  }

  private send(waiting: Waiting): void {
    const id = this.next++;
    const silent = () => {
      if (!this.waiting.delete(id)) return;
      this.feel("silent");
      waiting.refuse(new Silent());
    };
    this.waiting.set(id, waiting);
    setTimeout(silent, waiting.patience);
    try {
      this.model.send({ ...waiting.question, id });
    } catch {
      silent();
    }
  }

  /** Whether the notebook says that there is no kernel behind the model. */
  get cut(): boolean {
    return isCut(this.witness) || isCut(this.model as Witness);
  }

  onPulse(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private heard(content: unknown, buffers: unknown): void {
    const info = content as Record<string, any> | null;
    if (!info || typeof info !== "object" || typeof info["re"] !== "number") return;
    const waiting = this.waiting.get(info["re"]);
    this.feel("alive");
    this.sendAgain(info["again"]);
    if (!waiting) return;
    this.waiting.delete(info["re"]);
    if (typeof info["error"] === "string") waiting.refuse(new Refused(info["error"]));
    else waiting.answer({ info, buffers: Array.from((buffers as any[]) ?? [], bytesOf) });
  }

  /** Questions that a newer one of their kind overtook: whoever asked still waits. */
  private sendAgain(overtaken: unknown): void {
    for (const id of Array.isArray(overtaken) ? overtaken : []) {
      const waiting = this.waiting.get(id);
      if (waiting && this.waiting.delete(id)) this.send(waiting);
    }
  }

  private feel(pulse: Pulse): void {
    if (this.pulse === pulse) return;
    this.pulse = pulse;
    for (const listener of this.listeners) listener();
  }
}

/** Bytes as they arrive: a DataView from a kernel, an array or a buffer from elsewhere. */
export function bytesOf(data: unknown): Uint8Array {
  if (data instanceof Uint8Array) return data;
  if (ArrayBuffer.isView(data)) {
    return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  }
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  return new Uint8Array();
}

/** Float64 values out of bytes that may lie anywhere in a message. */
export function doublesOf(data: unknown): Float64Array {
  const bytes = bytesOf(data);
  return new Float64Array(bytes.slice(0, bytes.length - (bytes.length % 8)).buffer);
}

export function floatsOf(data: unknown): Float32Array {
  const bytes = bytesOf(data);
  return new Float32Array(bytes.slice(0, bytes.length - (bytes.length % 4)).buffer);
}

export function wholesOf(data: unknown): Int32Array {
  const bytes = bytesOf(data);
  return new Int32Array(bytes.slice(0, bytes.length - (bytes.length % 4)).buffer);
}

/** Undoes zlib's compression. */
export async function inflate(data: unknown): Promise<Uint8Array> {
  const stream = new Blob([bytesOf(data) as BlobPart]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
