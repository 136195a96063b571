"""What `model.generate(...)` gives: a block to enter, or else the sequences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from nnsight_magic.engine.running.interrupt import uninterrupted
from nnsight_magic.engine.running.lifeline import watched_exit
from nnsight_magic.engine.tracing.generation import GenerationTracer
from nnsight_magic.errors import BadInputError


class Generation:
    """What `model.generate(...)` gives: a block to enter, or else the sequences.

    Used in any way but `with`, it generates and stands for the tensor `(batch, tokens)`.
    """

    def __init__(self, tracer: GenerationTracer):
        self._tracer = tracer
        self._done = False
        self._error: Exception | None = None  # what ended it
        self._lifeline: Any = None  # see `lifeline`

    @uninterrupted
    def __enter__(self) -> GenerationTracer:
        return self._tracer.__enter__()

    @watched_exit
    @uninterrupted
    def __exit__(self, kind, error, traceback) -> bool:
        try:
            return GenerationTracer.__exit__(self._tracer, kind, error, traceback)
        finally:
            self._abandon()

    @uninterrupted
    def _abandon(self) -> None:
        self._lifeline = None
        self._tracer._abandon()

    @property
    def sequences(self) -> torch.Tensor:
        """The sequences `(batch, tokens)`; generates them at the first use."""
        if self._error is not None:
            raise self._error
        if not self._done:
            try:
                self._generate()
            except BaseException as error:
                self._error = error if isinstance(error, Exception) else _cut_short()
                raise
            self._done = True
        return self._tracer.finished

    def _generate(self) -> None:
        tracer = self._tracer
        if tracer._call is None:
            raise BadInputError(
                "There is nothing to generate from.\n"
                "Give a prompt: model.generate(prompt, …), or prompts in invokes: "
                "with model.generate(…) as tracer."
            )
        tracer.plan.alone = not tracer.model.edits.in_force
        with tracer:
            pass

    # `isinstance(ids, torch.Tensor)` is what tokenizers ask before they decode.
    __class__ = property(lambda self: torch.Tensor)  # pyright: ignore[reportIncompatibleMethodOverride]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__array__":
            raise AttributeError(name)
        if name == "sequences":  # it has raised an AttributeError of the model's own
            raise self._error or AttributeError(name)
        return getattr(self.sequences, name)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        args = tuple(a.sequences if type(a) is Generation else a for a in args)
        kwargs = {k: a.sequences if type(a) is Generation else a for k, a in (kwargs or {}).items()}
        return func(*args, **kwargs)

    def __getitem__(self, index: Any) -> torch.Tensor:
        return self.sequences[index]

    def __len__(self) -> int:
        return len(self.sequences)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.sequences)

    def __eq__(self, other: Any) -> Any:
        return self.sequences == (other.sequences if type(other) is Generation else other)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return repr(self.sequences)


def _cut_short() -> Exception:
    return BadInputError("This generation was interrupted and has no text.\nGenerate it again.")
