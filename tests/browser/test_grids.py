"""Grids of numbers as the page draws them: bars as high as their values, and what is not there."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from nnsight_magic.views import compare
from nnsight_magic.views.still.palette import NAN
from tests.browser.grids import grids
from tests.browser.thirty import Live, live, live_of

GRIDS = grids()
PLACES = {name: place for place, name in enumerate(GRIDS)}


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    both = compare(GRIDS["layer and position"], 2 * GRIDS["layer and position"])
    with live(browser, [*(each.view() for each in GRIDS.values()), both]) as shown:
        yield shown


def seen(page: Any, name: str) -> Live:
    return live_of(page, PLACES[name])


@pytest.mark.parametrize("name", ["parts", "with errors"])
def test_bars_are_as_high_as_their_values(page: Any, name: str) -> None:
    found, values = seen(page, name), GRIDS[name].values
    spread = GRIDS[name].coords.get("standard_error")
    low, high = (float(each.replace("−", "-")) for each in found.ends)
    off = 0 if spread is None else spread.values
    assert low == pytest.approx(min(0, (values - off).min()), rel=2e-3)
    assert high == pytest.approx(max(0, (values + off).max()), rel=2e-3)
    pixels = found.pixels.astype(int)
    height, width = pixels.shape[:2]
    coloured = np.ptp(pixels, axis=-1) > 40
    wide = width / len(values)
    for k, value in enumerate(values):
        # Beside the stroke in the middle.
        column = coloured[:, int((k + 0.5) * wide + max(2, 0.2 * wide))]
        size = abs(value) / (high - low) * height
        assert column.sum() == pytest.approx(size, abs=2.5), k
        zero = high / (high - low) * height
        rows = np.flatnonzero(column)
        if size > 4:
            assert (rows.mean() < zero) == (value > 0)


def test_what_was_not_run_is_neither_loud_nor_a_value(page: Any) -> None:
    canvas = page.locator(f"#view{PLACES['stopped']} canvas.nnv-heat")
    picture = np.asarray(Image.open(io.BytesIO(canvas.screenshot())).convert("RGB"))
    left, top, width, height = (
        round(float(k)) for k in canvas.get_attribute("data-drawn").split(",")
    )
    pixels = picture[top : top + height, left : left + width]
    lower = pixels[pixels.shape[0] * 16 // 30 :].reshape(-1, 3).astype(int)
    assert (np.ptp(lower, axis=1) < 30).all(), "not grey"
    assert 0.03 < (lower.max(1) < 245).mean() < 0.4, "no strokes"
    assert not (pixels.reshape(-1, 3) == NAN).all(1).any()
    expect(page.locator(f"#view{PLACES['stopped']}")).to_contain_text("135 of 270 points were run")
    expect(page.locator(f"#view{PLACES['stopped']}")).to_contain_text("135 not run")


def test_the_third_axis_follows_a_point_of_the_table(page: Any) -> None:
    view = page.locator(f"#view{PLACES['three axes']}")
    row = view.get_by_role("region").get_by_role("row").nth(2)
    words = row.get_by_role("button").inner_text()
    layer = words.split(",")[0].split()[1]
    row.get_by_role("button").click()
    expect(view.get_by_label("place on layer")).to_have_attribute("aria-valuetext", layer)
    expect(row).to_have_class(re.compile("nnv-selected"))


def test_a_difference_has_a_scale_of_its_own(page: Any) -> None:
    ends = page.locator(f"#view{len(GRIDS)}").get_by_label("upper end of the colour scale")
    values = np.abs(GRIDS["layer and position"].values).max()
    shown = [float(each.input_value()) for each in ends.all()]
    assert shown == pytest.approx([2 * values, values], rel=2e-3)
