"""The attribute in which a result remembers how it was measured; see `recipe`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

RECIPE = "cell"
# Of a sweep in Python: its function may be anything.
NO_CELL = json.dumps({
    "no": "a function in Python measured it; call it in a trace: with model.trace(prompt): …"
})  # fmt: skip


def with_trailing(attrs: Mapping[str, Any], axes: Sequence[str]) -> dict[str, Any]:
    """Attributes whose recipe says which axes a point's own value has, in their order."""
    if RECIPE not in attrs:
        return {**attrs}
    return {**attrs, RECIPE: json.dumps({**json.loads(attrs[RECIPE]), "trailing": list(axes)})}
