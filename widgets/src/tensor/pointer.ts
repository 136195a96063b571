// The mouse over a plane: what it points at, and how it moves and zooms the window.
import { useEffect, useRef } from "preact/hooks";
import type { Window } from "./picture";
import { type Layout, pan, valueUnder, zoom } from "./viewport";

export function usePointer(
  canvas: { current: HTMLCanvasElement | null },
  layout: Layout,
  window: Window,
  size: [number, number],
  setWindow: (window: Window) => void,
  setHover: (at: [number, number] | null) => void,
  pick: (row: number, column: number) => void,
) {
  const drag = useRef<{ x: number; y: number; window: Window; moved: boolean } | null>(null);
  const latest = useRef({ layout, window, size, setWindow });
  latest.current = { layout, window, size, setWindow };
  const under = (event: MouseEvent) => {
    const box = canvas.current!.getBoundingClientRect();
    return valueUnder(layout, window, event.clientX - box.left, event.clientY - box.top);
  };
  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    // The wheel alone scrolls the notebook; with Ctrl or ⌘ it zooms here.
    const wheel = (event: WheelEvent) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const now = latest.current;
      const box = element.getBoundingClientRect();
      const at = valueUnder(now.layout, now.window, event.clientX - box.left, event.clientY - box.top);
      now.setWindow(zoom(now.window, now.size, event.deltaY > 0 ? 1.25 : 0.8, at ?? undefined));
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => element.removeEventListener("wheel", wheel);
  }, [canvas.current]);
  return {
    onPointerDown: (event: PointerEvent) => {
      if (event.button !== 0) return;
      drag.current = { x: event.clientX, y: event.clientY, window, moved: false };
      canvas.current!.setPointerCapture(event.pointerId);
    },
    onPointerMove: (event: PointerEvent) => {
      const start = drag.current;
      if (!start) return setHover(under(event));
      const down = ((start.y - event.clientY) / layout.height) * (window[1] - window[0]);
      const across = ((start.x - event.clientX) / layout.width) * (window[3] - window[2]);
      if (Math.hypot(event.clientX - start.x, event.clientY - start.y) > 4) start.moved = true;
      if (start.moved) setWindow(pan(start.window, size, down, across));
    },
    onPointerUp: (event: PointerEvent) => {
      const found = under(event);
      if (drag.current && !drag.current.moved && found) pick(...found);
      drag.current = null;
    },
    onPointerLeave: () => setHover(null),
    onDblClick: (event: MouseEvent) => setWindow(zoom(window, size, 0.5, under(event) ?? undefined)),
  };
}
