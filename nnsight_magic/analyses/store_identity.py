"""What tells a model's activations from another model's: its name, weights, tokenizer and edits."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from nnsight_magic.analyses.prompt import model_words
from nnsight_magic.engine.memory.weights import Weights
from nnsight_magic.engine.model.travel import edits_of
from nnsight_magic.version import __version__


def identity(model: Any) -> dict[str, Any]:
    """What a store's manifest says of the model.

    `weights` is a digest of some numbers of every weight, which meet every row and column of it:
    all of them would take minutes of a large model.
    """
    return {
        "version": __version__,
        "model": model_words(model, "")["model"],
        "class": type(model.module).__name__,
        "weights": _weights(model.module),
        "tokenizer": _tokenizer(getattr(model, "tokenizer", None)),
        "edits": [_edit(each) for each in edits_of(model) if each[2]],
    }


def _weights(module: torch.nn.Module) -> str:
    told = hashlib.blake2b(digest_size=16)
    for name, parameter in module.named_parameters():
        told.update(f"{name} {tuple(parameter.shape)} {parameter.dtype} ".encode())
    for numbers in Weights(lambda _: list(module.modules())).now(0):
        told.update(_bytes(numbers))
    return told.hexdigest()


def _tokenizer(tokenizer: Any) -> str | None:
    if tokenizer is None:
        return None
    fast = getattr(tokenizer, "backend_tokenizer", None)
    described = fast.to_str() if fast is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.blake2b(described.encode(), digest_size=16).hexdigest()


def _edit(edit: tuple) -> str:
    """An edit in force, in words, with a digest of the numbers that it writes."""
    name, writes, _, steps = edit
    told = hashlib.blake2b(repr(steps).encode(), digest_size=8)
    for write in writes:
        told.update(
            f"{write.path} {write.kind} {write.index} {write.operation} {write.call}".encode()
        )
        numbers = torch.as_tensor(write.value) if not isinstance(write.value, str) else None
        told.update(repr(write.value).encode() if numbers is None else _bytes(numbers))
    return f"{name} {told.hexdigest()}"


def _bytes(numbers: torch.Tensor) -> bytes:
    return numbers.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
