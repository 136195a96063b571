"""Attention of all heads without a kernel: one picture of small multiples, and a ranked table."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from nnsight_magic.printable import escape
from nnsight_magic.views.data.heads import SINK, Heads
from nnsight_magic.views.data.words import number, visible
from nnsight_magic.views.still.colours import scale
from nnsight_magic.views.still.style import frame, image

LINKS, LEAST = 4, 0.005  # links of a token that are told, and the weight of the least
RANKED = 10  # heads of the table
WIDEST = 420  # pixels of the picture, about
GAP = 1  # between small multiples, of their own pixels
GROUND = 128  # grey between them


def html(heads: Heads, title: str, note: str, score: str, at: Sequence[int]) -> str:
    """All heads as one picture, and those with the highest scores."""
    told = [f"<b>{escape(title)}</b>"] if title else []
    told += [f"<span class='d'>{escape(note)}</span>"] if note else []
    png, width, height = sheet(heads)
    words = f"attention of {heads.size}, blocks down and heads across"
    layer, head = heads.layers[at[0]], at[1]
    below = f"<div class='d'>{escape(words)}; large below: head {layer}.{head}</div>"
    over = f"<div>{' '.join(told)}</div>" if told else ""
    return frame(f"{over}{image(png, width, height, words)}{below}{_table(heads, score)}")


def _table(heads: Heads, score: str) -> str:
    if not score:
        return ""
    names = [score, *(name for name in heads.scores if name != score)]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for block, each in heads.ranked(score, RANKED):
        cells = "".join(
            f"<td class='n'>{number(float(heads.scores[name][block, each]))}</td>" for name in names
        )
        rows.append(f"<tr><td class='m'>{heads.layers[block]}.{each}</td>{cells}</tr>")
    return f"<table><tr><th>head</th>{head}</tr>{''.join(rows)}</table>"


def links_html(
    heads: Heads,
    shown: Sequence[tuple[int, int]],
    token: int,
    row: np.ndarray,
    column: np.ndarray,
) -> str:
    """What a token attends to and what attends to it, in words, the strongest first.

    Args:
        shown: the heads whose mean this is.
        row: `(to,)`.
        column: `(from,)`.
    """
    names = [f"{heads.layers[block]}.{head}" for block, head in shown]
    of = f"head {names[0]}" if len(names) == 1 else f"the mean of {', '.join(names)}"
    keys = [*heads.tokens, SINK]

    def told(weights: np.ndarray) -> str:
        best = [int(k) for k in np.argsort(-weights, kind="stable")[:LINKS] if weights[k] >= LEAST]
        return ", ".join(
            f"<bdi>{escape(visible(keys[k]))}</bdi> {float(weights[k]):.2g}" for k in best
        )

    words = f"token {token} <bdi>{escape(visible(heads.tokens[token]))}</bdi>, {escape(of)}: "
    both = f"attends to {told(row) or 'none'} · attended from {told(column) or 'none'}"
    return frame(f"<div class='d'>{words}{both}</div>")


def sheet(heads: Heads) -> tuple[bytes, int, int]:
    """The small multiples side by side as a PNG, with its width and height on the page."""
    from PIL import Image

    blocks, count, rows, columns = heads.small.shape
    whole = np.full((blocks * (rows + GAP), count * (columns + GAP), 3), GROUND, np.uint8)
    colours, codes = scale("sequential"), heads.codes
    for block in range(blocks):
        for head in range(count):
            top, left = block * (rows + GAP), head * (columns + GAP)
            whole[top : top + rows, left : left + columns] = colours[codes[block, head]]
    file = io.BytesIO()
    Image.fromarray(whole).quantize(64, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    times = max(1, min(3, WIDEST // whole.shape[1]))
    return file.getvalue(), whole.shape[1] * times, whole.shape[0] * times


def text(heads: Heads, title: str, note: str, score: str) -> str:
    """The heads with the highest scores, in words."""
    lines = [f"{title}: {heads.size}", note]
    for name in [score] if score else []:
        best = heads.ranked(name, RANKED)
        told = (
            f"{heads.layers[block]}.{head} {number(float(heads.scores[name][block, head]))}"
            for block, head in best
        )
        lines.append(f"{name}: {', '.join(told)}")
    return "\n".join(line for line in lines if line)
