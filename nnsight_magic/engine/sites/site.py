"""Sites: the places of a forward pass that can be looked at and written to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn


class Operation(NamedTuple):
    """One torch operation of a module's forward: `softmax` number 0."""

    name: str
    index: int  # pyright: ignore[reportIncompatibleMethodOverride] - which tuples have too


# What a module's first softmax gives, laid out as `(batch, heads, queries, keys)`.
PATTERN = Operation("pattern", 0)
# What goes into it, laid out alike.
SCORES = Operation("scores", 0)
# The queries and the keys that a module multiplies first, each with its rows as tokens.
Q_ROT, K_ROT = Operation("q_rot", 0), Operation("k_rot", 0)
# What a norm multiplies by.
SCALE = Operation("scale", 0)
# What the module is given first, and what it gives: `(given, output)`.
BOTH = Operation("given and given back", 0)
# Values that are computed, or laid out, when they are asked for: no operation of the forward's own.
NAMED = frozenset({PATTERN, SCORES, Q_ROT, K_ROT, SCALE, BOTH})


class Site(NamedTuple):
    """One input or output of one call of one module, or of an operation in its forward.

    `step` counts the forwards of a generation (0 elsewhere), `call` the calls of the module
    within that step: a shared module is called more than once.
    """

    module: nn.Module
    kind: str  # "input" or "output"
    step: int
    call: int
    operation: Operation | None = None


@dataclass(slots=True, eq=False)
class Touch:
    """A site as the user touched it: what the report lists and errors point to."""

    site: Site = field(repr=False)  # not there any more once the trace is over
    name: str  # "layers[3].mlp"
    kind: str  # "input" or "output"
    step: int
    line: int | None
    parts: tuple[str, ...] = ()  # the real path, ("model", "layers", "3", "mlp")
    wrote: bool = False
    shape: tuple[int, ...] | None = None  # of the value, where it is one tensor
    called: str | None = None  # where the value has a name of its own, "layers[3].attn.pattern"
    layouts: tuple[Any, ...] = ()  # of parts that were written and have a layout of their own

    def end(self) -> None:
        """The trace is over: what is left says what was touched, and keeps no module alive."""
        if hasattr(self, "site"):
            del self.site

    @property
    def where(self) -> str:
        """As the user writes it, such as `layers[3].mlp.output`."""
        step = f" at step {self.step}" if self.step else ""
        called = self.called or (f"{self.name}.{self.kind}" if self.name else self.kind)
        return f"{called}{step}"
