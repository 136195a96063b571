"""Thirty tensors drawn live, still, as figures, exported and in the console, each read back into
numbers and held against the tensor in matplotlib's colours at the same limits."""

from __future__ import annotations

import base64
import functools
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from PIL import Image

from nnsight_magic.views.data.pooling import numbers
from nnsight_magic.views.data.seen import colouring_of, cut_of
from nnsight_magic.views.data.tensor import STORED
from nnsight_magic.views.data.words import number
from nnsight_magic.views.still.colours import scale
from nnsight_magic.views.still.palette import MINUS, NAN, PLUS
from nnsight_magic.views.still.picture import picture
from tests.browser.thirty import Live, live, live_of, views_of_thirty
from tests.views.pictures import console_values, figure_pixels, values_of
from tests.views.tensors import TENSORS

# A picture of codes has half of its levels evenly on a logarithmic scale, half by rank.
CODED, EXACT = 0.04, 0.012  # of the span of the limits


@dataclass
class Shown:
    """A tensor with its viewer and what the page made of it."""

    tensor: Any
    view: Any
    live: Live
    exported: np.ndarray


@pytest.fixture(scope="module")
def shown(browser: Any) -> dict[str, Shown]:
    thirty = views_of_thirty()
    with live(browser, [view for _, view in thirty.values()]) as page:
        return {
            name: Shown(tensor, view, live_of(page, place), exported(page, place))
            for place, (name, (tensor, view)) in enumerate(thirty.items())
        }


# What an export hands to the browser to be saved; saving it takes Chromium seconds.
SAVED = """place => new Promise(done => {
    const made = URL.createObjectURL;
    const click = HTMLAnchorElement.prototype.click;
    HTMLAnchorElement.prototype.click = () => {};
    URL.createObjectURL = blob => {
        URL.createObjectURL = made;
        HTMLAnchorElement.prototype.click = click;
        const reader = new FileReader();
        reader.onload = () => done(reader.result.split(',')[1]);
        reader.readAsDataURL(blob);
        return made(blob);
    };
    const view = document.getElementById(`view${place}`);
    view.querySelector('.nnv-menu > button').click();
    setTimeout(() => view.querySelector('[role=menuitem]').click(), 20);
})"""


def exported(page: Any, place: int) -> np.ndarray:
    """The picture that the export makes."""
    data = base64.b64decode(page.evaluate(SAVED, place))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@functools.cache
def plane_of(view: Any) -> np.ndarray:
    """What is drawn, value by value, float64."""
    place = cut_of(view.seen)
    return numbers(view.array.slice(place.drawn, place.index, place.part)).astype(np.float64)


