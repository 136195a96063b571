"""Tensors as the views read them: levels, pooling, planes, statistics."""

from __future__ import annotations

import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnsight_magic.errors import BadInputError, GoneError
from nnsight_magic.views.data.array import Array
from nnsight_magic.views.data.held import Held
from nnsight_magic.views.data.levels import LEVELS, encode
from nnsight_magic.views.data.pooling import pool

KINDS = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


@given(st.lists(st.floats(width=32), min_size=1, max_size=600))
@settings(deadline=None, max_examples=200)
def test_levels_keep_order_and_mark_what_is_no_number(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    coded = encode(values)
    decoded = coded.values
    assert len(coded.levels) <= LEVELS
    assert np.array_equal(np.isnan(values), np.isnan(decoded))
    assert np.array_equal(np.isposinf(values), np.isposinf(decoded))
    assert np.array_equal(np.isneginf(values), np.isneginf(decoded))
    finite = np.isfinite(values)
    order = np.argsort(values[finite], kind="stable")
    assert (np.diff(coded.codes[finite][order].astype(int)) >= 0).all()


def test_few_distinct_values_are_kept_exactly() -> None:
    values = np.random.default_rng(0).integers(-100, 100, 5000)
    assert np.array_equal(encode(values).values, values)


@given(
    st.integers(0, 2**32 - 1),
    st.floats(-1e6, 1e6, width=32),
    st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e37]),
    st.lists(st.floats(width=32), max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_every_one_of_many_values_has_the_nearest_level(
    seed: int, centre: float, spread: float, others: list[float]
) -> None:
    values = np.random.default_rng(seed).normal(centre, spread, 6000).astype(np.float32)
    values[: len(others)] = others
    coded = encode(values)
    borders = (coded.levels[1:] / 2 + coded.levels[:-1] / 2).astype(np.float32)
    finite = np.isfinite(values)
    assert np.array_equal(coded.codes[finite], np.searchsorted(borders, values[finite]))


def test_bulk_and_outliers_both_keep_their_detail() -> None:
    values = np.random.default_rng(0).normal(size=50_000).astype(np.float32)
    values[:4] = 1e4, -2e4, 3e3, 5e3
    decoded = encode(values).values
    assert abs(decoded[4:] - values[4:]).mean() < 0.02
    assert np.allclose(decoded[:4], values[:4], rtol=0.1)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(1, 12))
