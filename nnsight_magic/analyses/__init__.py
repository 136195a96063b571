"""Analyses: what people in interpretability do every day, each a plain function of Python.

    from nnsight_magic import analyses

    found = analyses.lens(model, "The Eiffel Tower is in the city of", answer=" Paris")

The magics of the same names read a line and call these. Numbers come back with named axes, as
`Result`, which is an `xarray.DataArray`. Nothing is imported before the first analysis is asked
for: xarray takes half a second.

A file is never called as its function is (`logit_lens.py` has `lens`): importing it would put the
module in the function's place here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnsight_magic.lazy import homes

if TYPE_CHECKING:
    from nnsight_magic.analyses.ablation import ablate as ablate
    from nnsight_magic.analyses.attention_patterns import attention as attention
    from nnsight_magic.analyses.attention_shown import Attention as Attention
    from nnsight_magic.analyses.attribution import attribute as attribute
    from nnsight_magic.analyses.audit_shown import Audit as Audit
    from nnsight_magic.analyses.auditing import audit as audit
    from nnsight_magic.analyses.contrasting import direction as direction
    from nnsight_magic.analyses.direct_attribution import dla as dla
    from nnsight_magic.analyses.directions import BEHIND_FIRST as BEHIND_FIRST
    from nnsight_magic.analyses.directions import Direction as Direction
    from nnsight_magic.analyses.edge_attribution import attribute_edges as attribute_edges
    from nnsight_magic.analyses.lens_fitting import fit_lens as fit_lens
    from nnsight_magic.analyses.lens_maps import LensMap as LensMap
    from nnsight_magic.analyses.lens_maps import load_lens_map as load_lens_map
    from nnsight_magic.analyses.lens_shown import Lens as Lens
    from nnsight_magic.analyses.logit_lens import lens as lens
    from nnsight_magic.analyses.metric import Metric as Metric
    from nnsight_magic.analyses.metric import metric_of as metric_of
    from nnsight_magic.analyses.patching import normalized as normalized
    from nnsight_magic.analyses.patching import patch as patch
    from nnsight_magic.analyses.paths import path_patch as path_patch
    from nnsight_magic.analyses.points import Axis as Axis
    from nnsight_magic.analyses.points import Grid as Grid
    from nnsight_magic.analyses.points import grid as grid
    from nnsight_magic.analyses.probe_shown import Probe as Probe
    from nnsight_magic.analyses.probing import probe as probe
    from nnsight_magic.analyses.ray_executor import on_ray as on_ray
    from nnsight_magic.analyses.result import Along as Along
    from nnsight_magic.analyses.result import Result as Result
    from nnsight_magic.analyses.result import with_axes as with_axes
    from nnsight_magic.analyses.steering import steer as steer
    from nnsight_magic.analyses.steering_shown import Steering as Steering
    from nnsight_magic.analyses.store import Store as Store
    from nnsight_magic.analyses.streaming import stream as stream
    from nnsight_magic.analyses.sweeping import sweep as sweep

# Where each name is at home; `dir(analyses)` lists them.
_HOMES = {
    "BEHIND_FIRST": "directions",
    "Attention": "attention_shown",
    "attention": "attention_patterns",
    "Along": "result",
    "Audit": "audit_shown",
    "Axis": "points",
    "Direction": "directions",
    "Grid": "points",
    "Lens": "lens_shown",
    "LensMap": "lens_maps",
    "Metric": "metric",
    "Probe": "probe_shown",
    "Result": "result",
    "Steering": "steering_shown",
    "Store": "store",
    "ablate": "ablation",
    "attribute": "attribution",
    "attribute_edges": "edge_attribution",
    "audit": "auditing",
    "direction": "contrasting",
    "dla": "direct_attribution",
    "fit_lens": "lens_fitting",
    "grid": "points",
    "lens": "logit_lens",
    "load_lens_map": "lens_maps",
    "metric_of": "metric",
    "normalized": "patching",
    "on_ray": "ray_executor",
    "patch": "patching",
    "path_patch": "paths",
    "probe": "probing",
    "steer": "steering",
    "stream": "streaming",
    "sweep": "sweeping",
    "with_axes": "result",
}
__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


__getattr__ = homes(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
