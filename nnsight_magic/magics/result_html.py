"""A result as static HTML without a view of it: what is displayed where views are switched off."""

from __future__ import annotations

from nnsight_magic.magics.result import TraceResult
from nnsight_magic.magics.result_parts import (
    facts,
    names_of,
    prompt_with_steps,
    steps_in,
    strips_of,
    texts_of,
)
from nnsight_magic.views.data import two_texts
from nnsight_magic.views.still import tokens, trace
from nnsight_magic.views.still.style import frame, whole


def html(result: TraceResult) -> str:
    """The whole result, as the still form of its view has it; of tensors what they are."""
    parts = []
    prompt = prompt_with_steps(result)
    if prompt is not None:
        steps = steps_in(result, prompt)
        parts.append(tokens.steps_html(prompt.tokens, steps, names_of(result)[0]))
    texts = texts_of(result)
    if texts:
        parts.append(frame("".join(map(two_texts.html, texts[: two_texts.MOST]))))
    strips = strips_of(result)
    if strips:
        parts.append(tokens.html(strips))
    if result.saved:
        parts.append(_saved(result))
    title = f"run {result.number}"
    return whole(trace.html(title, facts(result), result.wrote, result.notices, parts))


def _saved(result: TraceResult) -> str:
    return trace.table(
        ("saved", "shape", "dtype", "device", "from"),
        [(each.name, each.form, each.dtype, each.device, each.where) for each in result.saved],
    )
