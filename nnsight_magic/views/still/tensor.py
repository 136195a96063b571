"""A tensor as a saved notebook shows it: its facts in words, and the picture."""

from __future__ import annotations

from nnsight_magic.printable import escape
from nnsight_magic.views.data.seen import Drawn, Seen, axes_of, cut_of
from nnsight_magic.views.data.words import number, size_text
from nnsight_magic.views.still.picture import picture
from nnsight_magic.views.still.style import frame, image, writable

ALONE = 1 << 14  # blocks of the PNG, which a notebook holds beside the HTML


def html(seen: Seen) -> str:
    """Name, shape, statistics and the picture."""
    array = seen.tensor.array
    shape = tuple(array.shape)
    head = (
        f"<b>{escape(seen.title or 'tensor')}</b> <code>{shape}</code> "
        f'<span class="d">{array.dtype} · {array.device} · {size_text(array.bytes)}</span>'
    )
    stats = seen.tensor.stats
    ends = ((name, stats.get(name)) for name in ("min", "mean", "max"))
    facts = [f"{name} {number(value)}" for name, value in ends if value is not None]
    odd = (("NaN", stats.get("nan")), ("±∞", stats.get("inf")))
    facts += [f"{count} {name}" for name, count in odd if count]
    found = picture(seen)
    if found is None:
        below = f'<div class="d">{" · ".join(facts)}</div>' if array.size else "no values"
        return frame(f"<div>{head}</div>{below}")
    words = escape(" · ".join([*where(seen, found.drawn), *facts]))
    below = f'<div class="d">{words}</div>'
    drawn = image(found.png, *found.size, f"heat map of {seen.in_words}")
    return frame(f"<div>{head}</div>{drawn}{below}")


def where(seen: Seen, drawn: Drawn) -> list[str]:
    """Which axes are drawn, where on the others the picture is, and what the colours leave out."""
    axes = axes_of(seen)
    names = [f"axis {k}" if axis["role"] == "axis" else axis["role"] for k, axis in enumerate(axes)]
    cut = drawn.cut
    down, across = cut.drawn
    words = []
    if across >= 0:
        arrows = f"{names[down]} ↓ {names[across]} →" if down >= 0 else f"{names[across]} →"
        fixed = [
            f"{name} {cut.index[k]} (of 0 to {seen.tensor.array.shape[k] - 1})"
            for k, name in enumerate(names)
            if k not in (down, across) and seen.tensor.array.shape[k] > 1
        ]
        words.append("; ".join([arrows, *fixed]))
    top, bottom, left, right = cut.window
    if (top, bottom, left, right) != (0, cut.size[0], 0, cut.size[1]):
        words.append(f"rows {top} to {bottom - 1}, columns {left} to {right - 1}")
    if seen.tensor.array.complex:
        words.append(cut.part)
    low, high = map(number, drawn.limits)
    beyond = "; values lie outside" if any(drawn.outside) else ""
    words.append(f"colours from {low} to {high}{beyond}")
    return words


def png(seen: Seen) -> bytes | None:
    """The picture alone, with its title."""
    found = picture(seen, heading(seen), ALONE)
    return found and found.png


def heading(seen: Seen) -> str:
    """Title and shape, and the place on the axes that are not drawn."""
    shape, cut, axes = seen.tensor.array.shape, cut_of(seen), axes_of(seen)
    places = [
        f"{f'axis {k}' if axis['role'] == 'axis' else axis['role']} {cut.index[k]}"
        for k, axis in enumerate(axes)
        if k not in cut.drawn and shape[k] > 1
    ]
    return writable(", ".join([f"{seen.title or 'tensor'} {tuple(shape)}", *places]))
