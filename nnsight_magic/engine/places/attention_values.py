"""What attention computes on its way, by name: `layers[3].attn.q`, `.k`, `.v`, `.z`."""

from __future__ import annotations

from typing import Any

from nnsight_magic.engine.places.heads import head_layout
from nnsight_magic.engine.places.named_part import NamedPart, called, named_part
from nnsight_magic.engine.places.projections import projection


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

# Those that an edit can write: what modules give and take, and no operation inside one.
PARTS = {"q": Q, "k": K, "v": V, "z": Z}


def part_of(handle: Any, kind: str) -> NamedPart | None:
    """The place of a value that an edit calls so; `None` for an output or input.

    Raises:
        NoSuchModuleError: the module has no such value.
    """
    return PARTS[kind].find(handle, kind) if kind in PARTS else None
