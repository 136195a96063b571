"""Which of a module's values with names of their own a cell may ask for: `layers[3].resid_pre`.

The tree alone is looked at, so that a cell can be checked and completed before a model is loaded.
Whether the architecture has such a value is found out when it is read, and said there.
"""

from __future__ import annotations

from typing import Any

from nnsight_magic.language.tree import children

# Each with the line that completion shows.
OF_BLOCKS: dict[str, str] = {
    "resid_pre": "the residual stream before the block, (batch, tokens, hidden)",
    "resid_mid": "the residual stream between attention and MLP, (batch, tokens, hidden)",
    "resid_post": "the residual stream behind the block, (batch, tokens, hidden)",
}
OF_HALVES: dict[str, str] = {
    "added": "what this half of the block adds to the residual stream, (batch, tokens, hidden)",
}
OF_MLPS: dict[str, str] = {
    "neurons": "the MLP's neurons behind the activation, (batch, tokens, neurons)",
    "neurons_pre": "the MLP's neurons before the activation, (batch, tokens, neurons)",
}
NAMED_VALUES: dict[str, str] = {**OF_BLOCKS, **OF_HALVES, **OF_MLPS}


def has_named(handle: Any, name: str) -> bool:
    """Whether `handle.name` may be such a value, as far as the tree tells."""
    if name in OF_BLOCKS:
        return handle._model.names.is_block(handle.path)
    return handle._model.names.block_index(handle.path) is not None and not handle.is_block


def offers_named(handle: Any, name: str) -> bool:
    """Whether completion shows it: of the parts of a block, those that are its halves."""
    if name in OF_BLOCKS or not has_named(handle, name):
        return has_named(handle, name)
    if name in OF_MLPS and not handle.name.endswith(".mlp"):
        return False
    block = handle.path.rpartition(".")[0]
    return handle._model.names.is_block(block) and bool(children(handle))


def no_named(name: str, where: str, kind: str) -> tuple[str, str]:
    """What to say where it is none: a message and a hint."""
    if name in OF_BLOCKS:
        return f"{where} ({kind}) is no decoder block", f"a block has it: layers[3].{name}"
    return f"{where} ({kind}) is no part of a decoder block", f"write layers[3].mlp.{name}"
