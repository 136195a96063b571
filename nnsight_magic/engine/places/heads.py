"""One attention head's part of what the attention writes: `layers[3].attn.heads[2]`.

An attention module puts the heads' results side by side and maps them to the residual stream with
its output projection. Head `i` owns the columns `i * size` to `(i + 1) * size` of that
projection's input, so reading or zeroing them reads or removes exactly what the head contributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnsight_magic.engine.running.head_counts import counts_of
from nnsight_magic.errors import NoSuchModuleError

if TYPE_CHECKING:
    from torch import nn  # completion asks for heads before torch is there

# The output projection as architectures call it, relative to the attention module.
PROJECTIONS = (
    "o_proj",
    "out_proj",
    "c_proj",
    "dense",
    "output.dense",
    "wo",
    "o",
    "out_lin",
    "proj",
    "attention.out_proj",
    "Wo",
)
# The size of a head's result, by the module itself.
SIZES = ("v_head_dim", "head_v_dim", "head_dim")


def head_layout(attention: Any) -> tuple[str, int, int]:
    """The output projection's path in an attention module, the number of heads, and their size.

    Args:
        attention: a handle.

    Raises:
        NoSuchModuleError: the module has no such projection, or no number of heads is known.
    """
    module = attention.module
    for path in PROJECTIONS if attends(attention) else ():  # MLPs have a `c_proj` or a `wo` too
        projection = _at(module, path)
        width = _width(projection)
        if width is not None:
            count = _count(module, attention._model._root, width)
            if count is not None:
                return path, count, width // count
    raise NoSuchModuleError(
        f"{attention.name or 'The model'} ({type(module).__name__}) is no attention module with "
        "heads that this package knows.\n"
        "Use the attention of a block, such as layers[3].attn; the heads' results stand side by "
        "side in the input of an output projection."
    )


def attends(attention: Any) -> bool:
    """Whether a module goes by the name of attention."""
    return "att" in type(attention.module).__name__.lower() or attention.name.endswith(".attn")


def has_heads(handle: Any) -> bool:
    """Whether `head_layout` finds heads in a module."""
    try:
        head_layout(handle)
    except NoSuchModuleError:
        return False
    return True


def _at(module: nn.Module, path: str) -> nn.Module | None:
    found: nn.Module | None = module
    for part in path.split("."):
        found = found._modules.get(part)
        if found is None:
            return None
    return found


def _width(projection: nn.Module | None) -> int | None:
    """The number of input features: of a `Linear`, or of GPT-2's transposed `Conv1D`."""
    wide: Any = projection
    if hasattr(wide, "in_features"):
        return wide.in_features
    weight = getattr(projection, "weight", None)
    return weight.shape[0] if weight is not None and hasattr(projection, "nf") else None


def _count(module: nn.Module, root: nn.Module, width: int) -> int | None:
    """How many heads there are side by side in `width` columns.

    The module's own numbers go before those of a configuration, which speaks of the model's usual
    attention: in a hybrid, a linear attention has heads of another number.
    """
    inner = [module, *module._modules.values()]
    own = {getattr(place, name, None) for place in inner for name in SIZES}
    sizes = {size for size in own if isinstance(size, int) and size > 0}
    for count in counts_of(module, root):
        if width % count == 0 and (not sizes or width // count in sizes):
            return count
    return None
