"""A whole call of `model.sweep` whose points are generations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.engine.running.inputs import Inputs
from nnsight_magic.engine.sweeping.generations import SweptGeneration, together
from nnsight_magic.engine.sweeping.how_far import Finished, Watching
from nnsight_magic.engine.sweeping.layout import side_by_side
from nnsight_magic.engine.sweeping.run import by_length, checked, explaining
from nnsight_magic.engine.sweeping.size import variants_per_batch
from nnsight_magic.engine.sweeping.sweep import Settings
from nnsight_magic.errors import BadInputError


@dataclass(frozen=True)
class Texts:
    """What is generated, and how.

    Attributes:
        model: a language model.
        change: see `Model.sweep`.
        variants: in their order.
        references: prompts that are only read.
        settings: how the sweep is run.
        options: of transformers' `generate`.
    """

    model: Any
    change: Callable[..., Any]
    variants: list[Any]
    references: Mapping[str, Any]
    settings: Settings
    options: dict[str, Any]


def swept_texts(
    texts: Texts,
    inputs: Any,
    variants: Iterable[Any],
    prompt_of: Sequence[int] | None,
    watching: Watching,
) -> list[Any]:
    """All variants' results, in their order.

    Args:
        texts: what is generated.
        inputs, variants, prompt_of: see `Model.sweep`.
        watching: a bar if true; or who is told of every batch.

    Raises:
        BadInputError: the model generates no text, or gradients are asked for.
    """
    model, listed = texts.model, texts.variants
    if not hasattr(model, "generate"):
        raise BadInputError(
            "new_tokens makes every variant a generation, and this model generates no text.\n"
            "Use a LanguageModel, or leave new_tokens out."
        )
    if texts.settings.grad:
        raise BadInputError(
            "A generation records no gradients in a sweep.\nLeave out grad, or new_tokens."
        )
    prompts = [inputs] if prompt_of is None else [*inputs]
    plains = [_plain(texts, prompt) for prompt in prompts]
    chosen = [0] * len(listed) if prompt_of is None else checked(prompt_of, listed, plains)
    finished = Finished(len(listed), watching)
    with finished.shown():
        for group in by_length(plains, chosen):
            of_group = {n: plains[chosen[n]] for n in range(len(listed)) if chosen[n] in group}
            for numbers in _batches(texts, of_group):
                with explaining(finished, variants, listed):
                    _run(texts, of_group, numbers, finished)
    return [finished.results[number] for number in range(len(listed))]


def _plain(texts: Texts, prompt: Any) -> Any:
    return texts.model._generation(prompt, full=False, grad=False, **texts.options)


def _batches(texts: Texts, plains: Mapping[int, Any]) -> Iterator[list[int]]:
    first = next(iter(plains.values()))
    ids = first.inputs.get("input_ids")
    size = texts.settings.batch_size
    if size is None and ids is not None:
        # A step's logits are of the last position; keys and values are kept of all tokens.
        length = ids.shape[1] + first.plan.new_tokens
        size = variants_per_batch(texts.model.module, length, ids.shape[0], {"logits_to_keep": 1})
    size = size if size and together(texts.model, first, texts.options) else 1
    numbers = [*plains]
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _run(texts: Texts, plains: Mapping[int, Any], numbers: list[int], finished: Finished) -> None:
    """One batch, and those of it that have to be alone."""
    first = plains[numbers[0]]
    shared = together(texts.model, first, texts.options)
    alone = numbers if not shared else []
    if shared:
        mine = [plains[number] for number in numbers]
        args, kwargs = side_by_side(mine, first.inputs["input_ids"].shape[0])
        swept = _generation(texts, Inputs(args, kwargs), {n: plains[n] for n in numbers})
        finished.add(_finished(swept, swept.run, finished)[0])
        alone = [n for n in numbers if n not in finished.results]
    for number in alone:
        plain = plains[number]
        inputs = Inputs(plain.args, dict(plain.inputs), plain.prompts)
        swept = _generation(texts, inputs, {number: plain}, alone=True)
        # Each begins with the same random numbers, as one generation behind one seed does.
        same = torch.random.fork_rng() if plain.plan.samples else nullcontext()
        with same:
            finished.add(_finished(swept, swept.run, finished)[0])


def _finished(swept: SweptGeneration, run: Callable[[], Any], finished: Finished) -> Any:
    try:
        return run()
    except BaseException:
        finished.results.update(swept.ended)
        raise


def _generation(
    texts: Texts, inputs: Inputs, plains: Mapping[int, Any], *, alone: bool = False
) -> SweptGeneration:
    model, settings = texts.model, texts.settings
    return SweptGeneration(
        model,
        inputs,
        dict(texts.options),
        plains=[*plains.values()],
        variants={number: texts.variants[number] for number in plains},
        change=texts.change,
        references={name: model.trace(each) for name, each in texts.references.items()},
        alone=alone,
        writes=settings.writes,
        keep_going=settings.keep_going,
    )
