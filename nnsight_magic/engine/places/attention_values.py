"""What attention computes on its way, by name: `layers[3].attn.q`, `.scores`, `.result`.

In the order in which it is computed: `q`, `k`, `v`; `q_rot` and `k_rot` behind the rotary
embedding; `scores`, `pattern`; `z`, `result`.
"""

from __future__ import annotations

from typing import Any

from nnsight_magic.engine.places.heads import attends, head_layout
from nnsight_magic.engine.places.named_part import NamedPart, called, named_part
from nnsight_magic.engine.places.pattern import pattern_of
from nnsight_magic.engine.places.projections import inner_attention, no_attention, projection
from nnsight_magic.engine.running.head_counts import head_count
from nnsight_magic.engine.sites.site import BOTH, K_ROT, Q_ROT, SCORES
from nnsight_magic.errors import NoSuchModuleError


def below(handle: Any, path: str) -> Any:
    """The place of a module below a handle, by its real path."""
    for part in path.split(".") if path else ():
        handle = handle._child(part)
    return handle


def _of_projection(handle: Any, name: str) -> NamedPart:
    found = projection(handle, name)
    return NamedPart(
        handle, name, below(handle, found.path), "output", found.layout(called(handle, name))
    )


def _of_heads(handle: Any, name: str) -> NamedPart:
    path, count, size = head_layout(handle)
    from nnsight_magic.engine.values.laid_out import Columns

    layout = Columns(called(handle, name), groups=1, start=0, per=count, size=size)
    return NamedPart(handle, name, below(handle, path), "input", layout)


def _rotated(handle: Any, name: str) -> NamedPart:
    from nnsight_magic.engine.values.laid_out import Rotated

    path, module = inner_attention(handle)
    heads = head_count(module, handle._model._root) if attends(handle) else None
    if heads is None or not _multiplies(handle):
        raise no_attention(handle)
    if not has_rotary(handle, path):
        raise NoSuchModuleError(
            f"{handle.name} ({type(module).__name__}) has no rotary embedding, so it has no {name}."
            f"\nWhat is multiplied is {called(handle, name[0])}."
        )
    own = heads if name == "q_rot" else _heads_of_keys(handle, module, heads)
    in_turn = type(module).__name__ == "JetMoeAttention" and name == "k_rot"
    layout = Rotated(called(handle, name), heads=own, in_turn=in_turn)
    site = Q_ROT if name == "q_rot" else K_ROT
    return NamedPart(handle, name, below(handle, path), "output", layout, site)


def _multiplies(handle: Any) -> bool:
    """Whether it has queries or keys: linear attention has none that would meet."""
    for name in "qk":
        try:
            return bool(projection(handle, name))
        except NoSuchModuleError:
            pass
    return False


def _heads_of_keys(handle: Any, module: Any, heads: int) -> int:
    try:
        return projection(handle, "k").heads
    except NoSuchModuleError:
        return heads // getattr(module, "num_key_value_groups", 1)


def has_rotary(handle: Any, inner: str) -> bool:
    """Whether an attention turns its queries and keys by their position.

    It has a rotary embedding itself, or a module that it lies in has one, which gives the turns
    to all blocks. Some models leave it out in some blocks, and say so.
    """
    modules = [*handle.ancestors()]
    for part in inner.split(".") if inner else ():
        modules.append(modules[-1]._modules[part])
    module = modules[-1]
    config = getattr(module, "config", None)
    if getattr(module, "use_rope", True) is False or getattr(config, "alibi", False) is True:
        return False
    own = [*vars(module), *module._modules, *module._buffers]
    if any(name.startswith("rotary") for name in own if getattr(module, name, None) is not None):
        return True
    return any(
        "rotary" in type(child).__name__.lower()
        for each in modules
        for child in each._modules.values()
    )


def _scores(handle: Any, name: str) -> NamedPart:
    attention = pattern_of(handle)  # which says where the softmax is
    return NamedPart(handle, name, attention, "output", None, SCORES)


