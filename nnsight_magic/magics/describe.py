"""What is recorded of a cell: what it read, wrote and saved, and what the model predicts with its
writes and without them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from nnsight_magic.language.keep import Saved
from nnsight_magic.language.program import Program
from nnsight_magic.language.tokens import PromptRow, joined
from nnsight_magic.magics.cell import EndOfGeneration, EndOfTrace, Finished, Running
from nnsight_magic.magics.generated import generations, several_texts
from nnsight_magic.magics.models import title
from nnsight_magic.magics.predict import (
    CleanRuns,
    NextTokens,
    divergence,
    guesses,
    next_tokens,
    predictions,
)
from nnsight_magic.magics.wanted import keep_wanted
from nnsight_magic.results.labels import sizes_of, vocabulary_of
from nnsight_magic.results.record import (
    Extent,
    ModuleTouch,
    PromptResult,
    RunModel,
    RunRecord,
    SavedVariable,
    prompt_of,
)
from nnsight_magic.results.saved import describe_saved


def record(finished: Finished, clean_runs: CleanRuns) -> RunRecord:
    """The record of a run; makes the clean run to compare with, unless it is remembered."""
    running, end = finished.running, finished.end
    asked, outcome, model = running.asked, running.outcome, running.asked.model
    report = outcome.report
    wrote, read = _names(running, finished.touches)
    notices = [*report.notices, *outcome.notices, *_shadowed(running)]
    notices += several_texts(running, end) if isinstance(end, EndOfGeneration) else []
    wanted = keep_wanted(running, {} if end is None else end.wanted)
    texts = _texts(running)
    if asked.magic == "generate":
        assert not isinstance(end, EndOfTrace)
        prompts = generations(running, end, texts, bool(wrote), clean_runs)
    else:
        assert not isinstance(end, EndOfGeneration)
        prompts = _predictions(running, end, texts, clean_runs)
    touched = (ModuleTouch(".".join(t.parts), t.name, t.kind, t.shape, t.wrote)
               for t in finished.touches)  # fmt: skip
    return RunRecord(
        asked.magic,
        asked.number,
        replace(_model(running), sizes=sizes_of(model), vocabulary=vocabulary_of(model)),
        prompts,
        saved=tuple(
            replace(each, modules=_modules_of(saved, running.program, model))
            for each, saved in zip(_saved(running), outcome.saved, strict=True)
        ),
        ran=Extent(
            report.blocks_run,
            report.blocks,
            _idle(model, report) if asked.magic == "trace" else (),
            report.stopped_at,
            getattr(report, "resumed_at", None),
            report.forwards,
            report.seconds,
        ),
        wrote=wrote,
        read=read,
        modules=(*touched, *wanted),
        notices=tuple(notices),
        source=running.program.source,
    )


def record_unfinished(running: Running, error: BaseException) -> RunRecord:
    """The record of a run that an error or an interrupt ended, as far as it came: no predictions,
    since nothing of the model is run for it."""
    report = running.outcome.report
    stopped = isinstance(error, KeyboardInterrupt)
    wrote, read = _names(running, report.touches)
    return RunRecord(
        running.asked.magic,
        running.asked.number,
        _model(running),
        tuple(map(prompt_of, running.rows)),
        saved=_saved(running),
        ran=Extent(
            report.blocks_run,
            report.blocks,
            forwards=report.forwards,
            seconds=report.seconds,
            failed="interrupted" if stopped else f"ended by {type(error).__name__}",
        ),
        wrote=wrote,
        read=read,
        notices=tuple(report.notices),
        source=running.program.source,
    )


def _model(running: Running) -> RunModel:
    return RunModel(title(running.asked.model), running.asked.variable, running.edits)


def _saved(running: Running) -> tuple[SavedVariable, ...]:
    collected = running.program.collected
    return tuple(
        describe_saved(each.name, each.where, each.value, each.name in collected)
        for each in running.outcome.saved
    )


def _names(running: Running, touches: Iterable[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What was written and what was read, as the cell calls it, each once."""
    names: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for touch in touches:
        found = running.outcome.names_of(touch, running.program)
        names[bool(touch.wrote)].update(dict.fromkeys(found))
    return tuple(names[True]), tuple(names[False])


_WHOLE = re.compile(r"(?<![\w.\])])(?:model\.)?output\b")


def _modules_of(saved: Saved, program: Program, model: Any) -> tuple[str, ...]:
    """The modules that a saved value is of: the logits are the unembedding's, not the root's."""
    unembed = model.names.path_of("unembed")
    logits = "logits" in saved.where or (
        "logits" in program.source and not _WHOLE.search(saved.where)
    )
    if unembed is None or not logits:
        return saved.modules
    return tuple(dict.fromkeys(path or unembed for path in saved.modules))


def _idle(model: Any, report: Any) -> tuple[str, ...]:
    """The blocks that did not run: those remembered, and those behind the end of the forward."""
    layers = model.names.layers
    return tuple(f"{layers}.{k}" for k in range(report.blocks) if k not in report.ran)


def _shadowed(running: Running) -> list[str]:
    """Notebook variables that the cell does not see, since the trace has the same name."""
    namespace, model = running.asked.namespace, running.asked.model
    names = [
        repr(name)
        for name in sorted(running.program.trace_names)
        if name in namespace and namespace[name] is not model
    ]
    if not names:
        return []
    is_are = "are the trace's names" if len(names) > 1 else "is the trace's name"
    variables = f"variable{'s' * (len(names) > 1)}"
    return [f"{', '.join(names)} {is_are} here, not the notebook's {variables}"]


def _texts(running: Running) -> list[tuple[str, PromptRow]]:
    """The prompts as they were given, each with its row of the batch."""
    rows, inputs = running.rows, running.prepared.inputs
    given = inputs if isinstance(inputs, list) else [inputs]
    if len(given) != len(rows):
        given = rows
    return [
        (each if isinstance(each, str) else joined(row.tokens), row)
        for each, row in zip(given, rows, strict=True)
    ]


def _predictions(
    running: Running,
    end: EndOfTrace | None,
    texts: list[tuple[str, PromptRow]],
    clean_runs: CleanRuns,
) -> tuple[PromptResult, ...]:
    now = None if end is None else end.next
    clean = None
    if end is not None and now is not None and end.inputs is not None:
        clean = _clean_predictions(running, end.inputs, now, clean_runs)
    tokenizer = running.asked.model.tokenizer
    prompts = []
    for index, (text, row) in enumerate(texts):
        if now is None or index >= len(now.rows):
            prompts.append(prompt_of(row, text))
            continue
        mine, beside = now.rows[index], None if clean is None else clean.rows[index]
        prompt = replace(prompt_of(row, text), predictions=predictions(mine, beside, tokenizer))
        if running.asked.on_screen is not None and row.tokens:
            count = len(row.tokens)
            top, top_clean = guesses(mine, beside, tokenizer, count)
            kl = () if beside is None else divergence(beside, mine, count)
            prompt = replace(prompt, top=top, top_clean=top_clean, kl=kl)
        prompts.append(prompt)
    return tuple(prompts)


def _clean_predictions(
    running: Running, inputs: dict[str, Any], now: NextTokens, clean_runs: CleanRuns
) -> NextTokens | None:
    asked = running.asked
    key = CleanRuns.key(asked.model, inputs)
    known = clean_runs.get(key) if key is not None else None
    if known is None or known.shapes != now.shapes:
        with asked.model.trace(dict(inputs), grad=False) as tracer:
            known = next_tokens(tracer, running.rows, asked.on_screen is not None)
        if key is not None:
            clean_runs.put(key, asked.model, known)
    return known
