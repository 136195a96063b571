"""Questions that come faster than they are answered: only the newest of a kind is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch

from nnsight_magic.views import TensorView, show

FLOOD = 10_000


def plane(number: int) -> dict[str, Any]:
    return {"id": number, "do": "plane", "drawn": [0, 1], "index": [0, 0], "size": [8, 8]}


def flooded(view: TensorView, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the view says to questions that all wait in the kernel's queue."""
    said: list[dict[str, Any]] = []
    view.send = lambda content, buffers=None: said.append(content)

    async def handed_over() -> None:
        for question in questions:
            view._handle_custom_msg(question, [])
        last = questions[-1]["id"]
        while not any(each["re"] == last for each in said):
            await asyncio.sleep(0)

    asyncio.run(handed_over())
    return said


def test_of_ten_thousand_pictures_the_first_and_the_newest_are_made() -> None:
    view, made = show(torch.randn(40, 40)), []
    original = view.array.plane
    view.array.plane = lambda *args: made.append(args) or original(*args)
    said = flooded(view, [plane(k) for k in range(FLOOD)])
    assert len(made) == 2
    assert [each["re"] for each in said] == [0, FLOOD - 1]
    assert said[1]["again"] == list(range(1, FLOOD - 1)), "the page knows what to ask again"


def test_other_kinds_are_not_lost_in_a_flood() -> None:
    view = show(torch.randn(40, 40))
    questions = [plane(k) for k in range(1000)]
    questions.insert(500, {"id": 2000, "do": "text", "index": [1, 2]})
    questions.insert(700, {"id": 2001, "do": "stats", "exact": True})
    said = {each["re"]: each for each in flooded(view, questions)}
    assert set(said) == {0, 999, 2000, 2001}
    assert said[2000]["text"] == view.array.text([1, 2])


@pytest.mark.parametrize("what", [None, 7, "nonsense", "x" * 10_000, ["plane"]], ids=range(5))
def test_a_flood_of_what_makes_no_sense_is_refused_once(what: Any) -> None:
    view = show(torch.zeros(2, 2))
    said = flooded(view, [{"id": k, "do": what} for k in range(1000)])
    assert len(said) == 2
    assert all("cannot" in each["error"] for each in said)


def test_different_nonsense_is_of_one_kind() -> None:
    view = show(torch.zeros(2, 2))
    assert len(flooded(view, [{"id": k, "do": f"nonsense {k}"} for k in range(1000)])) == 2


def test_questions_after_an_answer_are_answered_each() -> None:
    view, said = show(torch.randn(4, 4)), []
    view.send = lambda content, buffers=None: said.append(content["re"])

    async def one_after_another() -> None:
        for k in range(5):
            view._handle_custom_msg(plane(k), [])
            while k not in said:
                await asyncio.sleep(0)

    asyncio.run(one_after_another())
    assert said == [0, 1, 2, 3, 4]
