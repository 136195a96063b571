"""Points of a grid: their rank, their words, their view, what a page may ask of it; bars."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nnsight_magic.errors import BadInputError
from nnsight_magic.views import PointsView, show
from nnsight_magic.views.data.bars import barred, reach_of
from nnsight_magic.views.data.points import Along, Points
from nnsight_magic.views.still.picture import NAN, picture
from tests.views.every_kind import Asked

CASES = json.loads((Path(__file__).parent / "bars.json").read_text())
VALUES = np.array([[0.5, -2.0, np.nan], [1.0, 0.25, -1.0]])


def points(values=VALUES, **more):
    axes = [Along("layer", [3, 20]), Along("position", range(3), ["The", " Eiff", "el"])]
    return Points(axes, values, np.abs(values), **more)


def view(opener=None, **state):
    drawn = show(VALUES, "effect", axes=("layer", "position"), **state)
    return PointsView(drawn, points(note="baseline 1"), opener)


def test_points_come_by_their_size_and_what_is_nan_does_not():
    assert points().ranked() == [(0, 1), (1, 0), (1, 2), (0, 0), (1, 1)]
    assert list(points().told(2)) == [
        ("layer 3, position 1 ' Eiff'", "-2"),
        ("layer 20, position 0 'The'", "1"),
    ]
    assert points(errors=np.full((2, 3), 0.125)).number_at((0, 1)) == "-2 ± 0.125"


def test_the_table_stands_in_every_form():
    shown = view(cell=[0, 1])
    words = "layer 3, position 1 &#x27; Eiff&#x27;"
    assert f"<b>{words}</b>" in shown.still() and "█" in shown.still()
    lines = shown.text().splitlines()
    assert lines[:2] == ["effect (layer 2, position 3)", "baseline 1"]
    assert lines[2].split("  ") == ["layer 3, position 1 ' Eiff'", " -2"]
    packed = points().packed()
    assert packed["ranked"][0] == [0, 1] and (packed["known"], packed["count"]) == (5, 6)


def test_a_view_follows_further_values():
    shown = view()
    more = VALUES.copy()
    more[0, 2] = 7
    before = shown.packed
    shown.refill(torch.from_numpy(more), points(more))
    assert shown.packed != before and shown.map.stats["max"] == 7
    shown.cell = [1, 2]
    assert shown.map.cell == [1, 2]
    with pytest.raises(BadInputError, match="no point"):
        shown.cell = [2, 0]
    with pytest.raises(BadInputError, match="A map of"):
        PointsView(show(VALUES[0]), points())


@pytest.mark.parametrize("at", [None, [1], [2, 0], [-1, 0], ["0", 1], [True, 0], [0.0, 1], {}])
def test_what_a_page_asks_for_is_checked(at):
    shown = view(Asked())
    for what in ("cell", "open"):
        with pytest.raises(BadInputError, match="There is no point"):
            shown.answers[what]({"at": at})
    assert shown.opened == []


def test_a_point_is_opened_and_written_as_a_cell():
    shown = view(Asked())
    assert shown.answers["cell"]({"at": [1, 0]})[0] == {"text": "%%trace [1, 0]"}
    shown.answers["open"]({"at": [1, 0]})
    assert shown.of == [1, 0] and shown.opened[0].selection is shown.selection
    with pytest.raises(BadInputError, match="nothing says where from"):
        view().answers["cell"]({"at": [1, 0]})


def test_what_was_not_run_is_empty_and_said_so():
    loud, quiet = show(VALUES, "effect"), show(VALUES, "effect", empty="not run")
    assert NAN in colours(loud) and NAN not in colours(quiet)
    assert "1 not run" in quiet.still() and "1 NaN" in loud.still()
    figure = quiet.figure()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not run"]


def colours(shown):
    """The colours of a still picture that are not transparent."""
    import io

    from PIL import Image

    still = picture(shown.seen)
    pixels = np.asarray(Image.open(io.BytesIO(still.png)).convert("RGBA")).reshape(-1, 4)
    return {tuple(each[:3].tolist()) for each in pixels[pixels[:, 3] == 255]}


@pytest.mark.parametrize("case", CASES["reach"])
def test_bars_reach_from_0_on_or_as_was_chosen(case):
    assert list(reach_of(case["stats"], case["limits"])) == case["ends"]


@pytest.mark.parametrize("case", CASES["barred"])
def test_bars_are_drawn_of_one_axis_with_few_places(case):
    assert barred(case["drawn"], case["size"]) == case["bars"]


def test_the_bars_of_a_still_are_as_high_as_their_values():
    import io

    from PIL import Image

    values = torch.tensor([1.0, -0.5, 0.25, 0.0])
    still = picture(show(values, "row").seen)
    left, top, width, height = still.plot
    pixels = np.asarray(Image.open(io.BytesIO(still.png)).convert("RGBA"))
    plot = pixels[top : top + height, left : left + width]
    filled = (plot[..., 3] == 255) & (np.ptp(plot[..., :3].astype(int), axis=-1) > 40)
    for k, value in enumerate(values):
        column = filled[:, round((k + 0.5) * width / 4)]
        assert column.sum() / height == pytest.approx(abs(float(value)) / 1.5, abs=0.03)
    zero = height / 1.5
    assert filled[: int(zero) - 2, int(0.5 * width / 4)].any()
    assert filled[int(zero) + 2 :, int(1.5 * width / 4)].any()


def test_the_bars_of_a_figure_are_the_values_with_their_errors():
    figure = show(torch.tensor([1.0, -0.5]), "row", spread=[0.25, 0.5]).figure()
    bars = [patch.get_height() for patch in figure.axes[0].patches]
    assert bars == pytest.approx([1.0, -0.5])
    (whiskers,) = figure.axes[0].collections
    ends = [segment[:, 1].tolist() for segment in whiskers.get_segments()]
    assert ends == [pytest.approx([0.75, 1.25]), pytest.approx([-1.0, 0.0])]
