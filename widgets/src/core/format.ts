// Numbers, sizes and tokens as a person reads them.

/** Four significant digits, the same width for the same magnitude; a true minus sign. */
export function number(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  let text: string;
  if (Number.isInteger(value) && size < 1e7) text = String(size);
  else if (size >= 1e5 || size < 1e-3) text = size.toExponential(2).replace("e+", "e");
  else text = size >= 1e4 ? String(Math.round(size)) : size.toPrecision(4);
  return (value < 0 ? "−" : "") + text.replace("e-", "e−");
}

export function bytes(count: number): string {
  let amount = count;
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (amount < 1000) return `${unit === "B" ? amount : amount.toPrecision(3)} ${unit}`;
    amount /= 1000;
  }
  return `${amount.toPrecision(3)} TB`;
}

/** 134515008 as 134.5 M. */
export function count(value: number): string {
  if (value < 1e4) return value.toLocaleString("en-US");
  for (const [size, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"]] as const) {
    if (value >= size) return `${(value / size).toPrecision(value / size >= 100 ? 4 : 3)} ${unit}`;
  }
  return String(value);
}

export function percent(p: number): string {
  if (p >= 0.0005) return `${(p * 100).toFixed(1)}%`;
  return p > 0 ? "<0.1%" : "0%";
}

export const shape = (sizes: number[]) => `(${sizes.join(", ")}${sizes.length === 1 ? "," : ""})`;

/** A token in pieces: its text, and the signs that stand for blanks and unprintable characters. */
export function pieces(token: string): { text: string; sign: boolean }[] {
  const found: { text: string; sign: boolean }[] = [];
  const add = (text: string, sign: boolean) => {
    const last = found[found.length - 1];
    if (last && last.sign === sign) last.text += text;
    else found.push({ text, sign });
  };
  const inner = token.trim() === "" ? [token.length, token.length] : edges(token);
  // What is escaped is a byte of a character that several tokens share.
  for (const { 0: character, index: at } of token.matchAll(/\\x[89a-f][0-9a-f]|./gsu)) {
    if (character === "\n") add("⏎", true);
    else if (character === "\r") add("␍", true);
    else if (character === "\t") add("⇥", true);
    else if (character === " " && (at < inner[0] || at >= inner[1])) add("·", true);
    else if (/[\p{Cc}\p{Cf}\p{Co}\p{Cn}]/u.test(character) && character !== "\u200d")
      add(`\\x${character.codePointAt(0)!.toString(16).padStart(2, "0")}`, true);
    else if (character === "\ufffd" || character.length === 4) add(character, true);
    else add(character, false);
  }
  if (!found.length) add("∅", true);
  return found;
}

function edges(token: string): [number, number] {
  return [token.length - token.trimStart().length, token.trimEnd().length];
}

/** A token as one string, its blanks to be seen. */
export const visible = (token: string) => pieces(token).map((piece) => piece.text).join("");
