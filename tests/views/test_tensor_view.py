"""The tensor viewer's Python side: what it stores, what it answers, what it refuses."""

from __future__ import annotations

import io
import weakref
import zlib
from typing import Any

import numpy as np
import pytest
import torch
import traitlets

from nnsight_magic.errors import BadInputError
from nnsight_magic.views import TensorView, compare, show


def ask(view: Any, **question: Any) -> tuple[dict[str, Any], list[bytes]]:
    """Sends a question as the browser does and returns the answer."""
    answers = []
    view.send = lambda content, buffers=None: answers.append((content, buffers))
    view._handle_custom_msg({"id": 7, **question}, [])
    assert len(answers) == 1
    assert answers[0][0]["re"] == 7
    return answers[0]


def decode(buffers: list[bytes], rows: int, columns: int) -> np.ndarray:
    levels = np.frombuffer(buffers[0], np.float64)
    return levels[np.frombuffer(buffers[1], np.uint8)[: rows * columns]].reshape(rows, columns)


def test_a_small_tensor_is_stored_whole() -> None:
    tensor = torch.randint(0, 50, (3, 4, 5))
    view = show(tensor)
    levels = np.frombuffer(zlib.decompress(view.levels), np.float64)
    codes = np.frombuffer(zlib.decompress(view.codes), np.uint8)
    assert view.stored["form"] == "whole"
    assert np.array_equal(levels[codes].reshape(3, 4, 5), tensor.numpy())


def test_of_a_large_tensor_a_bounded_picture_is_stored() -> None:
    view = show(torch.randn(4096, 4096))
    state = view.get_state()
    size = sum(len(v) if isinstance(v, bytes) else len(repr(v)) for v in state.values())
    assert view.stored["form"] == "plane"
    assert size < 150_000


def test_tiles_come_at_the_size_that_was_asked_for() -> None:
    tensor = torch.randn(1000, 1000)
    info, buffers = ask(
        show(tensor),
        do="plane",
        drawn=[0, 1],
        index=[0, 0],
        window=[100, 164, 200, 232],
        size=[64, 64],
    )
    assert (info["rows"], info["columns"], info["pair"]) == (64, 32, False)
    assert np.allclose(decode(buffers, 64, 32), tensor[100:164, 200:232].numpy(), atol=0.1)


def test_a_value_is_told_exactly_also_where_columns_are_sorted() -> None:
    tensor = torch.tensor([[1.0, 30.25, 2.0]])
    view = show(tensor)
    assert ask(view, do="text", index=[0, 1])[0]["text"] == "30.25"
    answer, _ = ask(view, do="text", index=[0, 0], drawn=[0, 1], ordered=True)
    assert (answer["text"], answer["index"]) == ("30.25", [0, 1])


def test_sorted_columns_stand_by_their_norm() -> None:
    view = show(torch.tensor([[1.0, -3.0, 2.0]]).repeat(2, 1))
    info, buffers = ask(view, do="plane", drawn=[0, 1], index=[0, 0], size=[8, 8], ordered=True)
    assert decode(buffers, info["rows"], info["columns"])[0].tolist() == [-3, 2, 1]


def test_the_array_file_has_the_values() -> None:
    tensor = torch.randn(3, 4)
    _, buffers = ask(show(tensor), do="npy")
    assert np.array_equal(np.load(io.BytesIO(buffers[0])), tensor.numpy())


def test_a_file_that_is_too_large_is_refused_with_the_way_out() -> None:
    view = show(torch.zeros(1).expand(1 << 13, 1 << 13), "x", expression="big")
    assert "numpy.save('tensor.npy', big" in ask(view, do="npy")[0]["error"]


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        {"do": "fly"},
        {"do": None},
        {"do": "plane"},
        {"do": "plane", "drawn": "x", "index": 3, "size": [1, 1]},
        {"do": "plane", "drawn": [0, 9], "index": [0, 0], "size": [1, 1]},
        {"do": "plane", "drawn": [0, 1], "index": [0, 0], "size": "large"},
        {"do": "text", "index": [99, 99]},
        {"do": "text", "index": None},
        {"do": "margins", "drawn": [1]},
    ],
)
def test_nonsense_is_answered_with_what_is_wrong(nonsense: dict) -> None:
    answer, buffers = ask(show(torch.ones(2, 3)), **nonsense)
    assert answer["error"]
    assert not buffers


@pytest.mark.parametrize("content", [None, 3, "text", [], {}, {"id": "x"}, {"id": None}])
def test_a_message_that_asks_nothing_gets_no_answer(content: Any) -> None:
    view = show(torch.ones(2))
    view.send = lambda *_: pytest.fail("answered")
    view._handle_custom_msg(content, [])


