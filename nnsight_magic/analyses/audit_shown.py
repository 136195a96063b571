"""What an audit found, and its forms: a list of checks in words, and how far each write reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nnsight_magic.analyses.result import Result
from nnsight_magic.analyses.shows_itself import ShowsItself
from nnsight_magic.views.data.checks import Check as Check
from nnsight_magic.views.data.checks import Checked, counted

if TYPE_CHECKING:
    from nnsight_magic.views.live.checks import ChecksView


@dataclass(frozen=True)
class AuditedWrite:
    """One write of a cell, and what was checked of it.

    Attributes:
        name: as the cell calls it, `layers[22].mlp.output`.
        line: of the cell or the file, where it is known.
        checks: `put back`, `stands`, `changes`, `reaches` and `stays`, in this order.
        tokens: by prompt the positions at which it changed something.
        heads: the heads of which it changed something, where the value has heads.
        largest: the largest change of a number.
        moved: the largest change of a logit.
    """

    name: str
    line: int | None
    checks: tuple[Check, ...]
    tokens: Mapping[str, Sequence[int]] = field(default_factory=dict)
    heads: tuple[int, ...] = ()
    largest: float = 0.0
    moved: float = 0.0

    def __getitem__(self, name: str) -> Check:
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"{name!r} is no check; there are {', '.join(c.name for c in self.checks)}")

    @property
    def title(self) -> str:
        """The write with its line."""
        return self.name if self.line is None else f"{self.name} (line {self.line})"


@dataclass(frozen=True, repr=False)
class Audit(ShowsItself):
    """What the writes of a cell do, checked.

    Attributes:
        writes: in the order in which the model comes past them.
        effect: how far each moves the prediction after each token, KL in nats; `None` where the
            model gives no logits for tokens.
        notices: what the reader should know.
    """

    writes: tuple[AuditedWrite, ...]
    effect: Result | None
    notices: tuple[str, ...] = ()

    def __getitem__(self, at: int | str) -> AuditedWrite:
        """A write by its place or its name."""
        if isinstance(at, int):
            return self.writes[at]
        for write in self.writes:
            if write.name == at:
                return write
        raise KeyError(f"{at!r} was not written; writes: {', '.join(w.name for w in self.writes)}")

    @property
    def holds(self) -> bool:
        """Whether no check fails or warns."""
        states = {check.state for write in self.writes for check in write.checks}
        return states <= {"holds", "none"}

    @property
    def title(self) -> str:
        """How many checks hold, in words."""
        count = len(self.writes)
        checks = [check for write in self.writes for check in write.checks]
        return f"audit of {count} write{'s' * (count != 1)}: {counted(checks)}"

    def view(self) -> ChecksView:
        """The checks in words, and a map of how far each write reaches."""
        from nnsight_magic.analyses.result_shown import map_of
        from nnsight_magic.views.live.checks import ChecksView

        groups = [Checked(write.title, write.checks) for write in self.writes]
        drawn = None if self.effect is None else map_of(self.effect, {})
        return ChecksView(self.title, groups, drawn, notices=list(self.notices))

    def figure(self, **state: Any) -> Any:
        """A matplotlib figure of how far each write moves the predictions.

        Args:
            state: as `Result.figure` takes it.

        Raises:
            BadInputError: the model gives no logits for tokens, so there is nothing to draw.
        """
        from nnsight_magic.errors import BadInputError

        if self.effect is None:
            raise BadInputError("There is nothing to draw: the model gives no logits for tokens.")
        return self.effect.figure(**state)

    def text(self) -> str:
        """Title, and the checks of each write."""
        from nnsight_magic.views.still.checks import text

        groups = [Checked(write.title, write.checks) for write in self.writes]
        return text(self.title, groups, self.notices)
