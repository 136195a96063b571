"""What a generation gives, as `tracer.result` and `model.generator.output`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import torch

from nnsight_magic.engine.places.spellings import SAVED
from nnsight_magic.engine.tracing.tracer import Tracer
from nnsight_magic.engine.values.containers import is_container
from nnsight_magic.engine.values.parts import Parts
from nnsight_magic.engine.values.value import as_value
from nnsight_magic.errors import NoTraceError, SpellingError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Root


class Generator:
    """`model.generator`: `output` is the whole text, which `generate` returns when it is over."""

    def __init__(self, model: Root):
        self._model = model

    @property
    def output(self) -> Any:
        """The sequences `(batch, tokens)`, as `tracer.result`.

        Raises:
            NoTraceError: no text is being generated.
        """
        tracer = self._model._turn.running()
        if not isinstance(tracer, Tracer) or tracer.is_one_forward:
            raise NoTraceError(
                "generator.output is the text that is being generated.\n"
                "Read it in a generation: with model.generate(prompt, max_new_tokens=…)."
            )
        return tracer.result

    @property
    def streamer(self) -> NoReturn:
        """The tokens as they come; here each step has its own.

        Raises:
            SpellingError: always.
        """
        raise SpellingError(
            "generator.streamer: the tokens that a step is computed from are the step's. "
            "Write: for step in tracer.iter[:]: step.tokens"
        )


class Results(SAVED["list"]):
    """What several invokes have generated, in their order."""


def to_save(result: Any) -> Any:
    """What `generate` gave, with `.save()` and `.value`."""
    if isinstance(result, torch.Tensor):
        return as_value(result) if type(result) is torch.Tensor else result
    if is_container(result):
        parts = Parts(None, (), "tracer.result")
        parts._hold(result)
        return parts
    return result
