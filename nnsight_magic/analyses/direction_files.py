"""Directions in files: GGUF control vectors as llama.cpp has them, and safetensors.

llama.cpp's layout: one float32 tensor `direction.N` for each block N, which is added to what this
block gives, blocks counted from 0; it has no place for block 0. In the header
`general.architecture` is `controlvector`, `controlvector.model_hint` the kind of model and
`controlvector.layer_count` how many there are. A file may come from anywhere, so nothing of it is
taken on trust.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nnsight_magic.errors import BadInputError

SITE = "resid_post"  # the site that directions are added at: what a block gives
FORMAT = "nnsight_magic direction 1"
ARCHITECTURE = "controlvector"
_NAME = re.compile(r"direction\.(\d{1,6})")
_PLAIN = ("F32", "F16", "F64")


class StoredDirection(NamedTuple):
    """A direction as a file holds it; see `Direction` for what its parts mean."""

    vectors: Mapping[int, torch.Tensor]
    site: str = SITE
    words: str = ""
    model: str = ""
    kind: str = ""
    lengths: Mapping[int, float] = {}

    @property
    def layers(self) -> list[int]:
        return sorted(self.vectors)


def save(direction: StoredDirection, path: str | PathLike[str]) -> None:
    """As `Direction.save`."""
    match Path(path).suffix:
        case ".gguf":
            _save_gguf(direction, Path(path))
        case ".safetensors":
            _save_safetensors(direction, Path(path))
        case other:
            raise BadInputError(f"A direction is stored as .gguf or .safetensors, not {other!r}.")


def load(path: str | PathLike[str]) -> StoredDirection:
    """As `Direction.load`."""
    found = Path(path)
    if not found.is_file():
        raise BadInputError(f"There is no file {str(path)!r}.")
    match found.suffix:
        case ".gguf":
            return _load_gguf(found)
        case ".safetensors":
            return _load_safetensors(found)
        case other:
            raise BadInputError(f"A direction is stored as .gguf or .safetensors, not {other!r}.")


def _save_gguf(direction: StoredDirection, path: Path) -> None:
    if direction.site != SITE:
        raise BadInputError(
            f"llama.cpp adds control vectors to what a block gives, and this is of "
            f"{direction.site}; store it as .safetensors."
        )
    if 0 in direction.vectors:
        raise BadInputError(
            "llama.cpp has no control vector of block 0; leave that block out, or store it as "
            ".safetensors."
        )
    writer = _gguf().GGUFWriter(path, ARCHITECTURE)
    writer.add_string(f"{ARCHITECTURE}.model_hint", direction.kind)
    writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(direction.layers))
    for layer in direction.layers:
        vector = direction.vectors[layer].detach().cpu().float().contiguous()
        writer.add_tensor(f"direction.{layer}", vector.numpy())
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _load_gguf(path: Path) -> StoredDirection:
    gguf = _gguf()
    try:
        reader = gguf.GGUFReader(path)
        told = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {each.name: (each.tensor_type.name, each.data) for each in reader.tensors}
    except Exception as error:  # its reader raises whatever it stumbles over
        raise BadInputError(
            f"{path} cannot be read as GGUF: {type(error).__name__}: {error}"
        ) from None
    kind = told.get("general.architecture")
    if kind != ARCHITECTURE:
        raise BadInputError(
            f"{path} holds no control vector but {kind!r}: a model's weights, it seems. %model "
            "loads these."
        )
    odd = [name for name, (dtype, _) in tensors.items() if dtype not in _PLAIN]
    if odd:
        raise BadInputError(
            f"{path}: {odd[0]} is quantised ({tensors[odd[0]][0]}); expected float32 or float16."
        )
    vectors = {name: torch.tensor(np.array(data)) for name, (_, data) in tensors.items()}
    hint = told.get(f"{ARCHITECTURE}.model_hint")
    return StoredDirection(_checked(path, vectors), kind=hint if isinstance(hint, str) else "")


def _save_safetensors(direction: StoredDirection, path: Path) -> None:
    told = {
        "format": FORMAT,
        "site": direction.site,
        "words": direction.words,
        "model": direction.model,
        "kind": direction.kind,
        "lengths": json.dumps({str(k): float(v) for k, v in direction.lengths.items()}),
    }
    vectors = {
        f"direction.{layer}": direction.vectors[layer].detach().cpu().float().contiguous()
        for layer in direction.layers
    }
    save_file(vectors, path, told)


def _load_safetensors(path: Path) -> StoredDirection:
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            vectors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInputError(f"{path} cannot be read as safetensors: {error}") from None
    found = _checked(path, vectors)
    if told.get("format") != FORMAT:
        return StoredDirection(found)
    return StoredDirection(
        found,
        told.get("site", SITE),
        told.get("words", ""),
        told.get("model", ""),
        told.get("kind", ""),
        _lengths(path, told.get("lengths", "{}"), found),
    )


def _checked(path: Path, tensors: dict[str, torch.Tensor]) -> dict[int, torch.Tensor]:
    """The vectors by block.

    Raises:
        BadInputError: these are none.
    """
    others = [name for name in tensors if not _NAME.fullmatch(name)]
    if others or not tensors:
        held = ", ".join(map(repr, others[:3])) + (", …" if len(others) > 3 else "")
        raise BadInputError(
            f"{path} holds {held or 'no tensors'}; a direction has a tensor 'direction.N' for each "
            "block N, and nothing else."
        )
    found = {int(name.removeprefix("direction.")): each for name, each in tensors.items()}
    shapes = {tuple(each.shape) for each in found.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1 or not next(iter(shapes))[0]:
        told = ", ".join(map(str, sorted(shapes)))
        raise BadInputError(f"{path}: expected vectors of one size; found {told}.")
    found = {layer: found[layer].float() for layer in sorted(found)}
    for layer, vector in found.items():
        if not bool(vector.isfinite().all()):
            raise BadInputError(f"{path}: direction.{layer} holds NaN or infinite numbers.")
    return found


def _lengths(path: Path, text: str, found: dict[int, torch.Tensor]) -> dict[int, float]:
    try:
        told = {int(layer): float(length) for layer, length in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        raise BadInputError(f"{path}: its lengths cannot be read: {text[:60]!r}") from None
    return {layer: length for layer, length in told.items() if layer in found and length > 0}


def _gguf() -> Any:
    """The package that reads and writes GGUF.

    Raises:
        BadInputError: it is not installed.
    """
    try:
        import gguf
    except ImportError:
        raise BadInputError(
            'GGUF files need the package gguf: pip install "nnsight_magic[demo]".'
        ) from None
    return gguf
