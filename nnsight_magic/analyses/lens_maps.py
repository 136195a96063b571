"""Maps of the residual stream that a lens reads through: one for each of its rows.

A *tuned lens* (Belrose et al. 2023, "Eliciting Latent Predictions from Transformers with the Tuned
Lens") reads `head(h + A h + b)` with a matrix A and a vector b that were trained for the row. A
*Jacobian lens* (Gurnee et al. 2026, "Verbalizable Representations Form a Global Workspace in
Language Models") reads `head(J h)`, where J is the mean Jacobian of the last block's output by the
row's.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nnsight_magic.errors import BadInputError

TUNED, JACOBIAN = "tuned lens", "Jacobian lens"
FORMAT = "nnsight_magic lens 1"
KNOWN = (
    "Known are files of analyses.fit_lens (.safetensors), a tuned lens (its folder, or its "
    "params.pt), and Jacobian lenses (.pt with J)."
)


@dataclass(frozen=True)
class LensMap:
    """One affine map of the residual stream for each row of a lens.

    Attributes:
        kind: `"tuned lens"`, which adds `A h + b` to h, or `"Jacobian lens"`, which reads `J h`.
        matrices: A or J by the name of the row, `(hidden, hidden)` each: `"input"`, or a block.
        biases: b by the name of the row, `(hidden,)` each; none is 0.
        attrs: what is known of how it was made, as texts and numbers.
    """

    kind: str
    matrices: Mapping[str, torch.Tensor] = field(repr=False)
    biases: Mapping[str, torch.Tensor] = field(default_factory=dict, repr=False)
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> list[str]:
        """The rows that have a map."""
        return list(self.matrices)

    def __call__(self, row: str, hidden: torch.Tensor) -> torch.Tensor:
        """The vectors `(…, hidden)` of a row, mapped; of a row that has no map themselves."""
        matrix = self.matrices.get(row)
        if matrix is None:
            return hidden
        found = hidden.float() @ matrix.to(hidden.device, torch.float32).T
        bias = self.biases.get(row)
        if bias is not None:
            found = found + bias.to(hidden.device, torch.float32)
        if self.kind == TUNED:
            found = found + hidden.float()
        return found.to(hidden.dtype)

    def check(self, rows: list[str], hidden: int) -> None:
        """Raises where it is no map of a model with these rows and so long vectors.

        Raises:
            BadInputError: it is of another model.
        """
        sizes = {tuple(each.shape) for each in self.matrices.values()}
        sizes |= {(*each.shape, hidden) for each in self.biases.values()}
        if sizes - {(hidden, hidden)}:
            shown = " and ".join(map(str, sorted(sizes - {(hidden, hidden)})))
            raise BadInputError(
                f"This {self.kind} is of another model: its maps are {shown}, and the model's "
                f"residual stream has {hidden} numbers a token, so they would be "
                f"({hidden}, {hidden})."
            )
        unknown = [row for row in self.matrices if row not in rows]
        if unknown:
            raise BadInputError(
                f"This {self.kind} is of another model: it has maps of rows "
                f"{', '.join(unknown[:5])}, and the model's rows are {rows[0]} to {rows[-1]}."
            )

    def save(self, path: str | Path) -> None:
        """Writes it into a file of safetensors, from which `load_lens_map` reads it."""
        from safetensors.torch import save_file

        tensors = {f"matrix.{row}": each.contiguous() for row, each in self.matrices.items()}
        tensors |= {f"bias.{row}": each.contiguous() for row, each in self.biases.items()}
        told = {"format": FORMAT, "kind": self.kind, "attrs": json.dumps(dict(self.attrs))}
        save_file(tensors, Path(path).expanduser(), metadata=told)


def load_lens_map(path: str | Path) -> LensMap:
    """A lens' maps from a file, or from the folder of a tuned lens.

    Raises:
        BadInputError: there is no such file, or none of a form that is known. Nothing but tensors
            and numbers is read: what would run code when it is opened is refused.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        place = place / "params.pt"
    if not place.is_file():
        raise BadInputError(f"There is no lens at {str(path)!r}. {KNOWN}")
    if place.suffix == ".safetensors":
        return _from_safetensors(place)
    try:
        found = torch.load(place, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadInputError(
            f"{place} holds more than tensors and numbers, which might run code when it is "
            f"opened, so it was not: {str(error).splitlines()[0][:160]}"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise BadInputError(f"{place} cannot be read: {str(error).splitlines()[0]}") from None
    if isinstance(found, Mapping) and isinstance(found.get("J"), Mapping):
        return _jacobian(found, place)
    return _tuned(found, place)


def _from_safetensors(place: Path) -> LensMap:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(place, framework="pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInputError(f"{place} cannot be read: {error}") from None
    if told.get("format") != FORMAT:
        raise BadInputError(f"{place} is no lens of this package. {KNOWN}")
    parts = {"matrix": {}, "bias": {}}
    for name, tensor in tensors.items():
        what, _, row = name.partition(".")
        parts[what][row] = tensor
    order = sorted(parts["matrix"], key=_place_of)
    matrices = {row: parts["matrix"][row] for row in order}
    return LensMap(told["kind"], matrices, parts["bias"], json.loads(told["attrs"]))


def _place_of(row: str) -> int:
    return -1 if row == "input" else int(row)


def _jacobian(found: Mapping[str, Any], place: Path) -> LensMap:
    """`{"J": {block: (hidden, hidden)}, …}`, of the output of each block."""
    try:
        matrices = {str(int(layer)): found["J"][layer] for layer in sorted(found["J"])}
    except (TypeError, ValueError):
        raise BadInputError(f"{place}: J is not by the number of a block. {KNOWN}") from None
    if not matrices or not all(map(_is_square, matrices.values())):
        raise BadInputError(f"{place}: J holds no square matrices. {KNOWN}")
    attrs = {
        name: value
        for name, value in found.items()
        if name != "J" and isinstance(value, str | int | float)
    }
    return LensMap(JACOBIAN, matrices, {}, attrs)


def _tuned(found: Any, place: Path) -> LensMap:
    """`{"0.weight": (hidden, hidden), "0.bias": (hidden,), …}`: 0 is the stream before the first
    block, k the output of block k - 1."""
    matrices: dict[str, torch.Tensor] = {}
    biases: dict[str, torch.Tensor] = {}
    try:
        for name, value in found.items():
            number, _, what = name.partition(".")
            row = "input" if int(number) == 0 else str(int(number) - 1)
            {"weight": matrices, "bias": biases}[what][row] = value
    except (AttributeError, KeyError, ValueError):
        raise BadInputError(f"{place} is no lens of a form that is known. {KNOWN}") from None
    if not matrices or not all(map(_is_square, matrices.values())):
        raise BadInputError(f"{place} holds no square matrices. {KNOWN}")
    return LensMap(TUNED, matrices, biases)


def _is_square(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 2 and value.shape[0] == value.shape[1]
