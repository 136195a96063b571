"""Audit: does a cell that writes do what its author thinks it does?

Of each write five things are checked, by running the model again:

    put back   what stands there written in its place: the logits are the same to the bit
    stands     what flows on there is what was written, and finite
    changes    it changed something; how much, at which tokens, of which heads, in which prompts
    reaches    it moves the logits
    stays      no token before the first one that it changed moves, and no other prompt
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch

from nnsight_magic.analyses.audit_checks import audited_write
from nnsight_magic.analyses.audit_runs import Runs, Said, divergence, runs_of
from nnsight_magic.analyses.audit_shown import Audit, AuditedWrite
from nnsight_magic.analyses.prompt import model_words
from nnsight_magic.analyses.result import Along, Result, with_axes
from nnsight_magic.engine.tracing.token_texts import PromptRow
from nnsight_magic.errors import BadInputError
from nnsight_magic.language.read import read
from nnsight_magic.language.run import Outcome, run
from nnsight_magic.language.tokens import prompt_rows


def audit(
    model: Any,
    prompt: Any,
    writes: Callable[[], Any] | str,
    *,
    names: Mapping[str, Any] | None = None,
) -> Audit:
    """Check what writes do to a model's run.

    Args:
        model: a `LanguageModel`, or any `Model`.
        prompt: what `model.trace` takes. For the text of a cell also a dict of prompts by the names
            that the text calls them.
        writes: a function that writes, such as `model.layers[3].output[:, -1] = 0`; it is called
            once, in a trace. Or the text of a `%%trace` cell.
        names: the variables that such a text uses, such as `globals()`; they stay as they are.

    Returns:
        Five checks of each write, in words, and how far each moves the predictions.

    Raises:
        BadInputError: nothing was written.
        CellError: the text is no cell.

    >>> from nnsight_magic import LanguageModel, analyses
    >>> model = LanguageModel("demo")
    >>> def silence():
    ...     model.layers[22].mlp.output[:, -1] = 0
    >>> found = analyses.audit(model, "The Eiffel Tower is in the city of", silence)
    >>> found.holds, found[0].tokens
    (True, {'prompt 0': [8]})
    """
    if isinstance(writes, str):
        return _audit_of_text(model, prompt, writes, dict(names or {}))
    if names is not None:
        raise BadInputError(
            "names are for the text of a cell; a function has variables of its own."
        )
    with model.trace(prompt) as tracer:
        writes()
        return audited(tracer, prompt_rows(tracer, ()))


def _audit_of_text(model: Any, prompt: Any, text: str, namespace: dict[str, Any]) -> Audit:
    called: tuple[str, ...] = ()
    if isinstance(prompt, dict) and prompt and all(isinstance(v, str) for v in prompt.values()):
        called, prompt = tuple(prompt), list(prompt.values())
    program = read(text, model, namespace, called, "<audit>")
    trace, outcome = model.trace(prompt, grad=program.wants_gradients), Outcome()
    run(program, trace, namespace, outcome, called, _silent, at_end=end_of(program, outcome))
    return audit_of(outcome)


def end_of(program: Any, outcome: Outcome) -> Callable[[Any], Audit]:
    """What a cell's run is to call when its own code is through."""

    def at_end(tracer: Any) -> Audit:
        def names_of(touch: Any) -> list[str]:
            return outcome.names_of(touch, program)

        return audited(tracer, outcome.rows, names_of)

    return at_end


def audit_of(outcome: Outcome) -> Audit:
    """What `end_of` gave.

    Raises:
        BadInputError: the cell ended its forward itself, so nothing could be run behind it.
    """
    if outcome.last is None:
        raise BadInputError(
            "The cell stops its run itself; an audit is of one that comes to its end."
        )
    return outcome.last


def _silent(*_: Any, **__: Any) -> None:
    """Of what the cell shows itself, nothing is shown here."""


def audited(
    tracer: Any,
    rows: Sequence[PromptRow],
    names_of: Callable[[Any], list[str]] = lambda touch: [touch.where],
) -> Audit:
    """The audit of a block that has ended, whose trace still stands.

    Args:
        tracer: of the trace.
        rows: its prompts in the batch.
        names_of: how the block calls what it touched.

    Raises:
        BadInputError: nothing was written.
    """
    if not tracer.written():
        raise BadInputError(
            "Nothing was written, so there is nothing to audit.\nA write changes what flows on, "
            "such as layers[3].output[:, -1] = 0."
        )
    if getattr(getattr(tracer.model._root, "config", None), "is_encoder_decoder", False):
        rows = ()  # its logits are of the decoder's tokens, and its prompt is the encoder's
    runs = runs_of(tracer, rows)
    writes = [
        audited_write(tracer, runs, number, rows, _name(change, names_of))
        for number, change in enumerate(runs.changes)
    ]
    notices = []
    if tracer.model.module.training:
        notices.append("the model is in training mode; each run drew the same random numbers")
    if tracer.model.edits.in_force:
        edits = ", ".join(edit.name for edit in tracer.model.edits.in_force)
        notices.append(f"with the model's edits in force, also in the runs without writes: {edits}")
    return Audit(tuple(writes), _effect(tracer, runs, rows, writes), tuple(notices))


def _name(change: Any, names_of: Callable[[Any], list[str]]) -> tuple[str, int | None]:
    """What the block calls what it wrote, and on which line it first asked for it."""
    touches = change.written.touches
    if not touches:
        return change.written.site.kind, None
    names = dict.fromkeys(name for touch in touches for name in names_of(touch))
    lines = [touch.line for touch in touches if touch.line is not None]
    return ", ".join(names), min(lines, default=None)


def _effect(
    tracer: Any, runs: Runs, rows: Sequence[PromptRow], writes: Sequence[AuditedWrite]
) -> Result | None:
    """How far each write moves the prediction after each token."""
    if runs.said[0].columns is None:
        return None
    found = [torch.cat(_by_prompt(before, after)) for before, after in pairwise(runs.said)]
    titles = [f"line {write.line}" for write in writes]
    if len(set(titles)) < len(titles):
        titles = [f"write {k}" for k in range(len(writes))]
    shown = [_shown(row, columns) for row, columns in zip(rows, runs.said[0].columns, strict=True)]
    words = [word for texts in shown for _, word in texts]
    if len(rows) == 1:
        along = Along("position", [at for at, _ in shown[0]], words)
    else:
        places = [
            f"{row.name or row.index}.{at}"
            for row, texts in zip(rows, shown, strict=True)
            for at, _ in texts
        ]
        along = Along("token", places, words)
    prompts = tracer.prompts or [repr(tracer.input_ids.tolist())]
    attrs = {
        **model_words(tracer.model, " | ".join(prompts)),
        "metric": "KL(before ‖ after) in nats",
        "title": "how far each write moves the prediction after each token (KL, nats)",
    }
    return with_axes(torch.stack(found), [Along("write", titles), along], "moved", attrs)


def _by_prompt(before: Said, after: Said) -> list[torch.Tensor]:
    assert before.columns is not None
    return [
        divergence(before.values[k, list(columns)], after.values[k, list(columns)])
        for k, columns in enumerate(before.columns)
    ]


def _shown(row: PromptRow, columns: range) -> list[tuple[int, str]]:
    """The tokens that there are logits for: positions in the prompt, and texts."""
    left_out = len(row.tokens) - len(columns)
    return [(left_out + k, row.tokens[left_out + k]) for k in range(len(columns))]
