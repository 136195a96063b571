"""Running a trace cell on the engine; nothing of IPython."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from inspect import signature
from typing import Any

import torch

from nnsight_magic.language.run import Outcome, run
from nnsight_magic.magics.cell import (
    Asked,
    EndOfGeneration,
    EndOfTrace,
    Finished,
    Prepared,
    Running,
)
from nnsight_magic.magics.options import Line
from nnsight_magic.magics.predict import next_tokens
from nnsight_magic.magics.wanted import asked_for, gathered


def start(prepared: Prepared) -> Running:
    """A cell that is about to run: nothing of the model has run yet."""
    asked, outcome, stream = prepared.asked, Outcome(), None
    if asked.magic == "generate" and asked.on_screen is not None:
        from nnsight_magic.magics.stream import Stream

        if Stream.can_follow(asked.settings):
            stream = Stream(asked, outcome, asked.on_screen)
    edits = tuple(edit.name for edit in asked.model.edits.in_force)
    return Running(prepared, outcome, edits, stream=stream)


def execute(running: Running) -> Finished:
    """Runs the cell. `running.outcome` has what came of it, after an error too."""
    __tracebackhide__ = True
    prepared, asked, outcome = running.prepared, running.asked, running.outcome
    grad = bool(asked.line.grad) or prepared.program.wants_gradients
    watched = progress(asked) if running.stream is None else running.stream
    with seeded(asked.line), watched as extra:
        run(
            prepared.program,
            asked_for(begin(prepared, grad, **extra), running),
            asked.namespace,
            outcome,
            prepared.names,
            partial(asked.show, model=asked.model, outcome=outcome),
            at_end=partial(_end, running),
        )
    return Finished(running, outcome.last)


def begin(prepared: Prepared, grad: bool, **extra: Any) -> Any:
    """The trace, or the generation, that the line asks for."""
    asked = prepared.asked
    call = asked.model.trace if asked.magic == "trace" else asked.model.generate
    options: dict[str, Any] = {"grad": grad}
    if asked.magic == "trace":
        options["full"] = bool(asked.line.full)
    else:
        options["max_new_tokens"] = asked.line.new_tokens
        options.update(asked.line.generation, **extra)
    if "resume" in signature(call).parameters:
        options["resume"] = not asked.line.fresh
    return call(prepared.inputs, **options)


@contextlib.contextmanager
def seeded(line: Line) -> Iterator[None]:
    """Random numbers from `--seed` on; those of the notebook go on afterwards as if untouched."""
    seed = getattr(line, "seed", None)
    if seed is None:
        yield
        return
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def progress(asked: Asked) -> Iterator[dict[str, Any]]:
    """Arguments that make a long generation show a bar."""
    if asked.magic == "trace" or asked.line.quiet:
        yield {}
        return
    from nnsight_magic.magics.progress import TokenProgress

    bar = TokenProgress(asked.line.generation.get("max_new_tokens", asked.line.new_tokens))
    try:
        yield {"stopping_criteria": [bar]}
    finally:
        bar.close()


def _end(running: Running, tracer: Any) -> EndOfTrace | EndOfGeneration:
    """The cell's own code is through: takes what the result needs while the forward stands."""
    asked, touches = running.asked, tuple(tracer.report.touches)
    if asked.magic == "generate":
        sequences, begins = tracer.result, tracer.begin
        return EndOfGeneration(touches, sequences, begins, tracer.inputs, _wanted(running))
    wrote = running.program.writes or tracer.wrote
    reached = any(touch.name == "" for touch in touches)
    after = inputs = None
    if wrote or reached or asked.line.full:
        after = next_tokens(tracer, running.rows, everywhere=asked.on_screen is not None)
    if wrote and asked.line.compare:
        inputs = dict(tracer.inputs)
    return EndOfTrace(touches, after, inputs, _wanted(running))


def _wanted(running: Running) -> dict[Any, Any]:
    """Taken last: what the run has come past is there already."""
    return gathered(running) if running.wanted else {}
