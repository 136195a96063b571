"""Numbers, sizes and tokens as a person reads them; the front end's `core/format.ts` agrees."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from nnsight_magic.printable import sign


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
    return "".join(map(sign, text))


def percent(p: float) -> str:
    """A probability in four characters or so: `65.6%`."""
    return f"{_fixed(p * 100, 1)}%" if p >= 0.0005 else "<0.1%" if p > 0 else "0%"


def bar(share: float, length: int) -> str:
    """A bar of `share` of `length` characters, in eighths of a character.

    >>> bar(0.45, 5)
    '██▎  '
    """
    eighths = round(max(0.0, min(1.0, share)) * length * 8)
    whole, part = divmod(eighths, 8)
    return ("█" * whole + (" ▏▎▍▌▋▊▉"[part] if part else "")).ljust(length)


def share(p: float) -> float | None:
    """A probability as a view stores it, already rounded to what `percent` shows of it.

    Rounded in two steps it would read 41.6 % in one place and 41.7 % in another.
    """
    if p >= 0.0005:
        return round(float(_fixed(p * 100, 1)) / 100, 3)
    return brief(p)


def brief(value: float) -> float | None:
    """Four significant digits; nothing for NaN and infinities, which JSON has no word for."""
    value = float(value)
    if value != value or value in (float("inf"), float("-inf")):
        return None
    return float(f"{value:.4g}")


def _fixed(value: float, digits: int) -> str:
    """So many decimals; a tie is rounded away from zero, as JavaScript does it."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def number(value: float) -> str:
    """At most four significant digits: `-0.1235`, `0.25`, `1.2e-5`."""
    value = float(value)
    if value != value:
        return "NaN"
    minus, size = ("-" if value < 0 else ""), abs(value)
    if size == float("inf"):
        return f"{minus}∞"
    if size == int(size) and size < 1e7:
        return f"{minus}{int(size)}"
    if size >= 1e5 or size < 1e-3:
        return minus + _scientific(size)
    if size >= 1e4:
        return minus + _fixed(size, 0)
    exponent = Decimal(size).adjusted()
    text = _fixed(size, 3 - exponent)
    if Decimal(text).adjusted() > exponent:  # 9.99996 became 10.0000
        text = _fixed(size, 2 - exponent)
    return minus + _trimmed(text)


def _scientific(size: float) -> str:
    exponent = Decimal(size).adjusted()
    mantissa = Decimal(size).scaleb(-exponent).quantize(Decimal("0.01"), ROUND_HALF_UP)
    if mantissa >= 10:
        mantissa, exponent = mantissa / 10, exponent + 1
    return f"{_trimmed(f'{mantissa:.2f}')}e{exponent}"


def _trimmed(text: str) -> str:
    """Without zeros at the end that say nothing."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def size_text(count: float) -> str:
    """Bytes as a person reads them, in three digits: `54.0 KB`, `540 KB`."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("KB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.5 or unit == "TB":
            break
    return f"{_fixed(count, 2 if count < 9.995 else 1 if count < 99.95 else 0)} {unit}"


def count_text(count: float) -> str:
    """134515008 as `134.5 M`."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= 10 * size or (count >= size and unit != "K"):
            return f"{_fixed(count / size, 1)} {unit}"
    return f"{count:,.0f}"


def step_text(index: int, count: int) -> str:
    """Which of a generation's new tokens one is, and its step as Python counts it, from 0."""
    return f"new token {index + 1} of {count} (step {index})"
