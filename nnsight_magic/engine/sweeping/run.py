"""A whole call of `model.sweep`: its prompts by their lengths, and one `Sweep` for each length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nnsight_magic.engine.sweeping.how_far import Finished, Watching, name_of_point
from nnsight_magic.engine.sweeping.sweep import Settings, Sweep
from nnsight_magic.engine.tracing.tracer import Tracer
from nnsight_magic.errors import BadInputError


@dataclass(frozen=True)
class Call:
    """A call of `model.sweep`.

    Attributes:
        trace: makes the trace of a prompt.
        inputs, change, variants, prompt_of, references: see `Model.sweep`.
        settings: how it is run.
    """

    trace: Callable[[Any], Tracer]
    inputs: Any
    change: Callable[..., Any]
    variants: Sequence[Any]
    prompt_of: Sequence[int] | None
    references: Mapping[str, Any]
    settings: Settings

    def sweeps(self) -> Iterator[Sweep]:
        """One for each length of its prompts."""
        one, trace, variants = self.prompt_of is None, self.trace, self.variants
        plains = [trace(self.inputs)] if one else [trace(each) for each in self.inputs]
        chosen = [0] * len(variants)
        if self.prompt_of is not None:
            chosen = checked(self.prompt_of, variants, plains)
        for group in by_length(plains, chosen):
            mine = {n: (v, group.index(c)) for n, (v, c) in _chosen(variants, chosen, group)}
            traced = [plains[which] for which in group]
            referred = {name: trace(each) for name, each in self.references.items()}
            yield Sweep(traced, self.change, mine, referred, self.settings)


def _chosen(variants: Sequence[Any], chosen: list[int], group: list[int]) -> Iterator[Any]:
    pairs = zip(variants, chosen, strict=True)
    return ((n, pair) for n, pair in enumerate(pairs) if pair[1] in group)


def swept(call: Call, variants: Iterable[Any], watching: Watching) -> list[Any]:
    """All variants' results, in their order.

    Args:
        call: what is run.
        variants: as they were given: a grid has names for its points.
        watching: a bar if true; or who is told of every batch.
    """
    finished = Finished(len(call.variants), watching)
    with finished.shown():
        for sweep in call.sweeps():
            with explaining(finished, variants, call.variants):
                sweep.run(finished)
    return [finished.results[number] for number in range(len(call.variants))]


@contextmanager
def explaining(
    finished: Finished, variants: Iterable[Any], listed: Sequence[Any]
) -> Iterator[None]:
    """What ends a sweep says at which point it was, and has the results so far.

    Args:
        finished: the results.
        variants: as they were given: a grid has names for its points.
        listed: the same as a list.
    """
    try:
        yield
    except BaseException as error:
        point = error.__dict__.pop("of_variant", None)
        arguments = () if point is None else _spread(listed[point])
        name = "" if point is None else name_of_point(variants, point, arguments)
        finished.explain(error, point, name)
        raise


def by_length(plains: Sequence[Tracer], chosen: Sequence[int]) -> list[list[int]]:
    """The prompts that are used, those of equal length together."""
    found: dict[Any, list[int]] = {}
    for which in dict.fromkeys(chosen):
        found.setdefault(_shapes(plains[which]), []).append(which)
    return [*found.values()]


def _spread(variant: Any) -> tuple:
    return variant if isinstance(variant, tuple) else (variant,)


def checked(
    prompt_of: Sequence[int], variants: Sequence[Any], plains: Sequence[Tracer]
) -> list[int]:
    """For each variant the number of its prompt.

    Raises:
        BadInputError: there is no such prompt, or not one number for each variant.
    """
    chosen = [int(each) for each in prompt_of]
    if len(chosen) != len(variants):
        raise BadInputError(
            f"prompt_of says which prompt each variant runs on.\nExpected: {len(variants)} numbers,"
            f" one a variant. Found: {len(chosen)}."
        )
    wrong = next((each for each in chosen if not 0 <= each < len(plains)), None)
    if wrong is not None:
        raise BadInputError(
            f"prompt_of names prompt {wrong}, and there are {len(plains)}: 0 to {len(plains) - 1}."
        )
    return chosen


def _shapes(plain: Tracer) -> tuple:
    """What prompts must have in common to share a batch: names and shapes of their arguments."""
    named = sorted(plain.inputs.items())
    return tuple((name, getattr(value, "shape", value)) for name, value in named) + tuple(
        getattr(value, "shape", None) for value in plain.args
    )
