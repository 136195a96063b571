"""One write of an edit, as data: where, at which index, which operation, which value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.engine.editing.index import to_json
from nnsight_magic.engine.places.attention_values import PARTS
from nnsight_magic.engine.values.parts import Parts
from nnsight_magic.engine.values.value import plain
from nnsight_magic.engine.values.words import index_text
from nnsight_magic.errors import EditError

OPERATIONS = ("set", "add", "scale")
KINDS = ("output", "input", "inputs", *PARTS)


@dataclass(frozen=True)
class Write:
    """One write of an edit.

    Attributes:
        path: the module, by its real dotted path.
        kind: `"output"`, `"input"` (the first argument) or `"inputs"` (`(args, kwargs)`), or a
            value of the module that has a name of its own, such as `"q"` of an attention.
        index: what was in the brackets, one item a pair of brackets: `output[0][:, -1]` is
            `(0, (slice(None), -1))`.
        operation: `"set"`, `"add"` or `"scale"`.
        value: a number, or a tensor that broadcasts to the indexed part.
        call: which call of a module that runs more than once in a forward.
        inside: an operation of the module, name and number, where a value with a name of its own
            stands at one (`layers[3].resid_mid`).
    """

    path: str
    kind: str
    index: tuple
    operation: str
    value: Any
    call: int = 0
    inside: tuple[str, int] | None = None

    def __str__(self) -> str:
        path = self.path if self.inside is None else "{}.ops.{}[{}]".format(self.path, *self.inside)
        where = f"{path}.{self.kind}" + "".join(f"[{index_text(each)}]" for each in self.index)
        sign = {"set": "=", "add": "+=", "scale": "*="}[self.operation]
        value = self.value
        if isinstance(value, torch.Tensor):
            value = f"tensor {tuple(value.shape)}"
        return f"{where} {sign} {value}"


def as_data(value: Any) -> Any:
    """A value of a trace as a plain tensor of its own; a number as it is."""
    if isinstance(value, Parts):
        value = value.value
    if isinstance(value, torch.Tensor):
        return plain(value.detach()).clone()
    return value


def checked(write: Write) -> Write:
    """The write itself.

    Raises:
        EditError: it is nothing that an edit can carry out, or that a file can hold.
    """
    if write.kind not in KINDS or write.operation not in OPERATIONS:
        raise EditError(f"An edit cannot {write.operation} {write.kind}.")
    if not isinstance(write.value, torch.Tensor | bool | int | float):
        raise EditError(
            f"{write.path}.{write.kind}: an edit writes a number or a tensor.\n"
            f"Found: {type(write.value).__name__}."
        )
    for index in write.index:
        to_json(index)
    return write