def holds(
    values: np.ndarray,
    plane: np.ndarray,
    limits: Any,
    palette: str,
    tol: float,
    extent: tuple[int, int] | None = None,
    blocks: tuple[int, ...] | None = None,
) -> None:
    """Each pixel shows a value of its neighbourhood, and none that stands out less than its own.

    `values` are the pixels' in matplotlib's colours. Where pixels are fewer than values each is
    one of a block, whose values lie within two pixels. `extent` is how many values down and across
    they cover, where the last block is wider than the plane, and `blocks` how many the picture has,
    where that is not as many as its pixels.
    """
    low, high = limits
    span = high / 4 - low / 4
    two = palette == "diverging"
    seen, whole = (np.clip(each, low, high) / 4 for each in (values, plane))
    seen, whole = (np.where(np.isnan(each), np.inf, each) for each in (seen, whole))
    marked = ~np.isfinite(plane)
    weight = np.abs(whole) if two else whole
    weight = np.where(marked, np.inf, weight)
    around = _around(values.shape, plane.shape, extent or plane.shape)
    least = np.min([weight[at] for at in around], axis=0)
    shown = np.where(np.isfinite(values), np.abs(seen) if two else seen, np.inf)
    # The last row and column of pixels belong to the last block, be it of a single value.
    shown[-1], shown[:, -1] = shown[-2:].max(0), shown[:, -2:].max(1)
    assert (shown >= least - tol * span).all(), _worst(least - shown, "is not drawn")
    # A small plane has a block for every value; of a larger one blocks are up to some pixels wide.
    drawn = [min(n, b) for n, b in zip(values.shape, blocks or values.shape, strict=True)]
    pooled = plane.size > STORED or any(m > n for n, m in zip(drawn, plane.shape, strict=True))
    near = [5 * -(-m // n) * pooled for n, m in zip(values.shape, plane.shape, strict=True)]
    for sign in (1, -1):
        most = _most(np.where(marked, np.inf, sign * whole), around, near)
        pixels = np.where(np.isfinite(values), sign * seen, -np.inf)
        assert (pixels <= most + tol * span).all(), _worst(pixels - most, "is drawn and not there")
    for kind in (np.isnan, np.isposinf, np.isneginf):
        assert not kind(values).any() or kind(plane).any()
        assert kind(values).any() == kind(plane).any()


def _worst(excess: np.ndarray, what: str) -> str:
    at = np.unravel_index(excess.argmax(), excess.shape)
    return f"a value {what}: at pixel {at}, by {4 * excess.max():.4g}"


def _around(pixels: tuple[int, ...], plane: tuple[int, ...], extent: tuple[int, ...]) -> list[Any]:
    """The places whose values a pixel may show: where its middle lies between two, either."""
    ways = [
        [
            np.minimum((np.arange(n) + middle) * wide / n, m - 1).astype(int)
            for middle in (0.45, 0.55)
        ]
        for n, m, wide in zip(pixels, plane, extent, strict=True)
    ]
    return [np.ix_(rows, columns) for rows in ways[0] for columns in ways[1]]


def _most(values: np.ndarray, around: list[Any], near: list[int]) -> np.ndarray:
    """The greatest within so many places up, down and to either side of where pixels lie."""
    for axis in (0, 1):
        first, last = around[0][axis].ravel(), around[-1][axis].ravel()
        begins = np.maximum(0, first - near[axis])
        ends = np.minimum(values.shape[axis], last + near[axis] + 1)
        fence = np.pad(values, [(0, 1) if k == axis else (0, 0) for k in (0, 1)], "edge")
        places = np.stack([begins, ends], 1).ravel()
        values = np.maximum.reduceat(fence, places, axis)
        values = values[::2] if axis == 0 else values[:, ::2]
    return values


@pytest.mark.parametrize("name", TENSORS)
def test_live(shown: dict[str, Shown], name: str) -> None:
    one = shown[name]
    limits, palette = colouring_of(one.view.seen, cut_of(one.view.seen))
    assert [_read(end) for end in one.live.ends] == pytest.approx(list(limits), rel=2e-3)
    plane = plane_of(one.view)
    holds(values_of(one.live.pixels, limits, palette), plane, limits, palette, CODED)
    finite = plane[np.isfinite(plane)]
    beyond = bool((finite < limits[0]).any()), bool((finite > limits[1]).any())
    assert one.live.outside == beyond


def _read(text: str) -> float:
    return float(text.replace("−", "-"))


@pytest.mark.parametrize("name", TENSORS)
def test_exported(shown: dict[str, Shown], name: str) -> None:
    """The same pixels as live, with words and a scale around."""
    one = shown[name]
    map_, page = one.live.pixels, one.exported
    height, width = map_.shape[:2]
    starts = np.argwhere((page == map_[0, 0]).all(-1))
    left = next(
        (
            left
            for top, left in starts
            if np.array_equal(page[top : top + height, left : left + width], map_)
        ),
        None,
    )
    assert left is not None
    right = page[:, left + width :]
    assert len(np.unique(right.reshape(-1, 3), axis=0)) > 100, "no scale"


@pytest.mark.parametrize("name", TENSORS)
def test_still(shown: dict[str, Shown], name: str) -> None:
    view = shown[name].view
    still = picture(view.seen)
    assert still is not None
    pixels = np.asarray(Image.open(io.BytesIO(still.png)).convert("RGBA"))[..., :3]
    left, top, width, height = still.plot
    limits, palette = colouring_of(view.seen, cut_of(view.seen))
    values = values_of(pixels[top : top + height, left : left + width], limits, palette)
    blocks = still.drawn.values.shape
    holds(values, plane_of(view), limits, palette, CODED, blocks=blocks)
    assert f"colours from {number(limits[0])} to {number(limits[1])}" in view.still()


@pytest.mark.parametrize("name", TENSORS)
def test_figure(shown: dict[str, Shown], name: str) -> None:
    view = shown[name].view
    limits, palette = colouring_of(view.seen, cut_of(view.seen))
    figure = view.figure()
    values = values_of(figure_pixels(figure), limits, palette)
    left, right, bottom, top = figure.axes[0].images[0].get_extent()
    extent = round(bottom - top), round(right - left)
    holds(values, plane_of(view), limits, palette, CODED, extent)


@pytest.mark.parametrize("name", TENSORS)
def test_console(shown: dict[str, Shown], name: str) -> None:
    one = shown[name]
    if one.tensor.numel() <= 12:
        return  # so few numbers are written out
    values, limits, palette = console_values(one.tensor, scale_too=True)
    shape = [1, *(size for size in one.tensor.shape if size != 1)][-2:]
    plane = numbers(one.tensor.reshape(-1, *shape)[0]).astype(np.float64)
    blocks = [max(1, -(-m // n)) for n, m in zip(values.shape, plane.shape, strict=True)]
    extent = tuple(
        n * block if block > 1 else m
        for n, m, block in zip(values.shape, plane.shape, blocks, strict=True)
    )
    holds(values, plane, limits, palette, 0.06, extent)  # limits are written in three figures


def test_small_planes_are_as_matplotlib_draws_them(shown: dict[str, Shown]) -> None:
    """Where no value is pooled every pixel of the live view has matplotlib's own colour."""
    for name in ("attention of 9 tokens", "a small map", "integers", "NaN and infinities"):
        view, pixels = shown[name].view, shown[name].live.pixels
        (low, high), palette = colouring_of(view.seen, cut_of(view.seen))
        plane = plane_of(view)
        colours = ListedColormap(scale(palette) / 255)
        plain = ScalarMappable(Normalize(low, high), colours).to_rgba(plane, bytes=True)[..., :3]
        for kind, colour in ((np.isnan, NAN), (np.isposinf, PLUS), (np.isneginf, MINUS)):
            plain[kind(plane)] = colour
        at = [
            ((np.arange(n) + 0.5) * m / n).astype(int)
            for n, m in zip(plane.shape, pixels.shape[:2], strict=True)
        ]
        assert np.abs(pixels[np.ix_(*at)].astype(int) - plain).max() <= 12, name
