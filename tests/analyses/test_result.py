"""Numbers with named axes, and their forms."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from nnsight_magic import analyses
from nnsight_magic.analyses import Along, Result, with_axes
from nnsight_magic.errors import BadInputError

TOKENS = ["The", " Eiff", "el"]
VALUES = np.array([[0.0, 0.5, -2.0], [1.0, np.nan, 0.25]])


@pytest.fixture
def effect():
    along = [Along("layer", [3, 4]), Along("position", range(3), TOKENS)]
    return with_axes(VALUES, along, "effect", {"metric": "logit difference"})


def test_it_stays_a_result_through_what_xarray_does(effect):
    assert isinstance(effect.sel(layer=4).max("position"), Result)
    assert float(effect.sel(layer=4).max()) == 1.0
    assert effect.to_pandas().shape == (2, 3)
    assert effect.dtype == np.float32


def test_the_words_of_an_axis_go_with_it(effect):
    picked = effect.sel(layer=3).isel(position=[2, 1])
    assert picked["position_text"].values.tolist() == ["el", " Eiff"]
    assert picked.text().splitlines()[1] == "position 2 'el'     -2"


def test_the_largest_points_are_told_in_words_the_farthest_from_0_first(effect):
    lines = effect.text().splitlines()
    assert lines[0] == "logit difference (layer 2, position 3)"
    assert [line.split("  ")[0] for line in lines[1:3]] == [
        "layer 3, position 2 'el'",
        "layer 4, position 0 'The'",
    ]
    assert len(lines) == 6  # NaN is no point
    assert repr(effect) == effect.text()


def test_of_log_probabilities_the_likeliest_are_told():
    found = with_axes([-3.0, -0.5, -9.0], [Along("layer", range(3))], "logprob")
    assert found.text().splitlines()[1].split() == ["layer", "1", "-0.5"]


def test_numbers_along_one_axis_are_bars_in_a_terminal(monkeypatch):
    from nnsight_magic import terminal

    monkeypatch.setattr(terminal, "in_terminal", lambda: True)
    found = with_axes([1.0, -2.0, 0.5], [Along("part", ["embed", "attn 0", "mlp 0"])], "dla")
    lines = found.text().splitlines()
    assert [line.split()[-2] for line in lines[1:4]] == ["1", "-2", "0.5"]
    assert [line.split()[-1].count("█") for line in lines[1:4]] == [20, 40, 10]
    assert lines[4].startswith("part attn 0")  # the largest first


def test_it_is_a_map_of_half_blocks_in_a_terminal(effect, monkeypatch):
    from nnsight_magic import terminal

    monkeypatch.setattr(terminal, "in_terminal", lambda: True)
    large = with_axes(
        np.arange(40.0).reshape(4, 10), [Along("layer", range(4)), Along("head", range(10))], "x"
    )
    assert "▀" in large.text()
    assert "layer ↓  head →" in large.text()


@pytest.mark.parametrize("as_view", [False, True])
def test_log_probabilities_in_a_terminal_have_one_scale_that_ends_at_0(monkeypatch, as_view):
    """Each square's colour is matplotlib's for the same number on that scale."""
    import re

    from matplotlib.colors import ListedColormap, Normalize, to_hex

    from nnsight_magic import terminal
    from nnsight_magic.views.still.colours import scale

    monkeypatch.setattr(terminal, "in_terminal", lambda: True)
    monkeypatch.setenv("COLORTERM", "truecolor")
    values = -np.linspace(0.5, 12, 20).reshape(2, 10)[:, ::-1]
    found = with_axes(values, [Along("row", range(2)), Along("position", range(10))], "logprob")
    shown = found.view().on_terminal() if as_view else found.text()
    assert "-12 " in shown and " 0\n" in re.sub(r"\x1b\[[0-9;]*m", "", shown)
    squares = re.findall(r"38;2;(\d+);(\d+);(\d+);48;2;[\d;]+m(▀+)", shown)
    colours = [f"#{int(r):02x}{int(g):02x}{int(b):02x}" for r, g, b, run in squares for _ in run]
    share = Normalize(-12, 0)(values[0])
    ours = ListedColormap(scale("sequential") / 255)
    upper = [to_hex(ours(int(each * 255 + 0.5))) for each in share]
    assert [colours[k] for k in range(0, 40, 4)] == upper


def test_the_heat_map_is_a_tensor_view_with_the_labels_of_the_axes(effect):
    view = effect.view().map
    assert [axis["role"] for axis in view.axes] == ["layer", "position"]
    assert view.axes[0]["labels"] == ("3", "4") or list(view.axes[0]["labels"]) == ["3", "4"]
    assert list(view.axes[1]["labels"]) == ["0 The", "1 ·Eiff", "2 el"]
    assert np.array_equal(view.array.tensor.numpy(), VALUES.astype(np.float32), equal_nan=True)


def test_a_figure_has_labelled_axes_and_is_of_vectors(effect, tmp_path):
    figure = effect.figure()
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("position", "layer")
    assert [each.get_text() for each in axes.get_xticklabels()] == ["0 The", "1 ·Eiff", "2 el"]
    figure.savefig(tmp_path / "effect.svg")
    assert "logit difference" in (tmp_path / "effect.svg").read_text()
    assert (tmp_path / "effect.svg").stat().st_size > 1000


def test_bfloat16_becomes_float32_and_integers_stay():
    along = [Along("layer", [0, 1])]
    assert with_axes(torch.tensor([1, 2]).bfloat16(), along, "x").dtype == np.float32
    assert with_axes(torch.tensor([1, 2]), along, "x").dtype == np.int64


def test_axes_that_do_not_fit_are_refused():
    with pytest.raises(BadInputError, match=r"shape \(2,\) for the axes layer 3"):
        with_axes([1.0, 2.0], [Along("layer", range(3))], "x")
    with pytest.raises(BadInputError, match="2 places and 1 words"):
        Along("position", [0, 1], ["one"])


def test_xarray_is_imported_with_the_first_analysis_alone():
    code = (
        "import sys, nnsight_magic.analyses as a; from IPython.testing.globalipapp import "
        "start_ipython; ip = start_ipython(); ip.run_line_magic('load_ext', 'nnsight_magic'); "
        "print(); print('xarray' in sys.modules); a.Result; print('xarray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split()[-2:] == ["False", "True"], done.stderr


def test_every_name_is_at_home_and_no_file_is_called_as_a_function():
    from pathlib import Path

    for name in dir(analyses):
        assert getattr(analyses, name) is not None
    files = {path.stem for path in Path(str(analyses.__file__)).parent.glob("*.py")}
    assert not files & set(dir(analyses))


def test_a_map_that_fills_is_coloured_by_what_it_has_now() -> None:
    along = [Along("layer", [0, 1]), Along("head", [0, 1])]
    first, more, last = (
        with_axes(values, along, "logprob")
        for values in (
            [[-0.5, float("nan")], [float("nan")] * 2],
            [[-0.5, -3.0], [-1.0, float("nan")]],
            [[-0.5, -3.0], [-1.0, 2.0]],
        )
    )
    whole = first.view()
    view = whole.map
    assert view.limits == [-0.5, 0]
    more.refill(whole, first)
    assert (view.limits, view.palette) == ([-3, 0], "sequential")
    last.refill(whole, more)
    assert (view.limits, view.palette) == ([], "auto")
    assert view.stats["max"] == 2
    view.limits = [-1, 1]  # the user's
    last.refill(whole, last)
    assert view.limits == [-1, 1]
