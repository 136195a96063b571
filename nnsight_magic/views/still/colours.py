"""The colour scales of the live views, for pictures made here."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from nnsight_magic.views.data.colouring import places
from nnsight_magic.views.still.palette import DARK, LIGHT, MINUS, NAN, PLUS

# Linear light to the cones' responses, and their cube roots to Oklab (Ottosson 2020).
_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_OKLAB = np.array(
    [
        [0.2104542553, 0.793617785, -0.0040720468],
        [1.9779984951, -2.428592205, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.808675766],
    ]
)


@functools.cache
def scale(palette: str, dark: bool = False) -> np.ndarray:
    """256 colours, `(256, 3)` bytes, even to the eye between the scale's points."""
    colours = (DARK if dark else LIGHT)[palette]
    points = np.array([[int(c[k : k + 2], 16) for k in (0, 2, 4)] for c in colours])
    even = np.cbrt(_linear(points) @ _CONES.T) @ _OKLAB.T
    at = np.linspace(0, len(points) - 1, 256)
    between = np.stack([np.interp(at, np.arange(len(points)), even[:, c]) for c in range(3)], 1)
    cones = (between @ np.linalg.inv(_OKLAB).T) ** 3
    return _bytes(cones @ np.linalg.inv(_CONES).T)


def _linear(colours: np.ndarray) -> np.ndarray:
    share = colours / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _bytes(light: np.ndarray) -> np.ndarray:
    light = np.clip(light, 0, 1)
    share = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (share * 255).round().astype(np.uint8)


SHADES = 32  # of a scale, as grounds of text


def shade(share: float, palette: str = "sequential") -> tuple[str, str]:
    """The class and the style of a text on a scale, `share` of the way.

    The style is for light ground, and stays where a page's styles are taken out; `shade_rules`
    has the class's colours, on light and on dark ground those of the live view.
    """
    level = int(np.clip(np.nan_to_num(share), 0, 1) * (SHADES - 1) + 0.5)
    ground, ink = _pair(palette, level, dark=False)
    return f"{palette[0]}{level}", f"background:{ground};color:{ink}"


@functools.cache
def shade_rules(palette: str = "sequential") -> str:
    """The classes that `shade` names, for browsers that know `light-dark()`."""
    rules = []
    for level in range(SHADES):
        pairs = (_pair(palette, level, dark) for dark in (False, True))
        (light, ink), (dark, dark_ink) = pairs
        rules.append(
            f".nnv-s .{palette[0]}{level}{{background:light-dark({light},{dark})!important;"
            f"color:light-dark({ink},{dark_ink})!important}}"
        )
    return f"<style>{''.join(rules)}</style>"


def _pair(palette: str, level: int, dark: bool) -> tuple[str, str]:
    """A colour as `#rrggbb`, and black or white, whichever reads better on it."""
    colour = scale(palette, dark)[round(level * 255 / (SHADES - 1))]
    luminance = _linear(colour) @ (0.2126, 0.7152, 0.0722)
    return "#" + "".join(f"{c:02x}" for c in colour), "#000" if luminance > 0.179 else "#fff"


def colours_of(
    values: np.ndarray, limits: Sequence[float], palette: str, dark: bool = False
) -> np.ndarray:
    """The colour of every value, `(…, 3)` bytes: of the scale, or of NaN and infinities."""
    colours = scale(palette, dark)[places(values, limits)]
    for marked, colour in ((np.isnan(values), NAN), (values == np.inf, PLUS)):
        colours[marked] = colour
    colours[values == -np.inf] = MINUS
    return colours
