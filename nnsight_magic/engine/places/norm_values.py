"""What a norm does to each token, by name: `layers[3].input_layernorm.scale`, `norm.scale`."""

from __future__ import annotations

from typing import Any

from nnsight_magic.engine.places.named_part import NamedPart, named_part
from nnsight_magic.engine.sites.site import SCALE
from nnsight_magic.errors import NoSuchModuleError

_OF_BATCHES = ("BatchNorm", "GroupNorm", "InstanceNorm")  # which have no scale of a token's own


def _scale(handle: Any, name: str) -> NamedPart:
    kind = type(handle.ancestors()[-1]).__name__
    if "norm" not in kind.lower() or any(each in kind for each in _OF_BATCHES):
        raise NoSuchModuleError(
            f"{handle.name or 'The model'} ({kind}) is no norm of tokens, so it has no scale.\n"
            "Use the last one, norm.scale, or one of a block: print(layers[3]) shows its modules."
        )
    return NamedPart(handle, name, handle, "output", None, SCALE)


SCALE_OF_NORM = named_part(
    "scale",
    _scale,
    """Of a norm: what it multiplies each token by, `(batch, tokens, 1)`.

    1 / standard deviation for a LayerNorm (behind the subtraction of the mean), 1 / root mean
    square for an RMSNorm, before the norm's weight. In float32 at least.

    Raises:
        NoSuchModuleError: the module is no norm.
        NoSuchOperationError: it computes its scale in no way that is known.
    """,
)
