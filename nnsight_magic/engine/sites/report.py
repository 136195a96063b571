"""What a trace did, for whoever reads its result."""

from __future__ import annotations

from dataclasses import dataclass, field

from nnsight_magic.engine.sites.site import Touch


@dataclass
class RunReport:
    """What a trace did: for the reader of a result, and for tests.

    Attributes:
        blocks: how many decoder blocks the model has.
        blocks_run: how many of them the main forward ran.
        blocks_skipped: how many were known from an earlier forward.
        ran: the numbers of the blocks that ran.
        stopped_at: the last thing that ran, where the forward ended early.
        resumed_at: the first thing that ran, where the blocks before it were known.
        seconds: how long the block took, the user's own code included.
        forwards: how many forwards were needed.
        touches: what was read and written, in that order.
        notices: what the user should know, in sentences.
    """

    blocks: int = 0
    blocks_run: int = 0
    blocks_skipped: int = 0
    ran: tuple[int, ...] = ()
    stopped_at: str | None = None
    resumed_at: str | None = None
    seconds: float = 0.0
    forwards: int = 0
    touches: list[Touch] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