@settings(deadline=None, max_examples=80)
def test_pooling_finds_the_ends_of_every_block(h: int, w: int, rows: int, columns: int) -> None:
    plane = torch.randn(h, w)
    low, high, sampled = pool(plane, rows, columns)
    assert not sampled
    for r in range(-(-h // rows)):
        for c in range(-(-w // columns)):
            block = plane[r * rows : (r + 1) * rows, c * columns : (c + 1) * columns]
            assert low[r, c] == block.min()
            assert high[r, c] == block.max()


def test_one_spike_in_sixteen_million_values_is_seen() -> None:
    tensor = torch.zeros(4096, 4096)
    tensor[1234, 4000] = 7
    plane = Array(tensor).plane((0, 1), (0, 0))
    assert plane.block == (16, 16)
    assert plane.high.values[1234 // 16, 4000 // 16] == 7
    assert plane.low.values.max() == 0


@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_every_dtype_can_be_drawn_and_read(dtype: torch.dtype) -> None:
    tensor = (torch.arange(24).reshape(4, 6) % 5).to(dtype)
    array = Array(tensor)
    plane = array.plane((0, 1), (0, 0))
    assert np.array_equal(plane.low.values, tensor.double().numpy())
    assert float(eval(array.text((1, 2)))) == float(tensor.double()[1, 2])
    assert array.statistics()["count"] == 24


def test_parts_of_complex_numbers() -> None:
    tensor = torch.tensor([[3 + 4j, -1j]])
    values = {
        part: Array(tensor).plane((0, 1), (0, 0), part=part).low.values.tolist()
        for part in ("real", "imag", "abs")
    }
    assert values == {"real": [[3, 0]], "imag": [[4, -1]], "abs": [[5, 1]]}
    assert Array(tensor).text((0, 0)) == "(3+4j)"
    with pytest.raises(BadInputError, match="no part 'size'"):
        Array(tensor).plane((0, 1), (0, 0), part="size")


def test_any_two_axes_in_any_order() -> None:
    tensor = torch.randn(2, 3, 4, 5)
    for down in range(4):
        for across in range(4):
            if down == across:
                continue
            plane = Array(tensor).slice((down, across), (1, 2, 3, 4))
            index = [slice(None) if k in (down, across) else (1, 2, 3, 4)[k] for k in range(4)]
            expected = tensor[tuple(index)]
            assert torch.equal(plane, expected if down < across else expected.T)


@pytest.mark.parametrize("shape", [(), (5,), (1,) * 8, (2,) * 8])
def test_every_rank_has_a_plane(shape: tuple[int, ...]) -> None:
    from nnsight_magic.views import show

    view = show(torch.ones(shape))
    plane = view.array.plane(view.drawn, view.index)
    assert plane.low.codes.ndim == 2


@pytest.mark.parametrize(
    ("axes", "index"), [((0, 0), (0, 0)), ((0, 7), (0, 0)), ((0, 1), (0,)), ((-1, 1), (9, 0))]
)
def test_a_place_that_is_not_there_is_refused(axes: tuple, index: tuple) -> None:
    with pytest.raises(BadInputError):
        Array(torch.ones(2, 3)).plane(axes, index)


def test_ten_gigabytes_are_neither_copied_nor_gone_through_whole() -> None:
    array = Array(torch.arange(50_000.0).expand(50_000, 50_000))
    assert array.bytes == 10_000_000_000
    plane = array.plane((0, 1), (0, 0))
    assert plane.sampled
    assert plane.low.codes.shape == (256, 256)
    assert array.statistics()["looked_at"] < 1 << 17


def test_showing_ten_gigabytes_takes_a_few_megabytes() -> None:
    """The most memory that a process of its own ever held, before and after."""
    code = (
        "import resource, torch\n"
        "from nnsight_magic.views import show\n"
        "most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "show(torch.randn(512, 512)).still()\n"
        "huge = torch.arange(50_000.0).expand(50_000, 50_000)\n"
        "before = most()\n"
        "view = show(huge, 'huge')\n"
        "view.still(), view.still_png(), view.array.text((49_999, 3))\n"
        "place = {'drawn': [0, 1], 'index': [0, 0], 'size': [512, 512]}\n"
        "answer = view.answers['plane']({**place, 'window': [0, 9000, 0, 50_000]})\n"
        "print((most() - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200  # megabytes, of 10,000


def test_statistics_are_those_of_the_values() -> None:
    tensor = torch.randn(500, 300)
    tensor[0, 0], tensor[0, 1], tensor[0, 2] = float("nan"), float("inf"), -float("inf")
    stats = Array(tensor).statistics()
    finite = tensor[tensor.isfinite()].double()
    assert stats["nan"] == 1
    assert stats["inf"] == 2
    assert stats["mean"] == pytest.approx(float(finite.mean()))
    assert stats["std"] == pytest.approx(float(finite.std(unbiased=False)))
    assert sum(stats["histogram"]) == len(finite)


@pytest.mark.parametrize("turned", [False, True])
def test_exact_statistics_of_a_large_tensor_miss_nothing(turned: bool) -> None:
    tensor = torch.zeros(2100, 2100)
    tensor[7, 7], tensor[8, 8], tensor[9, 9] = float("nan"), 50, -60
    stats = Array(tensor.T if turned else tensor).statistics(exact=True)
    assert (stats["nan"], stats["min"], stats["max"]) == (1, -60, 50)
    assert stats["zero"] == 2100 * 2100 - 3


def test_numbers_that_are_no_tensor() -> None:
    assert Array([[1, 2], [3, 4]]).shape == (2, 2)
    assert Array(3.5).text(()) == "3.5"
    assert Array(np.ones((2, 3), ">f4")[:, ::-1]).shape == (2, 3)
    with pytest.raises(BadInputError, match="found str"):
        Array("text")
    with pytest.raises(BadInputError, match="meta device"):
        Array(torch.ones(3, device="meta"))


def test_sparse_tensors_are_shown_in_full() -> None:
    assert Array(torch.eye(3).to_sparse()).text((1, 1)) == "1"


def test_the_tensors_shown_last_are_held_and_no_more() -> None:
    held = Held(budget=3000)
    tensors = [torch.zeros(250) for _ in range(4)]  # a thousand bytes each
    gone = [weakref.ref(tensor) for tensor in tensors]
    for tensor in tensors:
        held.keep(tensor)
    held.keep(tensors[1])
    del tensor, tensors
    assert [ref() is None for ref in gone] == [True, False, False, False]
    held.keep(torch.zeros(5000))
    assert [ref() is None for ref in gone] == [True, True, True, True]
    assert held.bytes == 20_000  # the newest is held, whatever its size


def test_a_weakly_held_tensor_may_go() -> None:
    tensor = torch.ones(3)
    array = Array(tensor, weak=True)
    assert array.text((0,)) == "1"
    del tensor
    with pytest.raises(GoneError, match="deleted"):
        array.text((0,))
