"""The views' colours, written once: this is their place.

`make palette` writes them into the front end's `widgets/src/core/palette.ts`, and a test fails
where the two differ.
"""

from __future__ import annotations

# A scale's colours from its lower end to its upper, as `rrggbb`, for light and for dark ground.
# Blue against orange, through the ground's own colour in the middle: small is quiet. People with
# colour blindness can read it.
LIGHT = {
    "diverging": ("08306b", "2a6fbb", "86b8e3", "f7f7f5", "f2b380", "d3621b", "7a2a02"),
    "sequential": ("f7f7f5", "c3ddf2", "7fb2e0", "3a7fc4", "174a92", "081f4d"),
    "grey": ("ffffff", "111111"),
}
DARK = {
    "diverging": ("cfe6ff", "6fb0f2", "2a63ad", "17191e", "ad4f12", "f0944d", "ffe3c9"),
    "sequential": ("17191e", "1b3763", "2a63ad", "5b9de6", "a9d3ff", "f2f9ff"),
    "grey": ("111111", "ffffff"),
}
# NaN, ∞ and −∞, as red, green and blue of 0 to 255: on no scale, and readable on both grounds.
NAN, PLUS, MINUS = (217, 70, 176), (92, 184, 46), (28, 122, 92)
