"""What a sweep will take: forwards, seconds and memory, from its prompts and a few of its points.

Forwards are counted, by going through the points as far as the run without any change serves them.
Time and memory are ranges: a factor of two either way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.analyses.swept import Swept, fill, measure_baseline, prompts_of
from nnsight_magic.engine.sweeping.plan import Plan, planned

SAMPLE = 6  # points that are run, where no forward of many is planned
FACTOR = 2  # either way: what measured runs were off by
OF_PYTHON = 16e6  # bytes that a run of any size may take: objects, and what the allocator keeps


@dataclass(frozen=True)
class Forecast:
    """What a sweep will take.

    Attributes:
        points: how many there are.
        tried: how many of them were run.
        took: seconds that those took.
        forwards: at least, and at most; equal where they are known.
        seconds: from, to.
        bytes: beside the weights, from, to; `None` where nobody knows.
        results: bytes of what the points give.
    """

    points: int
    tried: int
    took: float
    forwards: tuple[int, int]
    seconds: tuple[float, float]
    bytes: tuple[float, float] | None
    results: float

    def __str__(self) -> str:
        low, high = self.forwards
        forwards = _count(low, "forward") if low == high else f"{low} to {high} forwards"
        first, last = self.seconds
        said = (
            f"{_count(self.points, 'point')} in {forwards}. {self.tried} of them took "
            f"{self.took:.1f} s; all take {first:.0f} to {last:.0f} s"
        )
        if self.bytes is not None:
            said += f" and {_mb(self.bytes[0])} to {_mb(self.bytes[1])} MB beside the weights"
        return f"{said}. Their results are {_mb(self.results)} MB."


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _mb(count: float) -> str:
    return f"{count / 1e6:.0f}" if count >= 1e7 else f"{count / 1e6:.1f}"


def forecast(
    found: Swept,
    function: Callable[..., Any],
    prompt: Any,
    references: Mapping[str, Any],
    baseline: Sequence[int],
    options: Mapping[str, Any],
    inner: Mapping[str, Any],
) -> Forecast:
    """What a sweep will take; a few of its points are run, and stand in `found` afterwards.

    Args:
        found: the sweep, of which no point has been run.
        function, prompt, references: of it.
        baseline: the points at which the baseline is measured.
        options: of `model.sweep`.
        inner: those of them that the baseline has too.

    Raises:
        BaseException: what the function raises.
    """
    given, count = (found, function, prompt, references), len(found.grid)
    if len(baseline):
        measure_baseline(*given, baseline, **inner)
    before, plan = found.forwards, None
    if not options.get("grad") and "new_tokens" not in inner:
        plan = _planned(*given, [*range(count)], options, inner)
    some = _sample(plan, count)
    began = time.perf_counter()
    fill(*given, numbers=some, progress=lambda how_far: None, **options, **inner)
    took = time.perf_counter() - began
    results = sum(_bytes_of(found.results.get(n)) for n in some) / max(1, len(some)) * count
    if plan is None:
        ran = (found.forwards - before) / len(some)
        few = max(1, round(ran * count / _at_once(found, options)))
        forwards = (before + few, before + max(few, round(ran * count)))
        each = took / len(some) * count
        return _with_ranges(count, some, took, forwards, each, None, results)
    mine = _planned(*given, some, options, inner)
    extra = max(0, found.forwards - before - mine.forwards)  # of points that went on alone
    low = before + plan.forwards + extra
    high = low if not extra else before + plan.forwards + -(-FACTOR * extra * count // len(some))
    tokens = max(1, len(found.tokens)) * len(found.model.blocks)
    share = (plan.work() + plan.others * tokens) / (mine.work() + mine.others * tokens)
    size = None if extra else plan.bytes + results
    return _with_ranges(count, some, took, (low, high), took * max(1.0, share), size, results)


def _with_ranges(
    count: int, some: Sequence[int], took: float, forwards: tuple[int, int], seconds: float,
    size: float | None, results: float,
) -> Forecast:  # fmt: skip
    bytes_ = None if size is None else (size / FACTOR, size * FACTOR + OF_PYTHON)
    span = (seconds / FACTOR, max(took, seconds * FACTOR))
    return Forecast(count, len(some), took, forwards, span, bytes_, results)


def _planned(
    found: Swept, function: Callable[..., Any], prompt: Any, references: Mapping[str, Any],
    numbers: Sequence[int], options: Mapping[str, Any], inner: Mapping[str, Any],
) -> Plan:  # fmt: skip
    prompt_of = found.grid.prompt_of()
    return planned(
        found.model,
        prompt if prompt_of is None else prompts_of(found.grid),
        function,
        [found.grid[number] for number in numbers],
        prompt_of=None if prompt_of is None else [prompt_of[number] for number in numbers],
        references=references,
        batch_size=options.get("batch_size"),
        pack=options.get("pack", True),
        **inner,
    )


def _sample(plan: Plan | None, count: int) -> list[int]:
    """Some points: those of the forward in the middle, else a few from all over the grid."""
    if plan is not None and plan.shared:
        ordered = sorted(plan.shared, key=lambda each: each.blocks * each.tokens)
        return [*ordered[len(ordered) // 2].numbers]
    return [*range(count)][:: max(1, count // SAMPLE)][:SAMPLE]


def _at_once(found: Swept, options: Mapping[str, Any]) -> int:
    """How many points share a forward at most, where it is not known."""
    from nnsight_magic.engine.sweeping.size import TOKENS_PER_BATCH

    asked = options.get("batch_size")
    return asked or max(1, TOKENS_PER_BATCH // max(1, len(found.tokens)))


def _bytes_of(result: Any) -> int:
    if isinstance(result, dict):
        return sum(_bytes_of(each) for each in result.values())
    if isinstance(result, torch.Tensor):
        return result.nbytes
    return 0 if result is None or isinstance(result, Exception) else 8
