// Keys that walk over rows and columns: one way for all views.

export type Spot = [row: number, column: number];

const TEN = 10;
const clamp = (at: number, size: number) => Math.min(size - 1, Math.max(0, at));

/** Where the keys lead from a place, an arrow with Shift ten places far; null for other keys. In a
 * single row, which a page breaks into lines, up and down lead ten places far. */
export function stepped(event: { key: string; shiftKey: boolean }, [row, column]: Spot, size: Spot): Spot | null {
  const step = event.shiftKey ? TEN : 1;
  const down: Spot = size[0] === 1 ? [0, TEN * step] : [step, 0];
  const steps: Record<string, Spot> = {
    ArrowUp: [-down[0], -down[1]],
    ArrowDown: down,
    ArrowLeft: [0, -step],
    ArrowRight: [0, step],
    Home: [0, -column],
    End: [0, size[1]],
    PageUp: [-row, 0],
    PageDown: [size[0], 0],
  };
  const by = steps[event.key];
  return by ? [clamp(row + by[0], size[0]), clamp(column + by[1], size[1])] : null;
}

interface Walk {
  at: Spot;
  size: Spot;
  go(to: Spot): void;
  /** what other keys do, or these ones instead */
  others?: Record<string, () => void>;
  /** what is done with letters and digits */
  typed?(letter: string): void;
}

/** What a view does with a key; a key that means nothing here is left to others. */
export function walker({ at, size, go, others = {}, typed }: Walk): (event: KeyboardEvent) => void {
  return (event) => {
    const to = others[event.key] ? null : stepped(event, at, size);
    if (others[event.key]) others[event.key]();
    else if (to) go(to);
    else if (typed && event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey) typed(event.key);
    else return;
    event.preventDefault();
  };
}
