// Numbers, sizes and tokens as a person reads them.

/** At most four significant digits; a true minus sign. */
export function number(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  let text: string;
  if (Number.isInteger(value) && size < 1e7) text = String(size);
  else if (size >= 1e5 || size < 1e-3) text = size.toExponential(2).replace("e+", "e");
  else text = size >= 1e4 ? String(Math.round(size)) : size.toPrecision(4);
  text = text.replace(/(\.\d*?)0+(?=e|$)/, "$1").replace(/\.(?=e|$)/, "");
  return (value < 0 ? "−" : "") + text.replace("e-", "e−");
}

/** Bytes in three digits: 54.0 KB, 540 KB. */
export function bytes(count: number): string {
  if (count < 1000) return `${count} B`;
  let amount = count;
  for (const unit of ["KB", "MB", "GB", "TB"]) {
    amount /= 1000;
    if (amount < 999.5 || unit === "TB")
      return `${amount.toFixed(amount < 9.995 ? 2 : amount < 99.95 ? 1 : 0)} ${unit}`;
  }
  return "";
}

/** 134515008 as 134.5 M. */
export function count(value: number): string {
  for (const [size, unit] of [
    [1e12, "T"],
    [1e9, "B"],
    [1e6, "M"],
    [1e3, "K"],
  ] as const) {
    if (value >= 10 * size || (value >= size && unit !== "K")) return `${(value / size).toFixed(1)} ${unit}`;
  }
  return value.toLocaleString("en-US");
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
  const inner = edges(token);
  // What is escaped is a byte of a character that several tokens share.
  for (const { 0: character, index: at } of token.matchAll(/\\x[89a-f][0-9a-f]|./gsu)) {
    if (character === "\n") add("⏎", true);
    else if (character === "\r") add("␍", true);
    else if (character === "\t") add("⇥", true);
    else if (character === " " && (at < inner[0] || at >= inner[1])) add("·", true);
    else if (unseen(character)) add(escaped(character), true);
    else if (character === "\ufffd" || character.length === 4) add(character, true);
    else add(character, false);
  }
  if (!found.length) add("∅", true);
  return found;
}

// Only blanks: other spaces are shown as what they are.
function edges(token: string): [number, number] {
  const from = token.search(/[^ ]/);
  return from < 0 ? [token.length, token.length] : [from, token.length - token.match(/ *$/)![0].length];
}

/** Whether a character does something instead of being seen, or looks like a blank and is none. */
const unseen = (character: string) => character !== " " && character !== "\u200d" && /[\p{C}\p{Z}]/u.test(character);

const escaped = (character: string) => `\\x${character.codePointAt(0)!.toString(16).padStart(2, "0")}`;

/** A text of elsewhere (a module's name, a title) with signs for what would not be seen. */
export const printable = (text: string) =>
  /^[\x20-\x7e]*$/.test(text)
    ? text
    : [...text].map((each) => (unseen(each) && each !== "\n" && each !== "\t" ? escaped(each) : each)).join("");

/** A token as one string, its blanks to be seen. */
export const visible = (token: string) =>
  pieces(token)
    .map((piece) => piece.text)
    .join("");
