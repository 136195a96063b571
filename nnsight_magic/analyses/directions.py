"""A direction of the residual stream: what a probe learned, or what two kinds of text differ by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import torch

from nnsight_magic.analyses.direction_files import SITE, StoredDirection, load, save
from nnsight_magic.engine.editing.behind_first import BEHIND_FIRST
from nnsight_magic.errors import BadInputError


@dataclass(frozen=True)
class Direction:
    """A vector for each of some blocks, which can be added to what they give.

    Attributes:
        vectors: by the number of the block, float32 `(hidden,)`; one unit of strength adds just
            this.
        site: where it was found, as `%patch` calls it.
        words: what it points from and to.
        model: the name of the model that it was found in, or "".
        kind: the kind of that model, as its configuration calls it (`"llama"`), or "".
        lengths: by block the mean length of the residual stream there, over all tokens but the
            first of each text; empty where it was not measured.
    """

    vectors: Mapping[int, torch.Tensor]
    site: str = SITE
    words: str = ""
    model: str = ""
    kind: str = ""
    lengths: Mapping[int, float] = field(default_factory=dict)

    @property
    def layers(self) -> list[int]:
        """The blocks that it has a vector of."""
        return sorted(self.vectors)

    @property
    def size(self) -> int:
        """How many numbers a vector has."""
        return len(next(iter(self.vectors.values())))

    def __repr__(self) -> str:
        lengths = ", ".join(
            f"block {layer}: length {float(self.vectors[layer].norm()):.3g}"
            for layer in self.layers[:3]
        )
        more = f", … {len(self.layers)} blocks" if len(self.layers) > 3 else ""
        words = f"{self.words}; " if self.words else ""
        return f"Direction({words}{self.site} of {self.size} numbers; {lengths}{more})"

    # -- applied ------------------------------------------------------------------------------

    def edit(
        self, model: Any, strength: float = 1.0, name: str = "steer", *, relative: bool = False
    ) -> Any:
        """Adds it to what its blocks give, in every trace and generation from now on.

        At all tokens but the first of each prompt, and at each one that is generated. It is an edit
        like others: `model.edits[name].enabled = False` switches it off, `%edits` lists it.

        Args:
            model: a `LanguageModel`.
            strength: how many of it; negative ones point the other way.
            name: of the edit; one of that name is replaced.
            relative: the strength is in parts of the mean length of the residual stream, and the
                direction counts by where it points alone.

        Returns:
            The edit.

        Raises:
            BadInputError: it does not fit the model, or no length was measured.
        """
        added = self.scaled(model, strength, relative=relative)
        with model.edit(name, inplace=True) as edited:
            for layer, vector in added.items():
                model.layers[layer].output[BEHIND_FIRST] += vector
        return edited

    def steered(self, model: Any, strength: float = 1.0, *, relative: bool = False) -> Any:
        """A copy of the model, of the same weights, that has it; the model stays as it is.

        Args:
            model, strength, relative: as in `edit`.

        Raises:
            BadInputError: as in `edit`.
        """
        added = self.scaled(model, strength, relative=relative)
        with model.edit(inplace=False) as steered:
            for layer, vector in added.items():
                steered.layers[layer].output[BEHIND_FIRST] += vector
        return steered

    def scaled(self, model: Any, strength: float, *, relative: bool) -> dict[int, torch.Tensor]:
        """What is added in each block.

        Raises:
            BadInputError: it does not fit the model, or no length was measured.
        """
        self.check(model)
        found = {}
        for layer in self.layers:
            vector = self.vectors[layer]
            if not relative:
                found[layer] = strength * vector
                continue
            if layer not in self.lengths:
                raise BadInputError(
                    f"Nothing says how long the residual stream is in block {layer}, so there is "
                    "no relative strength. analyses.steer measures it on its prompts; or give "
                    "the strength in units of the direction."
                )
            length = float(vector.norm())
            if not length:
                raise BadInputError(f"The direction of block {layer} is zero and points nowhere.")
            found[layer] = strength * self.lengths[layer] / length * vector
        return found

    def check(self, model: Any) -> None:
        """Refuses another model's direction.

        Raises:
            BadInputError: it is of another size, of a block that the model has not, of another site
                or of another kind of model.
        """
        if self.site != SITE:
            raise BadInputError(
                f"This direction is of {self.site}; one that is added is of what a block gives, "
                f"{SITE}."
            )
        if self.size != model.hidden_size:
            raise BadInputError(
                f"The direction has {self.size:,} numbers, and the residual stream of this model "
                f"{model.hidden_size:,}: it is of another model."
            )
        most = model.n_layers - 1
        if self.layers[-1] > most or self.layers[0] < 0:
            raise BadInputError(
                f"The direction is of block {self.layers[-1]}; this model has blocks 0 to {most}."
            )
        kind = kind_of(model)
        if self.kind and kind and _family(self.kind) != _family(kind):
            raise BadInputError(
                f"The direction was found in a model of the kind {self.kind!r}, and this one is "
                f"{kind!r}: of the same size, its numbers mean other things.\n"
                'If it is meant: dataclasses.replace(direction, kind="").'
            )

    # -- in files -----------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Writes it to a file, of the kind that its name ends with.

        `.gguf` is a control vector as llama.cpp reads it (`--control-vector`), which adds it at all
        tokens, the first among them; `.safetensors` holds all that is known of it.

        Raises:
            BadInputError: the name ends otherwise, or llama.cpp could not apply it.
        """
        told = (self.site, self.words, self.model, self.kind, self.lengths)
        save(StoredDirection(self.vectors, *told), path)

    @staticmethod
    def load(path: str | PathLike[str]) -> Direction:
        """Reads one from a file that `save`, llama.cpp or repeng wrote.

        Raises:
            BadInputError: there is no control vector in it.
        """
        return Direction(*load(path))


def kind_of(model: Any) -> str:
    """What a model's configuration calls its kind; "" where there is none."""
    return str(getattr(getattr(model._root, "config", None), "model_type", "") or "")


def _family(kind: str) -> str:
    """The kind as llama.cpp has it, which tells less of them apart."""
    plain = kind.replace("_", "").replace("-", "").lower()
    return "llama" if plain in ("mistral", "mixtral") else plain
