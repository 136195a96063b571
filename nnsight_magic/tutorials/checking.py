"""What a check of an exercise is: right, or a hint that leads on and does not give the answer away.

A check computes the right answer from the model it is given, and the answers that come of the usual
mistakes too; an answer that equals one of these gets the hint for it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

# A mistake and what is said to it: the numbers that it gives, and the hint.
Mistake = tuple[torch.Tensor, str]

# Of the right answer's own length. Torch's builds differ in the last digits, mistakes by much more.
WITHIN = 0.01


class Hint(Exception):
    """The answer is not right yet; the message leads on."""


@dataclass(frozen=True)
class Verdict:
    """What a check says. True where the answer is right: `assert check.exercise_1(answer)`.

    >>> Verdict(1, True, "Token 0 is another thing than the others.")
    ✓ Exercise 1: right. Token 0 is another thing than the others.
    """

    number: int
    right: bool
    says: str
    open: bool = False

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        mark = "✓" if self.right else "○" if self.open else "✗"
        how = "right. " if self.right else "" if self.open else "not yet. "
        return f"{mark} Exercise {self.number}: {how}{self.says}"


def exercise(check: Callable[..., str]) -> Callable[..., Verdict]:
    """Makes a check of a method `exercise_3(self, answer)`, which returns what is said to a right
    answer and raises `Hint` for any other."""
    number = int(check.__name__.rpartition("_")[2])

    @functools.wraps(check)
    def checked(self: Any, *answer: Any) -> Verdict:
        if not answer or any(each is ... or each is None for each in answer):
            return Verdict(number, False, "put your answer in the place of the three dots.", True)
        try:
            return Verdict(number, True, check(self, *answer))
        except Hint as hint:
            return Verdict(number, False, str(hint))

    return checked


def numbers(answer: Any, what: str) -> torch.Tensor:
    """The answer as a tensor of floats.

    Raises:
        Hint: it is none, or holds NaN.

    >>> numbers([1, 2], "two lengths")
    tensor([1., 2.])
    """
    try:
        if isinstance(answer, (str, bytes, bool)):
            raise TypeError
        if isinstance(answer, Sequence) and answer and isinstance(answer[0], torch.Tensor):
            answer = torch.stack([torch.as_tensor(each) for each in answer])
        found = answer if isinstance(answer, torch.Tensor) else torch.as_tensor(_plain(answer))
        found = found.detach().cpu().to(torch.float32).as_subclass(torch.Tensor)
    except (TypeError, ValueError, RuntimeError):
        raise Hint(f"The answer is {what}; this is {_kind(answer)}.") from None
    if found.isnan().any():
        raise Hint(f"The answer is {what}; this one has NaN in it.")
    return found


def number(answer: Any, what: str) -> float:
    """The answer as one number.

    Raises:
        Hint: it is none.
    """
    found = numbers(answer, what)
    if found.numel() != 1:
        raise Hint(f"The answer is {what}, one number; this has the shape {tuple(found.shape)}.")
    return float(found.flatten()[0])


def whole(answer: Any, what: str) -> int:
    """The answer as a whole number.

    Raises:
        Hint: it is none.

    >>> whole(torch.tensor([3.0]), "a block")
    3
    """
    found = number(answer, what)
    if not math.isfinite(found) or found != int(found):
        raise Hint(f"The answer is {what}, a whole number; this is {found:g}.")
    return int(found)


def text(answer: Any, what: str) -> str:
    """The answer as a text that is not empty.

    Raises:
        Hint: it is none.

    >>> text(3, "a prompt")
    Traceback (most recent call last):
    nnsight_magic.tutorials.checking.Hint: The answer is a prompt, a text; this is of type int.
    """
    if not isinstance(answer, str):
        raise Hint(f"The answer is {what}, a text; this is {_kind(answer)}.")
    if not answer.strip():
        raise Hint(f"The answer is {what}; this text is empty.")
    return answer


def several(answer: Any, count: int, what: str) -> Sequence[Any]:
    """The answer as a tuple or list of `count` items.

    Raises:
        Hint: it is none.
    """
    if not isinstance(answer, (tuple, list)) or len(answer) != count:
        raise Hint(f"The answer is {what}; this is {_kind(answer)}.")
    return answer


def heads(answer: Any, model: Any, what: str) -> list[tuple[int, int]]:
    """The answer as heads, each a pair (block, head) or a text such as `"18.6"`.

    Raises:
        Hint: it is none, or there is no such head.
    """
    if isinstance(answer, str) or not isinstance(answer, Iterable):
        answer = [answer]
    found = [_head(each, model, what) for each in answer]
    if not found:
        raise Hint(f"The answer is {what}; this list is empty.")
    if len(set(found)) < len(found):
        raise Hint("One head stands in the list twice.")
    return found


def head(answer: Any, model: Any, what: str) -> tuple[int, int]:
    """The answer as one head.

    Raises:
        Hint: it is none, or there is no such head.
    """
    return _head(answer, model, what)


def compare(
    found: torch.Tensor,
    right: torch.Tensor,
    mistakes: Iterable[Mistake] = (),
    *,
    axes: str,
    within: float = WITHIN,
) -> None:
    """Holds an answer against the right one.

    Args:
        mistakes: what the usual mistakes give, each with its hint; of any shape.
        axes: the shape in words, `(blocks, tokens)`.
        within: how far all numbers together may be off, as a part of the right ones' length.

    Raises:
        Hint: it is another one.
    """
    if _same(found, right, within):
        return
    for wrong, hint in mistakes:
        if _same(found, wrong, within):
            raise Hint(hint)
    if found.shape != right.shape:
        asked, got = tuple(right.shape), tuple(found.shape)
        if found.squeeze().shape == right.shape:
            raise Hint(f"An axis of size 1 is too many: {axes} is {asked}, yours is {got}.")
        if found.ndim == 2 and found.T.shape == right.shape:
            raise Hint(f"The axes are the other way round: {axes} is {asked}, yours is {got}.")
        raise Hint(f"The shape should be {axes}, here {asked}; yours is {got}.")
    off = (found - right).abs() if right.ndim else (found - right).abs()[None]
    place = [int(i) for i in torch.unravel_index(off.argmax(), off.shape)]
    where = f", at {tuple(place)} farthest from it" if right.ndim else ""
    raise Hint(f"The shape is right, the numbers are not{where}.")


def _same(found: torch.Tensor, right: torch.Tensor, within: float) -> bool:
    if found.shape != right.shape:
        return False
    return bool((found - right.float()).norm() <= within * right.float().norm())


def _head(answer: Any, model: Any, what: str) -> tuple[int, int]:
    if isinstance(answer, str):
        answer = answer.split(".")
    try:
        block, which = (int(each) for each in answer)
    except (TypeError, ValueError):
        raise Hint(f'The answer is {what}; a head is (18, 6) or "18.6".') from None
    if not (0 <= block < model.n_layers and 0 <= which < model.n_heads):
        raise Hint(
            f"There is no head {block}.{which}: blocks go to {model.n_layers - 1}, heads to "
            f"{model.n_heads - 1}, and the block stands first."
        )
    return block, which


def _plain(answer: Any) -> Any:
    """What torch makes a tensor of; arrays with names axes by their values."""
    return getattr(answer, "values", answer) if hasattr(answer, "dims") else answer


def _kind(answer: Any) -> str:
    if isinstance(answer, (tuple, list)):
        return f"a {type(answer).__name__} of {len(answer)}"
    return f"of type {type(answer).__name__}"
