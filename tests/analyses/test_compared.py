"""Two results of the same axes: three maps, their scales, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from nnsight_magic.analyses import Along, with_axes
from nnsight_magic.errors import BadInputError
from nnsight_magic.views import CompareView, PointsView, compare, show

VALUES = np.array([[0.5, -2.0, 1.0], [1.0, 0.25, -1.0]])
TOKENS = ["The", " Eiff", "el"]


def result(values=VALUES, name="effect", words=TOKENS, layers=(3, 20), **attrs):
    along = [Along("layer", list(layers)), Along("position", range(3), words)]
    return with_axes(values, along, name, {"metric": "logit difference", **attrs})


def test_both_and_their_difference_stand_side_by_side():
    view = compare(result(how="zero"), result(VALUES * 2, how="mean"))
    assert isinstance(view, CompareView)
    assert (view.first.title, view.second.title) == ("zero", "mean")
    assert view.title == "logit difference"
    assert view.first.scale == view.second.scale == {"min": -4.0, "max": 2.0}
    assert view.difference.scale == {"min": -2.0, "max": 2.0}
    assert np.array_equal(view.difference.array.tensor.numpy(), VALUES)
    assert list(view.difference.axes[1]["labels"]) == ["0 The", "1 ·Eiff", "2 el"]
    lines = view.text().splitlines()
    assert lines[1].split() == ["zero", "mean", "difference"]
    assert lines[2].split() == ["layer", "3,", "position", "1", "'", "Eiff'", "-2", "-4", "-2"]
    assert "<td class='n'>-4</td>" in view.still()


def test_the_difference_goes_as_far_to_both_sides_where_it_has_one_sign():
    view = compare(result(), result(VALUES + 3))
    assert view.difference.scale == {"min": -3.0, "max": 3.0}


def test_log_probabilities_keep_one_scale_that_ends_at_0():
    view = compare(result(-np.abs(VALUES)), result(-np.abs(VALUES) - 1))
    assert view.first.limits == [-3.0, 0.0]
    assert view.first.palette == "sequential"


def test_show_takes_one_result_or_two():
    assert isinstance(show(result()), PointsView)
    assert show(result(), "mine").title == "mine"
    assert isinstance(show(result(), result(VALUES * 2)), CompareView)
    assert show(VALUES, "numbers").title == "numbers"


def test_tokens_that_differ_are_both_named():
    view = compare(result(), result(words=["The", " Col", "el"]))
    assert list(view.first.axes[1]["labels"]) == ["0 The", "1 ·Eiff/·Col", "2 el"]


def test_where_one_has_no_number_neither_has_the_difference():
    part = VALUES.copy()
    part[1, 2] = np.nan
    first = result(part, points=6, run=5)
    view = compare(first, result())
    assert view.first.empty == view.difference.empty == "not run"
    assert view.points.ranked(9) and (1, 2) not in view.points.ranked(9)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (result().max("position"), "layer 2, position 3 against layer 2"),
        (result().transpose("position", "layer"), "against position 3, layer 2"),
        (result(layers=[3, 4]), r"other places: 3, 20 against 3, 4. .*\.sel\(layer=\[3\]\)"),
        (result(layers=[0, 1]), "none in common"),
        (VALUES, "this is ndarray"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(other, words):
    with pytest.raises(BadInputError, match=words):
        compare(result(), other)
    with pytest.raises(BadInputError):
        compare(other, result())
