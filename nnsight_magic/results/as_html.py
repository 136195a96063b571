"""A result as static HTML without a view of it: what is displayed where views are switched off."""

from __future__ import annotations

from nnsight_magic.results.parts import (
    facts,
    names_of,
    prompt_with_steps,
    steps_in,
    strips_of,
    texts_of,
)
from nnsight_magic.results.record import RunRecord
from nnsight_magic.views.still import tokens, trace, two_texts
from nnsight_magic.views.still.style import frame, whole


def html(record: RunRecord) -> str:
    """The whole record, as the still form of its view has it; of tensors what they are."""
    parts = []
    prompt = prompt_with_steps(record)
    if prompt is not None:
        steps = steps_in(record, prompt)
        parts.append(tokens.steps_html(prompt.tokens, steps, names_of(record)[0]))
    texts = texts_of(record)
    if texts:
        parts.append(frame("".join(map(two_texts.html, texts[: two_texts.MOST]))))
    strips = strips_of(record)
    if strips:
        parts.append(tokens.html(strips))
    if record.saved:
        parts.append(_saved(record))
    title = f"run {record.number}"
    return whole(trace.html(title, facts(record), record.wrote, record.notices, parts))


def _saved(record: RunRecord) -> str:
    return trace.table(
        ("saved", "shape", "dtype", "device", "from"),
        [(each.name, each.form, each.dtype, each.device, each.where) for each in record.saved],
    )
