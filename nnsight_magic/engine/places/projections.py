"""Where an attention module has its queries, keys and values, and how heads lie in there.

Most architectures have a projection for each. Others have one for all three, whose columns every
architecture orders in its own way: those are known by the name of the class alone, for a wrong
guess would give numbers that look right. Where a norm follows the projection and comes before the
rotary embedding, what it gives is what counts: `q` is what enters the rotary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from nnsight_magic.engine.places.heads import attends
from nnsight_magic.engine.running.head_counts import head_count
from nnsight_magic.errors import NoSuchModuleError

if TYPE_CHECKING:
    from torch import nn  # completion asks for values before torch is there

    from nnsight_magic.engine.values.laid_out import Layout

INNER = ("self", "attention", "SelfAttention")  # where a module leaves the attention to a part
_SEPARATE = {
    "q": ("q_proj", "query", "q", "q_lin", "wq", "query_proj"),
    "k": ("k_proj", "key", "k", "k_lin", "wk", "key_proj"),
    "v": ("v_proj", "value", "v", "v_lin", "wv", "value_proj"),
}
_NORMS = {
    "q": ("q_norm", "q_layernorm", "query_norm"),
    "k": ("k_norm", "k_layernorm", "key_norm"),
    "v": ("v_norm",),
}
# Whose norms follow the rotary embedding, so that the projection is what enters it.
_NORM_BEHIND_ROTARY = ("NanoChatAttention",)
# Whose norms make a new tensor out of (batch, heads, tokens, size): its strides tell nothing.
_HEADS_FIRST = ("PhiAttention", "StableLmAttention")


class Projection(NamedTuple):
    """Queries, keys or values of an attention: a module below it, and the layout of what it gives.

    Attributes:
        path: relative to the attention.
        layout: makes the layout, given the name that the user writes.
        heads: how many there are.
    """

    path: str
    layout: Callable[[str], Layout]
    heads: int


def projection(attention: Any, name: str) -> Projection:
    """Where an attention has its `"q"`, `"k"` or `"v"`.

    Raises:
        NoSuchModuleError: it is no attention, or has it in no place that is known.
    """
    path, module = inner_attention(attention)
    heads = head_count(module, attention._model._root) if attends(attention) else None
    if heads is None:
        raise no_attention(attention)
    found = (
        _of_norm(module, name, heads)
        or _fused(module, name, heads)
        or _latent(module, name, heads, attention)
        or _separate(module, name, heads)
    )
    if found is None:
        raise NoSuchModuleError(
            f"{attention.name} ({type(module).__name__}) has no {name} in a place that is known.\n"
            f"Its modules: {', '.join(module._modules) or 'none'}. Use their outputs as they are."
        )
    if getattr(module, "clip_qkv", None) is not None or _clips(module):
        raise NoSuchModuleError(
            f"{attention.name} ({type(module).__name__}) clips queries, keys and values behind "
            f"their projection, in no module: {name} stands nowhere as it is used.\n"
            f"Before the clipping: {attention.name}.{found.path}.output."
        )
    return found._replace(path=f"{path}.{found.path}" if path else found.path)


def inner_attention(attention: Any) -> tuple[str, nn.Module]:
    """The module that attends: the handle's own, or a part of it; and its path below it."""
    module, path = attention.ancestors()[-1], []
    while inner := next((name for name in INNER if name in module._modules), None):
        module = module._modules[inner]
        path.append(inner)
    return ".".join(path), module


def no_attention(handle: Any) -> NoSuchModuleError:
    """That a handle is no attention module."""
    return NoSuchModuleError(
        f"{handle.name or 'The model'} ({type(handle.ancestors()[-1]).__name__}) is no attention "
        "module with heads that this package knows.\n"
        "Use the attention of a block, such as layers[3].attn."
    )


def _clips(module: nn.Module) -> bool:
    return getattr(getattr(module, "config", None), "clip_qkv", None) is not None


