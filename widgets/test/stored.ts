// Models over the states that test/fixtures/views.json has of every kind of view.
import { modelsFrom, type StoredModel } from "../src/page";
import fixtures from "./fixtures/views.json";

export const STATES = fixtures.states as Record<string, Record<string, any>>;
export const ANSWERS = fixtures.answers as Record<string, { kind: string; info: any; buffers: number[][] }>;

const BYTES: Record<string, (numbers: number[]) => Uint8Array> = {
  codes: (numbers) => Uint8Array.from(numbers),
  levels: (numbers) => new Uint8Array(Float64Array.from(numbers).buffer),
  packed: (value) => new TextEncoder().encode(JSON.stringify(value)),
};

/** Bytes as a trait holds them, deflated, in the form in which a page stores them. */
async function stored(bytes: Uint8Array): Promise<{ bytes: string }> {
  const stream = new Blob([bytes as BlobPart]).stream().pipeThrough(new CompressionStream("deflate"));
  const packed = new Uint8Array(await new Response(stream).arrayBuffer());
  return { bytes: btoa(String.fromCharCode(...packed)) };
}

/** A model of each kind, by its kind. */
export async function models(): Promise<Map<string, StoredModel>> {
  const page: Record<string, Record<string, any>> = {};
  for (const [kind, state] of Object.entries(STATES)) {
    page[kind] = { ...state };
    for (const [name, bytesOf] of Object.entries(BYTES))
      if (name in state) page[kind][name] = await stored(bytesOf(state[name]));
  }
  return modelsFrom(page);
}
