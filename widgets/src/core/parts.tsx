// Small parts that several views use.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { pieces } from "./format";

/** A token as it is: blanks and unprintable characters as faint signs, never as markup. */
export function Token({ text }: { text: string }) {
  return <>{pieces(text).map((piece, k) => (piece.sign ? <i key={k}>{piece.text}</i> : piece.text))}</>;
}

export function Notice({ text }: { text: string }) {
  return (
    <div class="nnv-notice" role="status">
      {text}
    </div>
  );
}

export interface Item {
  name: string;
  run(): void;
}

/** A button that opens a list of things to do; arrows walk it, Escape closes it. */
export function Menu({ label, children, items }: { label: string; children: ComponentChildren; items: Item[] }) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLSpanElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (!open) return;
    root.current!.querySelector<HTMLElement>("[role=menuitem]")?.focus();
    const away = (event: Event) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", away, true);
    return () => document.removeEventListener("pointerdown", away, true);
  }, [open]);
  const close = () => {
    setOpen(false);
    button.current?.focus();
  };
  const walk = (event: KeyboardEvent) => {
    const all = [...root.current!.querySelectorAll<HTMLElement>("[role=menuitem]")];
    const at = all.indexOf(document.activeElement as HTMLElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === "Escape") close();
    else if (to === undefined) return;
    else all[(to + all.length) % all.length]?.focus();
    event.preventDefault();
  };
  return (
    <span class="nnv-menu" ref={root}>
      <button
        type="button"
        ref={button}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-label={label}
        title={label}
        onClick={() => setOpen(!open)}>
        {children}
      </button>
      {open && (
        <div role="menu" aria-label={label} onKeyDown={walk}>
          {items.map((item) => (
            <button
              type="button"
              key={item.name}
              role="menuitem"
              tabIndex={-1}
              onClick={() => {
                close();
                item.run();
              }}>
              {item.name}
            </button>
          ))}
        </div>
      )}
    </span>
  );
}

/** Puts text on the clipboard, also where the page is not allowed the modern way. */
export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

export function download(name: string, content: BlobPart, type: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Brings a part of a scrolling box into sight, and leaves the notebook where it is. */
export function reveal(box: Element | null, part: Element | null | undefined): void {
  if (!box || !part) return;
  const [outer, inner] = [box.getBoundingClientRect(), part.getBoundingClientRect()];
  if (inner.top < outer.top) box.scrollTop -= outer.top - inner.top;
  else if (inner.bottom > outer.bottom) box.scrollTop += inner.bottom - outer.bottom;
}

/** The width of an element, followed as it changes. */
export function useWidth(): [(element: HTMLElement | null) => void, number] {
  const [width, setWidth] = useState(0);
  const observer = useRef<ResizeObserver | null>(null);
  const attach = useRef((element: HTMLElement | null) => {
    observer.current?.disconnect();
    if (!element) return;
    observer.current = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.current.observe(element);
    setWidth(Math.floor(element.clientWidth));
  });
  return [attach.current, width];
}

/** Bars of a histogram. */
export function Histogram({
  counts,
  ends,
  format,
}: {
  counts: number[];
  ends: [number, number];
  format(value: number): string;
}) {
  const most = Math.max(1, ...counts.map((count) => Math.sqrt(count)));
  const width = 192;
  const step = width / counts.length;
  return (
    <figure class="nnv-histogram">
      <svg
        viewBox={`0 0 ${width} 44`}
        role="img"
        aria-label={`histogram from ${format(ends[0])} to ${format(ends[1])}`}>
        {counts.map((count, k) => {
          const height = (Math.sqrt(count) / most) * 42;
          return <rect key={k} x={k * step} y={44 - height} width={Math.max(0.5, step - 0.8)} height={height} />;
        })}
      </svg>
      <figcaption>
        <span>{format(ends[0])}</span>
        <span>{format(ends[1])}</span>
      </figcaption>
    </figure>
  );
}
