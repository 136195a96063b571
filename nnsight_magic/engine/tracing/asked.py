"""What of the user's has a say in a generation: it is asked once for every new token.

A trace may write the same text several times over, and one step further than it is long. A
logits processor, a stopping criterion or a `prefix_allowed_tokens_fn` that counts, or that
remembers what it has seen, must know nothing of that: what it said the first time is said again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

_OPTIONS = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn")


class Asked:
    """The objects of one generation that have a say in it.

    Args:
        kwargs: the arguments of `generate`.
        last: how many new tokens there are to be; of the step behind it nobody is asked.
    """

    def __init__(self, kwargs: dict[str, Any], last: int):
        given = {name: kwargs[name] for name in _OPTIONS if kwargs.get(name) is not None}
        self._lists = {
            "logits_processor": [*map(_made, given.get("logits_processor", ()))],
            "stopping_criteria": [*map(_made, given.get("stopping_criteria", ()))],
        }
        allowed = given.get("prefix_allowed_tokens_fn")
        self._allowed = None if allowed is None else _Answers(allowed)
        self._last = last

    def of_a_run(self) -> dict[str, Any]:
        """The arguments for one run of `generate`."""
        run = _Run(self._last)
        processors = [each.of_a_run(run, _OfAProcessor) for each in self._lists["logits_processor"]]
        criteria = [each.of_a_run(run, _OfACriterion) for each in self._lists["stopping_criteria"]]
        made: dict[str, Any] = {"stopping_criteria": StoppingCriteriaList(criteria)}
        if processors:
            made["logits_processor"] = LogitsProcessorList(processors)
        if self._allowed is not None:
            made["prefix_allowed_tokens_fn"] = _OfAFunction(self._allowed, run)
        return made


class _Run:
    """One run of `generate`, told by its ids which token comes next."""

    def __init__(self, last: int):
        self._last = last
        self._before: int | None = None  # ids before the first new one

    def is_spare(self, length: int) -> bool:
        """Whether the token behind the last one is being chosen, from ids of this length."""
        if self._before is None:
            self._before = length
        return length - self._before >= self._last

    def is_over(self, length: int) -> bool:
        """Whether ids of this length have the token after the last one."""
        if self._before is None:
            self._before = length - 1
        return length - self._before > self._last


class _Own:
    """An object of transformers' own, which may remember too: each run has a copy of it.

    transformers goes by its type, where the same setting is given in two ways.
    """

    def __init__(self, value: Any):
        self._as_given = copy.deepcopy(value)

    def of_a_run(self, run: _Run, kind: type) -> Any:
        return copy.deepcopy(self._as_given)


class _Watching:
    """An object of our own, which watches the runs as they are."""

    def __init__(self, value: Any):
        self._value = value

    def of_a_run(self, run: _Run, kind: type) -> Any:
        return self._value


class _Answers:
    """What an object of the user's has said, call by call."""

    def __init__(self, asked: Callable[..., Any]):
        self.asked = asked
        self._known: list[tuple[list[Any], Any]] = []  # what it was asked, and its answer

    def of_a_run(self, run: _Run, kind: type) -> Any:
        return kind(self, run)

    def give(self, place: int, question: list[Any], ask: Callable[[], Any]) -> Any:
        """The answer at this place of a run: a new one, if something else is asked there."""
        if place < len(self._known) and _same(self._known[place][0], question):
            return self._known[place][1]
        answer = ask()
        self._known[place : place + 1] = [(question, answer)]
        return answer


def _made(value: Any) -> _Own | _Watching | _Answers:
    package = type(value).__module__.partition(".")[0]
    kinds = {"transformers": _Own, __name__.partition(".")[0]: _Watching}
    return kinds.get(package, _Answers)(value)


class _OfARun:
    def __init__(self, answers: _Answers, run: _Run):
        self._answers, self._run = answers, run
        self._place = -1

    def _next(self) -> int:
        self._place += 1
        return self._place

    def __deepcopy__(self, memo: dict) -> _OfARun:
        return self  # PEFT copies what `generate` is given


class _OfAProcessor(_OfARun):
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._run.is_spare(input_ids.shape[-1]):
            return scores
        question = [input_ids, *_digest(scores)]

        def ask() -> torch.Tensor | None:
            before = scores.clone()
            said = self._answers.asked(input_ids, scores)
            # Most look on, and leave the scores as they are: those need not be kept.
            same = said.shape == before.shape and torch.equal(said, before)
            return None if same else said.clone()

        said = self._answers.give(self._next(), question, ask)
        return scores if said is None else said.clone()


class _OfACriterion(_OfARun):
    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> Any:
        if self._run.is_over(input_ids.shape[-1]):
            return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)
        question = [input_ids.clone()]
        ask = lambda: self._answers.asked(input_ids, scores, **kwargs)  # noqa: E731
        return self._answers.give(self._next(), question, ask)


class _OfAFunction(_OfARun):
    def __call__(self, batch: int, input_ids: torch.Tensor) -> Any:
        if self._run.is_spare(input_ids.shape[-1]):
            return [0]  # anything will do that is a token
        question = [batch, input_ids.clone()]
        return self._answers.give(
            self._next(), question, lambda: self._answers.asked(batch, input_ids)
        )


def _digest(scores: torch.Tensor) -> list[torch.Tensor]:
    """Some numbers that tell scores apart, and need no copy of them."""
    finite = scores.isfinite()
    values = torch.where(finite, scores, 0).double()
    weights = torch.arange(values.shape[-1], device=values.device) % 97 + 1
    return [finite.sum(-1), values.sum(-1), (values * weights).sum(-1)]


def _same(known: list[Any], asked: list[Any]) -> bool:
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(known, asked, strict=True)
    )