def _result(handle: Any, name: str) -> NamedPart:
    return result_of(handle)


def result_of(handle: Any, head: int | None = None) -> NamedPart:
    """The place of what the heads of an attention add, or of what one of them does.

    Raises:
        NoSuchModuleError: it has no output projection that heads have columns of.
    """
    from nnsight_magic.engine.values.head_results import HeadResults

    path, count, _ = head_layout(handle)
    place = below(handle, path)
    name = "result" if head is None else f"heads[{head}].result"
    projecting = place.ancestors()[-1]
    layout = HeadResults(called(handle, name), module=projecting, heads=count, head=head)
    return NamedPart(handle, name, place, "output", layout, BOTH)


Q = named_part(
    "q",
    _of_projection,
    """Of an attention module: the queries by head, `(batch, tokens, heads, size)`.

    What enters the rotary embedding, or the scores where there is none: behind the projection and
    its bias, and behind the norm of queries where the architecture has one.

    Raises:
        NoSuchModuleError: the module is no attention module, or has no such place.
    """,
)
K = named_part(
    "k",
    _of_projection,
    """Of an attention module: the keys by their own heads, `(batch, tokens, heads, size)`.

    Several query heads may share one. As `q`, they are before the rotary embedding.

    Raises:
        NoSuchModuleError: the module is no attention module, or has no such place.
    """,
)
V = named_part(
    "v",
    _of_projection,
    """Of an attention module: the values by their own heads, `(batch, tokens, heads, size)`.

    Raises:
        NoSuchModuleError: the module is no attention module, or has no such place.
    """,
)
Z = named_part(
    "z",
    _of_heads,
    """Of an attention module: what each head gives, `(batch, tokens, heads, size)`.

    It is what enters the output projection; `heads[j]` is that of head j.

    Raises:
        NoSuchModuleError: the module is no attention module, or has no such place.
    """,
)

Q_ROTATED = named_part(
    "q_rot",
    _rotated,
    """Of an attention module: the queries that the scores are made of, behind the rotary embedding.

    `(batch, tokens, heads, size)`. What comes between the rotary embedding and the scores is in
    it, such as the norm that Llama-4 has there.

    Raises:
        NoSuchModuleError: the module is no attention module, or has no rotary embedding.
    """,
)
K_ROTATED = named_part(
    "k_rot",
    _rotated,
    """Of an attention module: the keys that queries meet, behind the rotary embedding, by their own
    heads.

    `(batch, tokens, heads, size)`. At a later step of a generation the keys of all tokens so far,
    as in the columns of the pattern; what is written there is that step's alone.

    Raises:
        NoSuchModuleError: the module is no attention module, or has no rotary embedding.
    """,
)
ATTENTION_SCORES = named_part(
    "scores",
    _scores,
    """Of an attention module: what the softmax is taken of, `(batch, heads, tokens, tokens)`.

    Queries times keys, with everything that happens to them before the softmax: the scale, a cap,
    a bias by position, the mask (where it hides a token the score is -inf, or very small).

    Raises:
        NoSuchModuleError: the module is no attention module.
    """,
)
RESULT = named_part(
    "result",
    _result,
    """Of an attention module: what each head adds, `(batch, tokens, heads, hidden)`.

    `z` of the head times its part of the output projection's weight. All of them, and the
    projection's bias, sum up to what the projection gives. `heads[j].result` is that of one head
    alone, and less to compute.

    Raises:
        NoSuchModuleError: the module has no heads that this package knows.
        WrongValueError: the projection's weight is not at hand: it is quantised or adapted.
    """,
)
# Those that an edit can write: what modules give and take, and no operation inside one.
PARTS = {"q": Q, "k": K, "v": V, "z": Z}


def part_of(handle: Any, kind: str) -> NamedPart | None:
    """The place of a value that an edit calls so; `None` for an output or input.

    Raises:
        NoSuchModuleError: the module has no such value.
    """
    return PARTS[kind].find(handle, kind) if kind in PARTS else None
