// The strengths at which texts were written: which is nearest, and how far the slider goes.

/** The place of the strength that is nearest to one, the first of equals. */
export function nearest(strengths: number[], wanted: number): number {
  let best = 0;
  strengths.forEach((each, k) => {
    if (Math.abs(each - wanted) < Math.abs(strengths[best] - wanted)) best = k;
  });
  return best;
}

/** From the least to the largest strength, 0 among them, in steps of about a hundredth of the way. */
export function rangeOf(strengths: number[]): { min: number; max: number; step: number } {
  const min = Math.min(0, ...strengths);
  const max = Math.max(0, ...strengths);
  const way = max - min || 1;
  return { min, max: max > min ? max : min + 1, step: 10 ** Math.floor(Math.log10(way / 50)) };
}

/** A strength as one reads it, without the tail that binary fractions have. */
export function textOf(strength: number): string {
  return String(Number(strength.toPrecision(4))).replace("-", "−");
}
