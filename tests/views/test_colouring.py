"""The rule of the pictures, on the cases that the front end is tested on, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnsight_magic.views.data.colouring import automatic, marks_of, outside, places, standing_out
from nnsight_magic.views.still.layout import plot_size, ticks

CASES = json.loads((Path(__file__).parent / "colouring.json").read_text())


@pytest.mark.parametrize("case", CASES["limits"], ids=lambda case: case["why"])
def test_limits(case: dict[str, Any]) -> None:
    limits, palette = automatic(case["stats"], case["size"])
    assert limits == pytest.approx(tuple(case["limits"]))
    assert palette == case["palette"]


@pytest.mark.parametrize("case", CASES["blocks"], ids=str)
def test_the_end_of_a_block_that_is_drawn(case: dict[str, Any]) -> None:
    low, high, drawn = (np.array([float(case[name])]) for name in ("low", "high", "drawn"))
    found = standing_out(low, high, case["limits"], case["palette"])
    np.testing.assert_array_equal(found, drawn)


@pytest.mark.parametrize("case", CASES["places"], ids=str)
def test_places_on_a_scale(case: dict[str, Any]) -> None:
    assert places(np.array(case["value"]), case["limits"]) == case["place"]


@pytest.mark.parametrize("case", CASES["sizes"], ids=lambda case: case["why"])
def test_sizes_of_plots(case: dict[str, Any]) -> None:
    assert list(plot_size(case["room"], case["tallest"], *case["size"])) == case["plot"]


def test_integers_stand_out_by_their_magnitude_the_least_of_their_type_too() -> None:
    low, high = np.array([-(2**63)]), np.array([2**63 - 1])
    assert standing_out(low, high, (-1, 1), "diverging")[0] in (low[0], high[0])
    low, high = np.array([-128], np.int8), np.array([127], np.int8)
    assert standing_out(low, high, (-1, 1), "diverging") == low


def test_marks_are_those_of_numbers() -> None:
    drawn = np.concatenate([np.linspace(-1, 1, 1001), [np.nan, np.inf]])
    low, usual, high = marks_of(drawn)
    assert (low, high) == pytest.approx((-0.99, 0.99))
    assert usual == pytest.approx(0.5, abs=0.01)
    assert marks_of(np.zeros(3)) == []
    assert outside(drawn, (-1, 0.5)) == (False, True)


def test_ticks_are_whole_places_a_round_step_apart() -> None:
    assert ticks(0, 9, 400, 14) == list(range(9))
    assert ticks(3, 322, 400, 14) == list(range(20, 322, 20))
    assert ticks(0, 1, 18, 14) == [0]
