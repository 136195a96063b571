"""Stills, figures and the console: what they show is what the view shows, and it is true."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from traitlets import TraitError

from nnsight_magic.errors import BadInputError
from nnsight_magic.views import TensorView, TokenStrip, compare, show, tokens_view
from nnsight_magic.views.data.seen import cut_of, drawn_by
from nnsight_magic.views.page import page
from nnsight_magic.views.still.picture import picture
from tests.views.pictures import console_values, figure_values, still_values


def pattern(tokens: int, heads: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(1, heads, tokens, tokens, generator=generator) * 2
    future = torch.full((tokens, tokens), -torch.inf).triu(1)
    return torch.softmax(scores + future, dim=-1)


def test_spikes_of_every_height_are_drawn_wherever_they_lie() -> None:
    tensor = torch.zeros(1, 1, 2000, 2000)
    tensor[0, 0, :, 0] = 1
    tensor[0, 0, 1500:1503, 900:903] = 0.9
    tensor[0, 0, 1999, 1999] = 0.4
    view = show(tensor, axes=("batch", "head", "token", "token"))
    for values in (still_values(view), figure_values(view), figure_values(view, dpi=300)):
        assert np.abs(values - 0.9).min() < 0.01
        assert np.abs(values - 0.4).min() < 0.01
        assert (values[:, 0] > 0.99).all()
    assert np.abs(console_values(tensor) - 0.9).min() < 0.02


@pytest.mark.parametrize("size", [500, 600, 1999])
def test_one_spike_is_never_lost(size: int) -> None:
    for at in ((size // 2, size // 3), (size - 1, size - 1), (0, size - 1)):
        tensor = torch.zeros(size, size)
        tensor[at] = 1
        view = show(tensor)
        for values in (still_values(view), figure_values(view), console_values(tensor)):
            assert values.max() > 0.99, at
            assert np.count_nonzero(values > 0.5) < 12


def test_both_signs_are_drawn_where_values_are_pooled() -> None:
    tensor = torch.randn(9, 2000, generator=torch.Generator().manual_seed(0))
    view = show(tensor)
    for values in (still_values(view), figure_values(view), console_values(tensor)):
        assert 0.4 < (values < 0).mean() < 0.6


def test_spikes_in_noise_are_told_from_it() -> None:
    generator = torch.Generator().manual_seed(1)
    tensor = torch.randn(2000, 2000, generator=generator) * 0.1
    places = torch.randint(0, 2000, (40, 2), generator=generator)
    tensor[places[:, 0], places[:, 1]] = 4.0 * torch.tensor([1, -1]).repeat(20)
    view = show(tensor)
    drawn = drawn_by(view.seen, (256, 256))
    assert drawn is not None
    assert drawn.limits == (-4, 4)
    at_an_end = np.abs(drawn.values) > 2
    assert 30 <= at_an_end.sum() <= 40


def test_still_and_figure_show_the_state_of_the_view() -> None:
    tensor = pattern(60)
    view = show(tensor, "pattern", drawn=[2, 3], index=[0, 0, 0, 0])
    for change in (
        {"index": [0, 3, 0, 0]},
        {"window": [10, 40, 5, 50]},
        {"ordered": True},
        {"limits": [0.0, 0.25]},
        {"palette": "grey"},
        {"drawn": [3, 2]},
    ):
        before = view.still(), view.still_png(), figure_values(view).tolist()
        for name, value in change.items():
            setattr(view, name, value)
        after = view.still(), view.still_png(), figure_values(view).tolist()
        assert all(one != other for one, other in zip(before, after, strict=True)), change
    top, bottom, left, right = view.window
    plane = tensor[0, 3].T
    order = torch.argsort(-plane.square().sum(0), stable=True)
    shown = drawn_by(view.seen, (200, 200))
    assert shown is not None
    expected = plane[:, order][top:bottom, left:right].numpy()
    np.testing.assert_array_equal(shown.values, expected)
    assert "head 3" in view.still()
    assert "colours from 0 to 0.25; values lie outside" in view.still()


def test_another_part_has_its_own_limits() -> None:
    tensor = torch.complex(torch.full((4, 4), 100.0), torch.rand(4, 4))
    view = show(tensor)
    view.part = "imag"
    limits = view.figure().axes[0].images[0].get_clim()
    assert limits == (0, pytest.approx(float(tensor.imag.max())))


def test_a_still_keeps_its_place_when_the_tensor_is_gone() -> None:
    tensor = torch.randn(3, 20, 20)
    view = TensorView(tensor, "x", weak=True)
    view.index = [2, 0, 0]
    expected = tensor[2].numpy()
    del tensor
    assert np.abs(still_values(view) - expected).max() < 0.1
    assert np.abs(figure_values(view) - expected).max() < 0.1


def test_where_another_plane_was_stored_a_still_says_which_it_shows() -> None:
    tensor = torch.rand(3, 400, 400)
    view = TensorView(tensor, "x", weak=True, axes=("head", "row", "column"))
    view.index = [2, 0, 0]
    assert "head 2 (of 0 to 2)" in view.still()
    del tensor
    assert "head 0 (of 0 to 2)" in view.still()


@pytest.mark.parametrize("size", [(322, 322), (64, 64), (200, 300), (30, 30)])
def test_planes_keep_their_proportions(size: tuple[int, int]) -> None:
    still = picture(show(torch.rand(size)).seen)
    assert still is not None
    _, _, width, height = still.plot
    assert height / width == pytest.approx(size[0] / size[1], rel=0.02)


def test_ticks_of_a_figure_stand_on_whole_rows_and_name_columns_by_what_they_are() -> None:
    view = show(torch.tensor([[1.0, 9.0, 3.0]] * 6), "x", ordered=True)
    axes = view.figure().axes[0]
    assert all(float(tick).is_integer() for tick in [*axes.get_xticks(), *axes.get_yticks()])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "0"]
    assert axes.get_xlabel() == "axis 1, by norm"
    assert not any(spine.get_visible() for spine in axes.spines.values())


def test_a_figure_shows_itself_and_says_what_it_is() -> None:
    figure = show(pattern(9), "pattern", index=[0, 2, 0, 0]).figure()
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert "pattern (1, 4, 9, 9), head 2" in {text.get_text() for text in figure.texts}
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("key", "query")


def test_no_values_make_a_figure_all_the_same() -> None:
    figure = show(torch.zeros(0, 5)).figure()
    assert any("no values" in text.get_text() for text in figure.texts)


def marked() -> torch.Tensor:
    tensor = torch.rand(20, 20)
    tensor[3, 4], tensor[5, 6], tensor[7, 8] = float("nan"), float("inf"), -float("inf")
    return tensor


def test_nan_and_infinities_have_their_own_colours_everywhere() -> None:
    view = show(marked())
    console = console_values(marked())[::2, ::2]  # which draws a small matrix twice as large
    for values in (still_values(view), figure_values(view), console):
        assert np.isnan(values).sum() == 1
        assert (values == np.inf).sum() == 1
        assert (values == -np.inf).sum() == 1
    names = {text.get_text() for text in view.figure().legends[0].get_texts()}
    assert names == {"NaN", "∞", "−∞"}


LEGAL = {
    "the largest doubles": lambda: torch.tensor([[1e308, -1e308], [0, 1]], dtype=torch.float64),
    "many large doubles": lambda: torch.randn(300, 300, dtype=torch.float64) * 4e307,
    "1e200": lambda: torch.full((3, 3), 1e200, dtype=torch.float64),
    "the least double": lambda: torch.tensor([[5e-324, 0]], dtype=torch.float64),
    "the ends of int64": lambda: torch.tensor([[-(2**63), 2**63 - 1]]),
    "uint64": lambda: torch.tensor([2**64 - 1, 3], dtype=torch.uint64),
    "a conjugate's imaginary part": lambda: torch.randn(3, 3, dtype=torch.complex64).conj().imag,
    "a conjugate": lambda: torch.randn(3, 3, dtype=torch.complex64).conj(),
    "complex32": lambda: torch.randn(3, 3, dtype=torch.complex64).to(torch.complex32),
    "nested": lambda: torch.nested.nested_tensor([torch.randn(2, 3), torch.randn(4, 3)]),
    "nested integers": lambda: torch.nested.nested_tensor([torch.arange(3), torch.arange(2)]),
    "jagged": lambda: torch.nested.nested_tensor(
        [torch.randn(2, 3), torch.randn(4, 3)], layout=torch.jagged
    ),
    "masked": lambda: torch.masked.masked_tensor(torch.ones(3, 3), torch.eye(3) > 0),
    "float4": lambda: torch.arange(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
    "quantised": lambda: torch.quantize_per_tensor(torch.randn(3, 3), 0.1, 0, torch.qint8),
    "sparse rows": lambda: torch.eye(3).to_sparse_csr(),
    "no values": lambda: torch.zeros(0, 5),
}


@pytest.mark.parametrize("name", LEGAL)
def test_every_legal_tensor_is_shown_and_its_messages_are_legal(name: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tensor = LEGAL[name]()
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        pytest.fail(f"torch {torch.__version__} has no such tensor: {error}")
    for view in (show(tensor), TensorView(tensor, weak=True)):
        heard: list[Any] = []
        view.send = lambda content, buffers=None, heard=heard: heard.append(content)
        place = {"drawn": view.drawn, "index": view.index}
        for question in ("plane", "stats", "margins", "text", "npy", "lines"):
            view._asked(None, {"id": 1, "do": question, "size": [8, 8], **place}, [])
        traits = {k: v for k, v in view.get_state().items() if not isinstance(v, bytes)}
        traits = {k: v for k, v in traits.items() if isinstance(v, dict | list | str | bool)}
        json.dumps([traits, heard], allow_nan=False)
        refused = [each["error"] for each in heard if "error" in each]
        assert not refused or name == "no values", refused
        view.still(), view.still_png(), view.text(), page(view)
        view.figure().savefig(io.BytesIO())


def test_what_a_layout_leaves_out_is_nan_and_packed_numbers_are_two() -> None:
    nested = torch.nested.nested_tensor([torch.tensor([1, 2]), torch.tensor([3])])
    assert [show(nested).array.text(at) for at in ((0, 1), (1, 0), (1, 1))] == ["2.0", "3.0", "nan"]
    packed = torch.tensor([0x7A], dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    assert [show(packed).array.text((k,)) for k in (0, 1)] == ["-1", "6"]


@pytest.mark.parametrize("kind", ["bits8", "uint1"])
def test_bits_that_are_no_numbers_are_refused(kind: str) -> None:
    tensor = torch.zeros(3, dtype=torch.uint8).view(getattr(torch, kind))
    with pytest.raises(BadInputError, match="unpack it first"):
        show(tensor)


NONSENSE = [
    {"drawn": [7, 9]},
    {"drawn": [1, 1]},
    {"drawn": [-1, -1]},
    {"drawn": [-5, 0]},
    {"index": [99, -3, 7]},
    {"index": []},
    {"index": [1] * 9},
    {"window": [5, 2, 0, 3]},
    {"window": [0, 10**9, 0, 10**9]},
    {"window": [1]},
    {"limits": [3, 1]},
    {"limits": [float("nan"), 1]},
    {"limits": [-float("inf"), float("inf")]},
    {"limits": [1]},
    {"axes": []},
    {"axes": [{}, {"role": 3}, {"labels": 7}]},
    {"axes": [{"role": "token", "labels": ["only one"]}] * 3},
    {"cell": [99]},
    {"stats": {}},
]


@pytest.mark.parametrize("state", NONSENSE, ids=str)
@pytest.mark.parametrize("gone", [False, True])
def test_a_state_that_makes_no_sense_counts_as_not_set(state: dict[str, Any], gone: bool) -> None:
    tensor = torch.rand(3, 40, 50)
    view = TensorView(tensor, "x", weak=True)
    with contextlib.suppress(TraitError):  # refused by the trait: not set either
        view.set_state(state)
    if gone:
        del tensor
    assert cut_of(view.seen).size in {(40, 50), (3, 50), (3, 40)}
    assert view.still_png()
    assert "heat map" in view.still()
    assert view.figure().axes
    view.answers["lines"]({})


def test_a_lone_half_of_a_character_is_written_as_what_it_is(tmp_path: Any) -> None:
    view = show(torch.rand(2, 2), "half \ud83d", tokens=["\udc80", "b"])
    view.save_html(tmp_path / "page.html")
    assert "half" in (tmp_path / "page.html").read_text()
    view.still().encode()
    view.figure().savefig(io.BytesIO())


def test_the_exported_lines_draw_the_same_in_the_next_cell() -> None:
    resid = torch.rand(1, 5, 30)
    words = ["a", "$b$", "'c'", "\n", "<e>"]
    view = show(resid, "resid", tokens=words, expression="layers[3].output")
    view.drawn, view.index, view.limits, view.window = [2, 1], [0, 0, 0], [0, 0.5], [3, 20, 0, 4]
    space: dict[str, Any] = {"resid": resid}
    lines = view.answers["lines"]({})[0]["lines"].splitlines()
    exec("\n".join(line for line in lines if "savefig" not in line), space)
    one, other = view.figure(), space["figure"]
    assert [each.get_text() for each in other.axes[0].get_xticklabels()] == [
        each.get_text() for each in one.axes[0].get_xticklabels()
    ]
    np.testing.assert_array_equal(
        one.axes[0].images[0].get_array(), other.axes[0].images[0].get_array()
    )
    assert other.axes[0].images[0].get_clim() == (0, 0.5)


def test_a_comparison_of_large_tensors_has_one_scale() -> None:
    first = torch.randn(9, 600)
    view = compare(first, first * 2)
    assert view.first.figure().axes[0].images[0].get_clim() == (
        view.second.figure().axes[0].images[0].get_clim()
    )


def test_the_console_draws_a_vector() -> None:
    values = console_values(torch.linspace(-1, 1, 500))
    assert values.shape[0] == 2
    assert (values[0, 0], values[0, -1]) == pytest.approx((-1, 1), abs=0.02)


def test_tokens_are_coloured_by_the_numbers_that_they_have() -> None:
    view = tokens_view(
        TokenStrip(["a", "b", "c"], numbers={"norm": [0, 5, 10], "sign": [-1, 0, 2]})
    )
    assert view.coloured == "norm"
    assert "by'>norm, 0 to 10<" in view.still()
    assert "class='t m s31'" in view.still()
    view.coloured = "sign"
    assert "by'>sign, -2 to 2<" in view.still()
    assert "class='t m d31'" in view.still()
    assert tokens_view(TokenStrip(["a"], kl=[0.3], numbers={"norm": [1]})).coloured == "KL"


def test_tokens_without_numbers_have_one_tint() -> None:
    still = tokens_view(TokenStrip(list("abcdef"))).still()
    assert len({part.split("'")[0] for part in still.split("style='background:")[1:]}) == 1