def _child(module: nn.Module, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if module._modules.get(name) is not None), None)


def _out(module: nn.Module | None) -> int | None:
    """The number of output features: of a `Linear`, or of GPT-2's transposed `Conv1D`."""
    return getattr(module, "out_features", getattr(module, "nf", None))


def _size(module: nn.Module, heads: int, width: int) -> int | None:
    """The size of a head: as the module says, or as its queries are wide."""
    size = getattr(module, "head_dim", None)
    if isinstance(size, int) and size > 0:
        return size
    return None if width % heads else width // heads


def _counted(module: nn.Module, name: str, heads: int) -> tuple[str, int, int] | None:
    """A projection of its own: its path, its number of heads, their size.

    Configurations may say that there are few keys where the architecture has as many as queries,
    so that the widths are asked.
    """
    paths, widths = {}, {}
    for each, names in _SEPARATE.items():
        paths[each] = path = _child(module, names)
        widths[each] = 0 if path is None else _out(module._modules[path]) or 0
    size = _size(module, heads, widths["q"])
    if not (size and all(widths.values())) or widths["k"] % size:
        return None
    if name == "q" and widths["q"] != heads * size:
        return None  # there is more in it, such as a gate
    count = heads if name == "q" else widths["k"] // size
    return None if widths[name] % count else (paths[name], count, widths[name] // count)


def _of_norm(module: nn.Module, name: str, heads: int) -> Projection | None:
    kind = type(module).__name__
    child = _child(module, _NORMS[name])
    if (
        child is None
        or kind in _NORM_BEHIND_ROTARY
        or type(module._modules[child]).__name__ == ("Identity")
    ):
        return None
    count = heads
    if name != "q":  # the norm does not say; the projection that it is of does
        found = _counted(module, name, heads)
        if found is None:
            return None
        count = found[1]
    return Projection(child, _by_head(count, True if kind in _HEADS_FIRST else None), count)


def _by_head(heads: int, swapped: bool | None) -> Callable[[str], Layout]:
    def make(called: str) -> Layout:
        from nnsight_magic.engine.values.laid_out import ByHead

        return ByHead(called, heads=heads, swapped=swapped)

    return make


def _columns(groups: int, start: int, per: int, size: int) -> Callable[[str], Layout]:
    def make(called: str) -> Layout:
        from nnsight_magic.engine.values.laid_out import Columns

        return Columns(called, groups=groups, start=start, per=per, size=size)

    return make


def _separate(module: nn.Module, name: str, heads: int) -> Projection | None:
    found = _counted(module, name, heads)
    if found is None:
        return None
    path, count, size = found
    return Projection(path, _columns(1, 0, count, size), count)


def _latent(module: nn.Module, name: str, heads: int, attention: Any) -> Projection | None:
    """DeepSeek's: keys and values come out of one projection of a latent that all heads share."""
    if "kv_b_proj" not in module._modules:
        return None
    rotary, plain = (
        getattr(module, each, None) for each in ("qk_rope_head_dim", "qk_nope_head_dim")
    )
    value = getattr(module, "v_head_dim", None)
    if not (isinstance(rotary, int) and isinstance(plain, int) and isinstance(value, int)):
        return None
    if name == "q":
        child = _child(module, ("q_b_proj", "q_proj"))
        if child is None:
            return None
        return Projection(child, _columns(1, 0, heads, plain + rotary), heads)
    if name == "v":
        return Projection("kv_b_proj", _columns(heads, plain, 1, value), heads)
    raise NoSuchModuleError(
        f"{attention.name} ({type(module).__name__}) has no keys before the rotary embedding: a "
        "head's key is put together from a part of its own and one that all heads share.\n"
        f"Use {attention.name}.k_rot, what queries meet; or the parts: kv_b_proj.output and the "
        f"last {rotary} columns of kv_a_proj_with_mqa.output."
    )


# ── one projection for all three ─────────────────────────────────────────────────────────


def _fused(module: nn.Module, name: str, heads: int) -> Projection | None:
    known = _FUSED.get(type(module).__name__)
    if known is None or getattr(module, "is_cross_attention", False):
        return None
    child, layout = known
    width = _out(module._modules.get(child))
    found = None if width is None else layout(module, heads, width)
    if found is None or name not in found:
        return None
    groups, start, per, size = found[name]
    return Projection(child, _columns(groups, start, per, size), groups * per)


# Groups, first column in a group, heads in a group, size of a head; by name.
_Columns = dict[str, tuple[int, int, int, int]]


def _one_behind_another(module: nn.Module, heads: int, width: int) -> _Columns | None:
    """All queries, all keys, all values."""
    size = _size(module, heads, width // 3)
    if size is None or width % size or (width // size - heads) % 2:
        return None
    kv = (width // size - heads) // 2
    return {
        "q": (1, 0, heads, size),
        "k": (1, heads * size, kv, size),
        "v": (1, (heads + kv) * size, kv, size),
    }


def _head_by_head(module: nn.Module, heads: int, width: int) -> _Columns | None:
    """Query, key and value of one head after another."""
    size, rest = divmod(width, 3 * heads)
    return None if rest else {n: (heads, i * size, 1, size) for i, n in enumerate("qkv")}


def _of_falcon(module: Any, heads: int, width: int) -> _Columns | None:
    if module.new_decoder_architecture:  # the queries of each key-value head, its key, its value
        groups = module.num_kv_heads
        per = heads // groups
        size = width // (groups * (per + 2))
        return {
            "q": (groups, 0, per, size),
            "k": (groups, per * size, 1, size),
            "v": (groups, (per + 1) * size, 1, size),
        }
    return _of_big_code(module, heads, width)


def _of_codegen(module: Any, heads: int, width: int) -> _Columns | None:
    """As four devices held it: on each the queries, values and keys of a quarter of the heads."""
    groups = 4
    per, rest = divmod(heads, groups)
    if rest:
        return None
    size = width // (3 * heads)
    return {n: (groups, i * per * size, per, size) for i, n in enumerate("qvk")}


def _of_big_code(module: Any, heads: int, width: int) -> _Columns | None:
    """All heads may share one key and one value, behind the queries."""
    if not module.multi_query:
        return _head_by_head(module, heads, width)
    size = width // (heads + 2)
    return {
        "q": (1, 0, heads, size),
        "k": (1, heads * size, 1, size),
        "v": (1, (heads + 1) * size, 1, size),
    }


def _keys_and_values(module: Any, heads: int, width: int) -> _Columns | None:
    """JetMoe's, whose queries come from experts."""
    size = module.head_dim
    kv, rest = divmod(width, 2 * size)
    return None if rest else {"k": (1, 0, kv, size), "v": (1, kv * size, kv, size)}


# The attention's class in transformers: the projection and the order of its columns.
_FUSED: dict[str, tuple[str, Callable[[Any, int, int], _Columns | None]]] = {
    "GPT2Attention": ("c_attn", _one_behind_another),
    "DecisionTransformerGPT2Attention": ("c_attn", _one_behind_another),
    "GPTNeoXAttention": ("query_key_value", _head_by_head),
    "BloomAttention": ("query_key_value", _head_by_head),
    "PersimmonAttention": ("query_key_value", _head_by_head),
    "FalconAttention": ("query_key_value", _of_falcon),
    "Phi3Attention": ("qkv_proj", _one_behind_another),
    "CodeGenAttention": ("qkv_proj", _of_codegen),
    "ModernBertAttention": ("Wqkv", _one_behind_another),
    "MptAttention": ("Wqkv", _one_behind_another),
    "DbrxAttention": ("Wqkv", _one_behind_another),
    "GPTBigCodeAttention": ("c_attn", _of_big_code),
    "JetMoeAttention": ("kv_proj", _keys_and_values),
}
