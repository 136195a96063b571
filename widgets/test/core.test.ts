import { describe, expect, it, vi } from "vitest";
import { automatic, inkOn, lookup, NAN_COLOUR, place, scale } from "../src/core/colour";
import { bytes, count, number, percent, pieces, visible } from "../src/core/format";
import { bytesOf, doublesOf, inflate, Kernel, Refused, Silent } from "../src/core/kernel";
import type { Model } from "../src/core/widget";
import { CASES } from "./cases";

describe("numbers", () => {
  it("read the same at every magnitude", () => {
    expect([0, 1, -3, 0.12345, -1234.5678, 22456.7, 1.5e-7, 2.5e9].map(number)).toEqual([
      "0",
      "1",
      "−3",
      "0.1235",
      "−1235",
      "22457",
      "1.5e−7",
      "2.5e9",
    ]);
    expect([NaN, Infinity, -Infinity].map(number)).toEqual(["NaN", "∞", "−∞"]);
  });
  it("count and weigh", () => {
    expect([999, 134515008, 49152].map(count)).toEqual(["999", "134.5 M", "49.2 K"]);
    expect([12, 67108864].map(bytes)).toEqual(["12 B", "67.1 MB"]);
    expect([0.6561, 0.00001, 0].map(percent)).toEqual(["65.6%", "<0.1%", "0%"]);
  });
});

describe("tokens", () => {
  it("are shown as they are", () => {
    expect([" Paris", "<s>", "<b>x</b>", "\n\n", "a b", "", "   ", "\u0000"].map(visible)).toEqual([
      "·Paris",
      "<s>",
      "<b>x</b>",
      "⏎⏎",
      "a b",
      "∅",
      "···",
      "\\x00",
    ]);
  });
  it("have the bytes of a part of a character as signs", () => {
    expect(pieces(" \\xf0\\x9f é")).toEqual([
      { text: "·\\xf0\\x9f", sign: true },
      { text: " é", sign: false },
    ]);
    expect(pieces("\\x41")).toEqual([{ text: "\\x41", sign: false }]);
  });
});

describe("colours", () => {
  it("are light in the middle of a diverging scale on light ground, dark on dark", () => {
    expect(inkOn(scale("diverging", "light")[128])).toBe("#000");
    expect(inkOn(scale("diverging", "dark")[128])).toBe("#fff");
  });
  it("grow steadily lighter or darker along a sequential scale", () => {
    const sums = scale("sequential", "light").map(([r, g, b]) => r * 0.3 + g * 0.59 + b * 0.11);
    expect(sums.every((each, k) => k === 0 || each <= sums[k - 1] + 1)).toBe(true);
  });
  it("mark NaN apart from all values", () => {
    const table = lookup(Float64Array.of(-1, 0, 1), [-1, 1], "diverging", "light");
    const [r, g, b] = NAN_COLOUR;
    expect(table[255]).toBe(((255 << 24) | (b << 16) | (g << 8) | r) >>> 0);
    expect(new Set([table[0], table[1], table[2], table[255]]).size).toBe(4);
  });
  it("stand at places of their scale", () => {
    for (const { value, limits, place: at } of CASES.places) expect(place(value, limits[0], limits[1])).toBe(at);
  });
  it.each(CASES.limits)("have limits that fit: $why", ({ stats, size, limits, palette }) => {
    const found = automatic(stats, size as [number, number]);
    expect(found.palette).toBe(palette);
    for (const [k, end] of found.limits.entries()) expect(end / (limits[k] || 1)).toBeCloseTo(limits[k] ? 1 : 0, 9);
  });
});

function fake() {
  const heard: ((content: unknown, buffers?: unknown) => void)[] = [];
  const sent: any[] = [];
  const model = {
    on: (_: string, listener: any) => void heard.push(listener),
    send: (content: any) => sent.push(content),
  } as unknown as Model;
  const say = (content: unknown, buffers?: unknown) => {
    for (const each of heard) each(content, buffers);
  };
  return { model, sent, say };
}

describe("the line to the kernel", () => {
  it("matches answers to questions in any order", async () => {
    const { model, sent, say } = fake();
    const kernel = new Kernel(model);
    const [first, second] = [kernel.ask("a"), kernel.ask("b", { x: 1 })];
    say({ re: sent[1].id, y: 2 }, [new DataView(new Uint8Array([1, 2]).buffer)]);
    say({ re: sent[0].id, y: 1 });
    expect((await first).info["y"]).toBe(1);
    expect(Array.from((await second).buffers[0])).toEqual([1, 2]);
    expect(kernel.pulse).toBe("alive");
  });
  it("says why a question was refused", async () => {
    const { model, sent, say } = fake();
    const asked = new Kernel(model).ask("a");
    say({ re: sent[0].id, error: "no" });
    await expect(asked).rejects.toEqual(new Refused("no"));
  });
  it("asks again what a newer question overtook", async () => {
    const { model, sent, say } = fake();
    const kernel = new Kernel(model);
    const [first, second] = [kernel.ask("plane", { x: 1 }), kernel.ask("plane", { x: 2 })];
    say({ re: sent[1].id, y: 2, again: [sent[0].id, 99, "nonsense"] });
    expect((await second).info["y"]).toBe(2);
    expect(sent[2]).toEqual({ do: "plane", x: 1, id: sent[2].id });
    expect(sent.length).toBe(3);
    say({ re: sent[2].id, y: 1 });
    expect((await first).info["y"]).toBe(1);
  });
  it("asks nothing where the line is known to be cut", async () => {
    const { model, sent } = fake();
    const kernel = new Kernel(model);
    kernel.witness = { comm_live: false };
    await expect(kernel.ask("a")).rejects.toEqual(new Silent());
    expect(sent).toEqual([]);
    expect(kernel.pulse).toBe("silent");
  });
  it("gives up on a kernel that says nothing", async () => {
    vi.useFakeTimers();
    const kernel = new Kernel(fake().model, 100);
    const asked = expect(kernel.ask("a")).rejects.toBeInstanceOf(Silent);
    await vi.advanceTimersByTimeAsync(200);
    await asked;
    expect(kernel.pulse).toBe("silent");
    vi.useRealTimers();
  });
  it("is not troubled by messages that make no sense", () => {
    const { model, say } = fake();
    const kernel = new Kernel(model);
    for (const nonsense of [null, 7, "x", {}, { re: "a" }, { re: 99 }]) say(nonsense);
    expect(kernel.pulse).toBe("alive");
  });
});

describe("bytes", () => {
  it("come out of any kind of buffer, at any offset", async () => {
    const buffer = new Uint8Array(new Float64Array([1.5, -2]).buffer);
    const shifted = new Uint8Array(17);
    shifted.set(buffer, 1);
    expect(Array.from(doublesOf(new DataView(shifted.buffer, 1, 16)))).toEqual([1.5, -2]);
    expect(bytesOf("nonsense").length).toBe(0);
    const packed = new Response(new Blob(["abc"]).stream().pipeThrough(new CompressionStream("deflate")));
    expect(new TextDecoder().decode(await inflate(await packed.arrayBuffer()))).toBe("abc");
  });
});
