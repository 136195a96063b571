"""A tensor as a saved notebook shows it: its facts in words, and the picture."""

from __future__ import annotations

from nnsight_magic.printable import escape
from nnsight_magic.views.data.seen import Drawn, Seen, axes_of, cut_of
from nnsight_magic.views.data.wire import AxisState
from nnsight_magic.views.data.words import number, size_text, visible
from nnsight_magic.views.still.picture import bars_of, picture
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
    odd = ((seen.empty or "NaN", stats.get("nan")), ("±∞", stats.get("inf")))
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
            f"{name} {_place(axis, cut.index[k])} (of {_place(axis, 0)} to "
            f"{_place(axis, seen.tensor.array.shape[k] - 1)})"
            for k, (name, axis) in enumerate(zip(names, axes, strict=True))
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
    bars = bars_of(seen, drawn)
    if bars is not None:
        low, high = map(number, bars.reach)
    words.append(f"{'colours' if bars is None else 'bars'} from {low} to {high}{beyond}")
    return words


def png(seen: Seen) -> bytes | None:
    """The picture alone, with its title."""
    found = picture(seen, heading(seen), ALONE)
    return found and found.png


def heading(seen: Seen) -> str:
    """Title and shape, and the place on the axes that are not drawn."""
    shape, cut, axes = seen.tensor.array.shape, cut_of(seen), axes_of(seen)
    places = [
        f"{f'axis {k}' if axis['role'] == 'axis' else axis['role']} {_place(axis, cut.index[k])}"
        for k, axis in enumerate(axes)
        if k not in cut.drawn and shape[k] > 1
    ]
    # Where each place has a name, the axes tell how many there are.
    size = "" if measured(seen) else f" {tuple(shape)}"
    return writable(", ".join([f"{seen.title or 'tensor'}{size}", *places]))


def measured(seen: Seen) -> bool:
    """Whether every place of every axis has a name, as of numbers that were measured there."""
    axes = axes_of(seen)
    return bool(axes) and all(len(axis["labels"]) == axis["size"] for axis in axes)


def _place(axis: AxisState, at: int) -> str:
    """A place by its name, where it has one."""
    return visible(axis["labels"][at]) if at < len(axis["labels"]) else str(at)
