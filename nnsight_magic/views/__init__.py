"""Views of tensors, modules, tokens and generations, for the notebook and for pages.

Each is usable alone from Python:

    from nnsight_magic.views import show
    show(tensor, "attention", tokens=tokens)

They know values only: tensors, texts and the dataclasses of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnsight_magic.lazy import homes

if TYPE_CHECKING:
    from nnsight_magic.views.data.modules import ModuleNote as ModuleNote
    from nnsight_magic.views.data.modules import ModuleTree as ModuleTree
    from nnsight_magic.views.data.modules import describe as describe
    from nnsight_magic.views.data.strips import Step as Step
    from nnsight_magic.views.data.strips import likeliest as likeliest
    from nnsight_magic.views.live.chart import ChartView as ChartView
    from nnsight_magic.views.live.checks import ChecksView as ChecksView
    from nnsight_magic.views.live.comparison import CompareView as CompareView
    from nnsight_magic.views.live.comparison import compare as compare
    from nnsight_magic.views.live.heads import HeadsView as HeadsView
    from nnsight_magic.views.live.points import PointsView as PointsView
    from nnsight_magic.views.live.show import show as show
    from nnsight_magic.views.live.steps import StepsView as StepsView
    from nnsight_magic.views.live.tensor import TensorView as TensorView
    from nnsight_magic.views.live.tokens import GridView as GridView
    from nnsight_magic.views.live.tokens import TokenStrip as TokenStrip
    from nnsight_magic.views.live.tokens import TokensView as TokensView
    from nnsight_magic.views.live.tokens import tokens_view as tokens_view
    from nnsight_magic.views.live.trace import TraceView as TraceView
    from nnsight_magic.views.live.tree import TreeView as TreeView
    from nnsight_magic.views.live.tree import tree_view as tree_view
    from nnsight_magic.views.live.view import Selection as Selection
    from nnsight_magic.views.live.view import View as View
    from nnsight_magic.views.live.written import WrittenView as WrittenView
    from nnsight_magic.views.still.colour_maps import COLOUR_MAPS as COLOUR_MAPS

_HOMES = {
    "COLOUR_MAPS": "still.colour_maps",
    "ChartView": "live.chart",
    "ChecksView": "live.checks",
    "CompareView": "live.comparison",
    "GridView": "live.tokens",
    "HeadsView": "live.heads",
    "ModuleNote": "data.modules",
    "ModuleTree": "data.modules",
    "PointsView": "live.points",
    "Selection": "live.view",
    "Step": "data.strips",
    "StepsView": "live.steps",
    "TensorView": "live.tensor",
    "TokenStrip": "live.tokens",
    "TokensView": "live.tokens",
    "TraceView": "live.trace",
    "TreeView": "live.tree",
    "View": "live.view",
    "WrittenView": "live.written",
    "compare": "live.comparison",
    "describe": "data.modules",
    "likeliest": "data.strips",
    "show": "live.show",
    "tokens_view": "live.tokens",
    "tree_view": "live.tree",
}
__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


__getattr__ = homes(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
