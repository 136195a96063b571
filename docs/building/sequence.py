"""Draws the sequence diagrams of the pages as SVG, in the colours of the page.

GitHub draws ```` ```mermaid ```` blocks itself. The site would have to load a few megabytes of
JavaScript for them; the three kinds of line that the pages use are drawn here instead, and another
kind is an error of the build.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

LANE, ROW, HEAD, MARGIN = 178, 34, 44, 12
_PARTICIPANT = re.compile(r"participant (\w+) as (.+)")
_NOTE = re.compile(r"Note over (\w+): (.+)")
_MESSAGE = re.compile(r"(\w+)(-->>|->>)(\w+): (.+)")


@dataclass(frozen=True)
class Row:
    """One line below the other: a message between two lanes, or a note over one."""

    text: str
    source: str
    target: str | None = None
    answer: bool = False  # drawn dashed


def read(text: str) -> tuple[dict[str, str], list[Row]]:
    """The lanes, by their short names, and the rows of a diagram.

    Raises ValueError for a line of another kind.
    """
    lanes: dict[str, str] = {}
    rows: list[Row] = []
    for line in text.strip().splitlines()[1:]:
        said = line.strip()
        if found := _PARTICIPANT.fullmatch(said):
            lanes[found[1]] = found[2]
        elif found := _NOTE.fullmatch(said):
            rows.append(Row(found[2], found[1]))
        elif found := _MESSAGE.fullmatch(said):
            rows.append(Row(found[4], found[1], found[3], found[2] == "-->>"))
        else:
            raise ValueError(f"a sequence diagram with the line {said!r} cannot be drawn")
    return lanes, rows


def drawing(text: str) -> str:
    """A diagram as SVG; everything takes the colour of the text around it."""
    lanes, rows = read(text)
    at = {name: MARGIN + LANE * (place + 0.5) for place, name in enumerate(lanes)}
    width, height = LANE * len(lanes) + 2 * MARGIN, HEAD + ROW * (len(rows) + 1)
    parts = [
        f'<svg class="sequence" role="img" viewBox="0 0 {width} {height}" '
        'xmlns="http://www.w3.org/2000/svg" font-size="11.5" fill="currentColor">',
        f"<title>{escape('; '.join(row.text for row in rows))}</title>",
        '<defs><marker id="to" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    for name, label in lanes.items():
        parts.append(_lane(at[name], label, height))
    for place, row in enumerate(rows):
        y = HEAD + ROW * (place + 1)
        parts.append(_note(row, at, y) if row.target is None else _message(row, at, y))
    return "".join([*parts, "</svg>"])


def _lane(x: float, label: str, height: int) -> str:
    head, _, below = label.partition(" (")
    second = f'<tspan x="{x}" dy="14" opacity="0.7">{escape(below.rstrip(")"))}</tspan>'
    return (
        f'<text x="{x}" y="16" text-anchor="middle" font-weight="600">{escape(head)}'
        f'{second if below else ""}</text><line x1="{x}" x2="{x}" y1="{HEAD}" y2="{height}" '
        'stroke="currentColor" stroke-opacity="0.3"/>'
    )


def _note(row: Row, at: dict[str, float], y: int) -> str:
    half = 3.3 * len(row.text) + 8
    x = max(at[row.source], half + 2)
    return (
        f'<rect x="{x - half}" y="{y - 17}" width="{2 * half}" height="22" rx="4" '
        'fill="currentColor" fill-opacity="0.08"/>'
        f'<text x="{x}" y="{y - 2}" text-anchor="middle">{escape(row.text)}</text>'
    )


def _message(row: Row, at: dict[str, float], y: int) -> str:
    start, end = at[row.source], at[row.target or row.source]
    dashed = ' stroke-dasharray="5 4"' if row.answer else ""
    if start == end:  # to itself: a loop at the right of the lane
        path = f"M{start} {y - 10}h24v12h-20"
        where = f'<text x="{start + 30}" y="{y}">{escape(row.text)}</text>'
    else:
        path = f"M{start} {y}H{end + (3 if end < start else -3)}"
        x = (start + end) / 2
        where = f'<text x="{x}" y="{y - 5}" text-anchor="middle">{escape(row.text)}</text>'
    return (
        f'<path d="{path}" fill="none" stroke="currentColor" marker-end="url(#to)"{dashed}/>{where}'
    )


class Drawn(SphinxTransform):
    """Runs before code blocks are coloured."""

    default_priority = 200

    def apply(self, **_: object) -> None:
        for block in list(self.document.findall(nodes.literal_block)):
            if block.get("language") == "mermaid":
                picture = nodes.raw("", drawing(block.astext()), format="html")
                block.replace_self(nodes.container("", picture, classes=["sequence-diagram"]))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(Drawn)
    return {"parallel_read_safe": True}
