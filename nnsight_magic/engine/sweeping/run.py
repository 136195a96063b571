"""A whole call of `model.sweep`: its prompts by their lengths, and one `Sweep` for each length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from nnsight_magic.engine.sweeping.how_far import Finished, Watching, name_of_point
from nnsight_magic.engine.sweeping.sweep import Settings, Sweep
from nnsight_magic.engine.tracing.tracer import Tracer
from nnsight_magic.errors import BadInputError


def swept(
    trace: Callable[[Any], Tracer],
    inputs: Any,
    change: Callable[..., Any],
    variants: Iterable[Any],
    prompt_of: Sequence[int] | None,
    references: Mapping[str, Any],
    settings: Settings,
    watching: Watching,
) -> list[Any]:
    """All variants' results, in their order.

    Args:
        trace: makes the trace of a prompt.
        inputs, change, variants, prompt_of, references: see `Model.sweep`.
        settings: how it is run.
        watching: a bar if true; or who is told of every batch.
    """
    listed = list(variants)
    plains = [trace(inputs)] if prompt_of is None else [trace(each) for each in inputs]
    chosen = [0] * len(listed) if prompt_of is None else checked(prompt_of, listed, plains)
    finished, numbers = Finished(len(listed), watching), range(len(listed))
    with finished.shown():
        for group in by_length(plains, chosen):
            mine = {n: (listed[n], group.index(chosen[n])) for n in numbers if chosen[n] in group}
            traced = [plains[which] for which in group]
            referred = {name: trace(each) for name, each in references.items()}
            with explaining(finished, variants, listed):
                Sweep(traced, change, mine, referred, settings).run(finished)
    return [finished.results[number] for number in numbers]


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
