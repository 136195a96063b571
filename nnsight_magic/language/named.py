"""Which of a module's values with names of their own a cell may ask for: `layers[3].resid_pre`.

The tree alone is looked at, so that a cell can be checked and completed before a model is loaded.
Whether the architecture has such a value is found out when it is read, and said there.
"""

from __future__ import annotations

from typing import Any

# Each with the line that completion shows.
OF_BLOCKS: dict[str, str] = {
    "resid_pre": "the residual stream before the block, (batch, tokens, hidden)",
    "resid_post": "the residual stream behind the block, (batch, tokens, hidden)",
}
NAMED_VALUES: dict[str, str] = {**OF_BLOCKS}


def has_named(handle: Any, name: str) -> bool:
    """Whether `handle.name` may be such a value, as far as the tree tells."""
    if name in OF_BLOCKS:
        return handle._model.names.is_block(handle.path)
    return False


def no_named(name: str, where: str, kind: str) -> tuple[str, str]:
    """What to say where it is none: a message and a hint."""
    return f"{where} ({kind}) is no decoder block", f"a block has it: layers[3].{name}"
