"""Values with a name of their own that attention and norms have: `layers[3].attn.q`.

Which of them a model has is asked of its module tree, so a cell that names one in vain is told
before anything runs.
"""

from __future__ import annotations

from typing import Any

# Each with the line that completion shows.
PARTS: dict[str, str] = {
    "q": "queries by head, (batch, tokens, heads, size)",
    "k": "keys by their own heads, (batch, tokens, heads, size)",
    "v": "values by their own heads, (batch, tokens, heads, size)",
    "q_rot": "queries behind the rotary embedding, (batch, tokens, heads, size)",
    "k_rot": "keys behind the rotary embedding, (batch, tokens, heads, size)",
    "scores": "what the softmax is taken of, (batch, heads, tokens, tokens)",
    "result": "what each head adds, (batch, tokens, heads, hidden)",
    "scale": "what a norm multiplies a token by, (batch, tokens, 1)",
    "z": "what each head gives, (batch, tokens, heads, size)",
}


def is_part(handle: Any, name: str) -> bool:
    """Whether `handle.name` means such a value, and no child of the model that is called so."""
    from nnsight_magic.engine.places.named_part import named_on  # brings torch

    return name in PARTS and named_on(handle, name) is not None


def why_not(handle: Any, name: str) -> str | None:
    """What to say where a handle has no such value; `None` where it has."""
    from nnsight_magic.engine.places.named_part import named_on

    found = named_on(handle, name)
    error = None if found is None else found.refusal(handle)
    return None if error is None else error.message


def parts_of(handle: Any) -> dict[str, str]:
    """The names that a handle has, each with its line."""
    return {n: s for n, s in PARTS.items() if is_part(handle, n) and why_not(handle, n) is None}


def place_of_part(handle: Any, name: str) -> Any:
    """The place of such a value; `None` where a handle has none, or something else of that name."""
    from nnsight_magic.engine.places.named_part import named_on

    found = named_on(handle, name) if name in PARTS else None
    return None if found is None or not found.has(handle) else found.find(handle, name)
