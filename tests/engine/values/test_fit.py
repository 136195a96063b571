"""What is written in the place of a value: taken where it fits, refused in words where not."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from nnsight_magic.engine.values.fit import fit
from nnsight_magic.errors import WrongValueError

OLD = torch.arange(6.0).reshape(2, 3)


class Pair(NamedTuple):
    first: torch.Tensor
    second: Any


@pytest.mark.parametrize("number", [0, 2.5, True, -1])
def test_a_number_fills_the_tensor_that_it_replaces(number: float) -> None:
    new = fit(number, OLD, "x")
    assert (new.shape, new.dtype) == (OLD.shape, OLD.dtype)
    assert bool((new == number).all())


def test_a_number_is_taken_in_the_dtype_of_the_tensor() -> None:
    assert fit(3, torch.zeros(2, dtype=torch.int64), "x").tolist() == [3, 3]
    assert fit(2j, torch.zeros(1, dtype=torch.complex64), "x").tolist() == [2j]


def test_a_tensor_of_the_same_kind_is_taken_as_a_copy() -> None:
    mine = torch.ones(2, 3)
    new = fit(mine, OLD, "x")
    mine.zero_()
    assert bool((new == 1).all())


@pytest.mark.parametrize(
    ("new", "problems", "remedy"),
    [
        (torch.zeros(3, 2), "shape", r"x\.reshape\(2, 3\)"),
        (torch.zeros(3), "shape", "To write a part"),
        (torch.zeros(2, 3, dtype=torch.float64), "dtype", r"x\.to\(h\)"),
        (torch.zeros(2, 3, device="meta"), "device", r"x\.to\(h\)"),
        (torch.zeros(4, dtype=torch.int64), "shape and dtype", "To write a part"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_with_what_to_do(
    new: torch.Tensor, problems: str, remedy: str
) -> None:
    with pytest.raises(WrongValueError, match=rf"another {problems}\.(.|\n)*{remedy}") as caught:
        fit(new, OLD, "layers[3].output")
    assert "Expected: float32 (2, 3) on cpu." in caught.value.message
    assert caught.value.message.startswith("layers[3].output takes")


@pytest.mark.parametrize("new", [None, "text", [1.0] * 6, (torch.zeros(2, 3),)])
def test_a_tensor_takes_nothing_but_tensors_and_numbers(new: Any) -> None:
    with pytest.raises(WrongValueError, match="takes a tensor or a number"):
        fit(new, OLD, "x")


def test_the_items_of_a_container_are_fitted_each_to_its_own() -> None:
    old = (OLD, {"mask": torch.zeros(2, dtype=torch.bool), "note": "n"}, None)
    new = fit((1, {"mask": True, "note": "m"}, None), old, "x")
    assert type(new) is tuple
    assert torch.equal(new[0], torch.ones(2, 3))
    assert new[1]["mask"].tolist() == [True, True]
    assert new[1]["note"] == "m"
    assert bool((torch.arange(6.0).reshape(2, 3) == OLD).all()), "what stands there is as it was"


@pytest.mark.parametrize(
    "old",
    [
        [OLD, 1],
        Pair(OLD, 1),
        OrderedDict(first=OLD, second=1),
        BaseModelOutput(last_hidden_state=OLD, hidden_states=(OLD,)),
    ],
    ids=lambda old: type(old).__name__,
)
def test_a_container_stays_of_its_type(old: Any) -> None:
    items = dict(old) if isinstance(old, dict) else list(old)
    first = next(iter(items)) if isinstance(items, dict) else 0
    items[first] = 5
    new = fit(items, old, "x")
    assert type(new) is type(old)
    assert torch.equal(new[first], torch.full((2, 3), 5.0))


def test_items_that_are_left_as_they_are_stay_the_same_objects() -> None:
    old = (OLD, torch.zeros(3))
    assert fit((0, old[1]), old, "x")[1] is old[1]


@pytest.mark.parametrize("new", [(OLD,), (OLD, 1, 2), {"first": OLD}, {0: OLD, 2: 1}])
def test_a_container_with_other_items_is_refused(new: Any) -> None:
    with pytest.raises(WrongValueError, match=r"other items\.\nExpected: \[0, 1\]"):
        fit(new, (OLD, 1), "x")


def test_one_tensor_is_no_tuple_and_the_way_to_write_an_item_is_told() -> None:
    with pytest.raises(WrongValueError, match=r"attn\.output\[0\] = x"):
        fit(OLD, (OLD, None), "attn.output")


def test_the_item_that_does_not_fit_is_named() -> None:
    old = (OLD, {"keys": OLD, "no name": OLD})
    for key, where in (("keys", r"x\[1\]\.keys"), ("no name", r"x\[1\]\['no name'\]")):
        with pytest.raises(WrongValueError, match=f"^{where} takes another shape"):
            fit((OLD, {**old[1], key: torch.zeros(1)}), old, "x")


def test_anything_may_stand_for_what_is_neither_tensor_nor_container() -> None:
    assert fit("b", "a", "x") == "b"
    assert fit(None, 3, "x") is None
