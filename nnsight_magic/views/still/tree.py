"""A module tree as text and as HTML that opens and closes without a script."""

from __future__ import annotations

from nnsight_magic.numbered import runs
from nnsight_magic.printable import escape
from nnsight_magic.views.data.modules import Kind, ModuleTree
from nnsight_magic.views.data.words import count_text, size_text
from nnsight_magic.views.still.style import frame

ROWS = 150
TEXT_ROWS = 60


def lines(tree: ModuleTree, title: str, most: int) -> list[tuple[int, str, int, Kind]]:
    """Depth, name, count and kind of each row; broad levels first when there are too many."""
    rows: list[tuple[int, str, int, Kind]] = []

    def add(depth: int, name: str, count: int, number: int) -> None:
        kind = tree.kinds[number]
        if len(rows) >= most:
            return
        rows.append((depth, name, count, kind))
        for run in runs(kind.children):
            add(depth + 1, run.label, run.count, run.item)

    add(0, title, 1, tree.root)
    return rows


def text(tree: ModuleTree, title: str) -> str:
    """An indented list with classes and parameter counts."""
    rows = lines(tree, title, TEXT_ROWS)
    width = max(2 * depth + len(name) + 6 for depth, name, _, _ in rows)
    shown = []
    for depth, name, count, kind in rows:
        label = "  " * depth + name + (f" × {count}" if count > 1 else "")
        amount = count_text(kind.parameters) if kind.parameters else ""
        shown.append(f"{label:<{width}} {kind.class_name:<28} {amount:>9}".rstrip())
    if len(rows) >= TEXT_ROWS:
        shown.append("…")
    return "\n".join(shown)


def html(tree: ModuleTree, title: str) -> str:
    """Nested `details`, the first levels open."""
    left = [ROWS]
    head = (
        f"<div><b>{escape(title)}</b> <span class='d'>{tree.size:,} modules · "
        f"{count_text(tree.parameters)} parameters · {size_text(tree.bytes)}</span></div>"
    )
    body = "".join(
        _row(tree, run.label, run.item, run.count, 0, left)
        for run in runs(tree.kinds[tree.root].children)
    )
    more = "" if left[0] > 0 else "<div class='d'>… and more</div>"
    return frame(head + body + more)


def _row(tree: ModuleTree, name: str, number: int, count: int, depth: int, left: list[int]) -> str:
    if left[0] <= 0:
        return ""
    left[0] -= 1
    kind = tree.kinds[number]
    times = f" × {count}" if count > 1 else ""
    amount = f" · {count_text(kind.parameters)}" if kind.parameters else ""
    note = f" ({escape(kind.note)})" if kind.note else ""
    label = (
        f"<b class='m'>{escape(name)}{times}</b> <span class='d'>{escape(kind.class_name)}"
        f"{note}{amount}</span>"
    )
    if not kind.children:
        return f"<div style='margin-left:{depth * 18 + 14}px'>{label}</div>"
    below = "".join(
        _row(tree, run.label, run.item, run.count, depth + 1, left) for run in runs(kind.children)
    )
    state = " open" if depth < 1 else ""
    return (
        f"<details{state}><summary style='margin-left:{depth * 18}px'>{label}</summary>{below}"
        "</details>"
    )
