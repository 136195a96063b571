"""What may stand in brackets of an edit: changed as torch changes it, and stored without loss."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from nnsight_magic.engine.editing.index import Unusable, from_json, frozen, to_json, with_change
from nnsight_magic.errors import EditError

OLD = torch.arange(24.0).reshape(2, 3, 4)
MASK = torch.tensor([[True, False, True], [False, False, True]])
INDICES: list[Any] = [
    0,
    -1,
    True,
    None,
    ...,
    slice(None),
    slice(1, None),
    slice(-2, None, 2),
    (slice(None), -1),
    (..., [0, 2]),
    (0, slice(None), 3),
    [1, 0, 1],
    [True, False],
    torch.tensor([1, 0]),
    MASK,
    (None, 0),
    (),
    (torch.tensor([0, 1]), torch.tensor([2, 0])),
]


def set_by_torch(index: Any, change: Any) -> torch.Tensor:
    new = OLD.clone()
    new[index] = change(new[index])
    return new


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_a_part_is_changed_as_torch_changes_it(index: Any) -> None:
    before = OLD.clone()
    assert torch.equal(with_change(OLD, [index], "set", 7.0), set_by_torch(index, lambda _: 7.0))
    added = set_by_torch(index, lambda part: part + 7.0)
    assert torch.equal(with_change(OLD, [index], "add", 7.0), added)
    scaled = set_by_torch(index, lambda part: part * 0.5)
    assert torch.equal(with_change(OLD, [index], "scale", 0.5), scaled)
    assert torch.equal(OLD, before), "what stands there is left as it is"


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_an_index_comes_out_of_a_file_as_it_went_in(index: Any) -> None:
    stored = json.loads(json.dumps(to_json(index)))
    again = with_change(OLD, [from_json(stored)], "set", 7.0)
    assert torch.equal(again, with_change(OLD, [index], "set", 7.0))


def test_no_brackets_are_all_of_it() -> None:
    assert torch.equal(with_change(OLD, [], "add", 1), OLD + 1)


def test_several_pairs_of_brackets_are_one_in_the_other() -> None:
    new = with_change(OLD, [0, (slice(1, 3), 2), 1], "set", -5.0)
    changed = (new != OLD).nonzero().tolist()
    assert changed == [[0, 2, 2]]


def test_a_tensor_is_taken_in_the_dtype_of_what_stands_there() -> None:
    new = with_change(OLD, [(0, 0)], "set", torch.arange(4, dtype=torch.int64))
    assert new.dtype == OLD.dtype
    assert new[0, 0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_list_of_numbers_chooses_along_one_axis_and_not_along_several() -> None:
    new = with_change(torch.zeros(3, 3), [[0, 2]], "set", 1.0)
    assert new.tolist() == [[1.0] * 3, [0.0] * 3, [1.0] * 3]
    assert torch.equal(with_change(OLD, [[]], "set", 1.0), OLD)


@pytest.mark.parametrize(
    ("index", "value"),
    [(2, 0.0), ((0, 0, 0, 0), 0.0), (slice(None), torch.zeros(5)), ("logits", 0.0), (1.5, 0.0)],
    ids=repr,
)
def test_what_does_not_fit_is_told_with_the_shape_that_is_there(index: Any, value: Any) -> None:
    with pytest.raises(EditError, match=r"shape \(2, 3, 4\)\.\nFound: "):
        with_change(OLD, [index], "set", value)


@pytest.mark.parametrize(
    "make",
    [lambda: [0, 1], lambda: np.array([0, 1]), lambda: torch.tensor([0, 1])],
    ids=["list", "array", "tensor"],
)
def test_a_change_of_what_the_index_was_made_of_does_not_reach_it(make: Any) -> None:
    given = make()
    kept, inside = frozen(given), frozen((slice(None), given))[1]
    given[1] = 9
    assert list(kept) == [0, 1]
    assert list(inside) == [0, 1]


@pytest.mark.parametrize("number", [2**63, -(2**64)])
def test_a_number_that_no_tensor_has_as_a_place_is_refused(number: int) -> None:
    for index in (number, [number], slice(number), (0, slice(0, number))):
        with pytest.raises(EditError, match="too large"):
            to_json(index)


def test_what_cannot_index_a_tensor_is_refused() -> None:
    with pytest.raises(EditError, match="step must be 1 or more"):
        to_json(slice(None, None, -1))
    with pytest.raises(EditError, match="integers or a mask"):
        to_json(torch.tensor([0.5]))
    for index in (1.5, [0.5], object(), {"a": 1.0}.items()):
        with pytest.raises(EditError, match="cannot be the index"):
            to_json(index)


@pytest.mark.parametrize(
    "stored",
    [
        1.5,
        {"list": 3},
        {"list": ["a"]},
        {"tensor": [[1, "a"]]},
        {"tuple": [{"unknown": []}]},
        {"slice": [1, 2]},
        {"slice": [True, None, None]},
        {"all": True, "list": []},
        2**70,
        {"list": [2**70]},
        [0, 1],
    ],
    ids=repr,
)
def test_what_no_index_is_stored_as_is_none(stored: Any) -> None:
    with pytest.raises(Unusable, match="expected"):
        from_json(stored)


def test_a_stored_slice_that_no_tensor_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="step must be 1 or more"):
        from_json({"slice": [None, None, 0]})
