"""The views' scales as matplotlib's colour maps, by name: `cmap="nnsight_magic.diverging"`.

Importing this file imports matplotlib and registers them; nothing that is shown without a figure
needs it.
"""

from __future__ import annotations

import matplotlib
from matplotlib.colors import Colormap, ListedColormap

from nnsight_magic.views.still.colours import scale
from nnsight_magic.views.still.palette import DARK, LIGHT, NAN


def _made(name: str, palette: str, dark: bool) -> Colormap:
    colours = ListedColormap(scale(palette, dark) / 255, name)
    return colours.with_extremes(bad="#{:02x}{:02x}{:02x}".format(*NAN))


# By the name that matplotlib knows each by; those for dark ground end in `_dark`.
COLOUR_MAPS = {
    (name := f"nnsight_magic.{palette}{'_dark' * dark}"): _made(name, palette, dark)
    for dark, scales in ((False, LIGHT), (True, DARK))
    for palette in scales
}
for _map in COLOUR_MAPS.values():
    matplotlib.colormaps.register(_map, force=True)  # again where the file is loaded again
