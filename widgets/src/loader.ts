// What every view carries: it fetches the views' code from the one model that holds it, and hands
// over. Without that model (it was deleted, or its state not stored whole) it asks the kernel.
type Views = { render(context: { model: any; el: HTMLElement }): () => void };

const key = Symbol.for("nnsight_magic.views");
const page = globalThis as any;
page[key] ??= new Map();
const loaded: Map<string, Promise<Views>> = page[key];

const bytes = (base64: string) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

async function unpack(data: Uint8Array | DataView): Promise<Views> {
  const stream = new Blob([data as any]).stream().pipeThrough(new DecompressionStream("gzip"));
  const text = await new Response(stream).text();
  const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  try {
    return (await import(/* @vite-ignore */ url)).default;
  } finally {
    URL.revokeObjectURL(url);
  }
}

function asked(model: any): Promise<DataView> {
  return new Promise((answer, refuse) => {
    model.on("msg:custom", (content: any, buffers: DataView[]) => {
      if (content?.re === 0 && buffers?.[0]) answer(buffers[0]);
    });
    setTimeout(() => refuse(new Error("its code is not stored, and no kernel answers")), 6000);
    model.send({ do: "code", id: 0 });
  });
}

async function views(model: any): Promise<Views> {
  const reference = String(model.get("_code")).replace("IPY_MODEL_", "");
  let found = loaded.get(reference);
  if (!found) {
    found = model.widget_manager
      .get_model(reference)
      .then((code: any) => unpack(bytes(code.get("packed"))))
      .catch(() => asked(model).then(unpack));
    loaded.set(reference, found!);
    found!.catch(() => loaded.delete(reference));
  }
  return found!;
}

export default {
  async render(context: { model: any; el: HTMLElement }) {
    try {
      return (await views(context.model)).render(context);
    } catch (error) {
      context.el.textContent = `This view cannot be shown: ${(error as Error).message}.`;
      return () => {};
    }
  },
};