def test_a_deleted_tensor_is_told_and_the_stored_picture_stays() -> None:
    tensor = torch.randn(300, 300)
    view = TensorView(tensor, weak=True)
    del tensor
    answer, _ = ask(view, do="plane", drawn=[0, 1], index=[0, 0], size=[8, 8])
    assert answer["gone"]
    assert "run its cell again" in answer["error"]
    assert view.still_png()


def test_a_list_of_tensors_is_looked_at_as_one_and_is_not_kept() -> None:
    tensors = [torch.randn(300, 200) for _ in range(3)]
    whole = torch.stack(tensors)
    view = TensorView(tensors, weak=True)
    assert view.about["shape"] == [3, 300, 200]
    assert view.stats["min"] == whole.min()
    answer, _ = ask(view, do="text", index=[1, 7, 9])
    assert float(answer["text"]) == pytest.approx(float(whole[1, 7, 9]))
    gone = weakref.ref(tensors.pop())
    assert gone() is None
    answer, _ = ask(view, do="text", index=[1, 7, 9])
    assert answer["gone"]
    assert show([torch.ones(2), torch.zeros(2)]).about["shape"] == [2, 2]


def test_a_huge_tile_is_cut_down() -> None:
    info, _ = ask(
        show(torch.zeros(3000, 3000)), do="plane", drawn=[0, 1], index=[0, 0], size=[9999, 9999]
    )
    assert info["rows"] <= 512


def test_state_is_set_and_read_from_python() -> None:
    view = show(torch.randn(4, 9, 9), drawn=[0, 1], index=[0, 0, 3], limits=[-1, 1])
    view.palette = "grey"
    view.window = [0, 2, 0, 2]
    assert view.limits == [-1, 1]
    with pytest.raises(traitlets.TraitError):
        view.palette = "rainbow"


def test_a_misspelt_option_is_refused() -> None:
    with pytest.raises(TypeError, match="titel"):
        show(torch.ones(2), titel="x")
    with pytest.raises(BadInputError, match="2 axis names"):
        show(torch.ones(2, 3, 4), axes=("a", "b"))


@pytest.mark.parametrize(
    ("shape", "options", "roles"),
    [
        ((1, 12, 576), {}, ["batch", "token", "feature"]),
        ((1, 9, 12, 12), {}, ["batch", "head", "query", "key"]),
        ((12, 64, 64), {}, ["head", "query", "key"]),
        ((1, 7, 49152), {"sizes": {"vocabulary": 49152}}, ["batch", "token", "vocabulary"]),
        ((3, 576), {"tokens": ["a", "b", "c"], "sizes": {"feature": 576}}, ["token", "feature"]),
        ((2, 2), {"tokens": ["a", "b"], "sizes": {"head": 2}}, ["query", "key"]),
        ((5, 4), {}, ["axis", "axis"]),
        ((), {}, []),
    ],
)
def test_roles_of_axes(shape: tuple, options: dict, roles: list[str]) -> None:
    assert [axis["role"] for axis in show(torch.zeros(shape), **options).axes] == roles


def test_the_figure_draws_the_values_that_are_looked_at() -> None:
    tensor = torch.randn(2, 5, 6)
    view = show(tensor, "resid", drawn=[2, 1], index=[1, 0, 0], tokens=["a"] * 5)
    figure = view.figure()
    assert np.allclose(figure.axes[0].images[0].get_array(), tensor[1].T.numpy())


def test_a_comparison_has_one_scale_for_both_and_their_difference() -> None:
    first, second = torch.zeros(3, 3), torch.eye(3) * 4
    view = compare(first, second, axes=("token", "feature"))
    assert view.first.scale == view.second.scale
    assert view.difference.array.text((1, 1)) == "4"
    with pytest.raises(BadInputError, match="cannot be compared"):
        compare(torch.ones(2), torch.ones(3))


def test_handlers_leave_the_grad_mode_alone_and_need_none() -> None:
    tensor = torch.randn(20, 20, requires_grad=True) * 2
    info, _ = ask(show(tensor), do="plane", drawn=[0, 1], index=[0, 0], size=[8, 8])
    assert "error" not in info
    assert torch.is_grad_enabled()


def test_a_view_that_is_filled_shows_the_new_values():
    values = torch.full((2, 3), torch.nan)
    view = TensorView(values, "effect")
    assert "min" not in view.stats
    view.refill(torch.arange(6.0).reshape(2, 3))
    assert (view.stats["min"], view.stats["max"]) == (0, 5)
    assert view.array.text([1, 2]).startswith("5")
    with pytest.raises(BadInputError, match=r"shape \(2, 3\)"):
        view.refill(torch.zeros(3, 2))
