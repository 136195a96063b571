"""Numbers, sizes and tokens as a person reads them; the front end's `core/format.ts` agrees."""

from __future__ import annotations

JOINER = "\u200d"  # of emoji; unprintable by itself, and a sign where one stands in its place


def visible(token: str) -> str:
    """A token with its blanks to be seen: `·` for an outer space, `⏎` for a line end, `∅` for
    nothing."""
    shown = token.replace("\r", "␍").replace("\n", "⏎").replace("\t", "⇥")
    inner = shown.strip(" ")
    if not inner:
        return "·" * len(shown) or "∅"
    left = len(shown) - len(shown.lstrip(" "))
    right = len(shown) - len(shown.rstrip(" "))
    text = "·" * left + inner + "·" * right
    return "".join(c if c.isprintable() or c == JOINER else f"\\x{ord(c):02x}" for c in text)


def percent(p: float) -> str:
    """A probability in four characters or so: `65.6%`."""
    return f"{p * 100:.1f}%" if p >= 0.0005 else "<0.1%" if p > 0 else "0%"


def number(value: float) -> str:
    """Four significant digits: `-0.1235`, `1.2e-05`."""
    return f"{value:.4g}"


def size_text(count: float) -> str:
    """Bytes as a person reads them: `54.0 KB`."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def count_text(count: float) -> str:
    """134515008 as `134.5 M`."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= 10 * size or (count >= size and unit != "K"):
            return f"{count / size:.1f} {unit}"
    return f"{count:,.0f}"


def step_text(index: int, count: int) -> str:
    """Which of a generation's new tokens one is, and its step as Python counts it, from 0."""
    return f"new token {index + 1} of {count} (step {index})"
