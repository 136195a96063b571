"""What a sweep will take, before it is run: its forwards, and how much memory one of them needs.

Variants are run as far as the clean run serves them, which tells what they share; that is as good
as certain. Whether one of them looks back at what its batch has left behind, and goes on alone,
shows when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnsight_magic.engine.running.coroutine import current
from nnsight_magic.engine.sweeping.clean import CleanRun
from nnsight_magic.engine.sweeping.layout import Packed
from nnsight_magic.engine.sweeping.live_bytes import bytes_of_token
from nnsight_magic.engine.sweeping.run import Call
from nnsight_magic.engine.sweeping.size import bytes_of_logits, bytes_of_patterns
from nnsight_magic.engine.sweeping.sweep import Settings, Sweep

BYTES_OF_VARIANT = 2**15  # a suspended function with what it has touched: measured, 20 to 40 kB


@dataclass(frozen=True)
class PlannedForward:
    """One forward that variants share.

    Attributes:
        numbers: of the variants.
        tokens: in all its rows.
        blocks: that it runs.
        bytes: that it needs beside the weights, about.
    """

    numbers: tuple[int, ...]
    tokens: int
    blocks: int
    bytes: int


@dataclass(frozen=True)
class Plan:
    """What a sweep will take.

    Attributes:
        shared: its forwards of several variants.
        others: forwards of prompts without any change, and of references.
        clean: bytes that are kept of those forwards, and of variants.
    """

    shared: tuple[PlannedForward, ...]
    others: int
    clean: int

    @property
    def forwards(self) -> int:
        return len(self.shared) + self.others

    @property
    def bytes(self) -> int:
        """Beside the weights, at most, about."""
        return self.clean + max((each.bytes for each in self.shared), default=0)

    def work(self, numbers: Iterable[int] | None = None) -> int:
        """Tokens times blocks of the forwards that have these variants; of all by default."""
        wanted = None if numbers is None else {*numbers}
        mine = (each for each in self.shared if wanted is None or wanted & {*each.numbers})
        return sum(each.tokens * max(1, each.blocks) for each in mine)


def planned(
    model: Any,
    inputs: Any,
    change: Callable[..., Any],
    variants: Sequence[Any],
    *,
    prompt_of: Sequence[int] | None = None,
    references: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    pack: bool = True,
    **kwargs: Any,
) -> Plan:
    """What a call of `model.sweep` will take that records no gradients and generates no texts.

    Of the model nothing is run but the prompts and references themselves. Forwards that find out
    whether the model may run packed are left out: they are run once for a model.

    Args:
        model: whose.
        inputs, change, variants, prompt_of, references, batch_size, pack, kwargs: as it is called.
    """
    call = Call(
        lambda given: model.trace(given, **kwargs), inputs, change, [*variants], prompt_of,
        references or {}, Settings(batch_size, pack, keep_going=True),
    )  # fmt: skip
    shared: list[PlannedForward] = []
    others = clean = 0
    for sweep in call.sweeps():
        mine, more = _plan_of(sweep)
        shared += mine
        others += more
        clean = max(clean, _bytes_of_clean(sweep))
    return Plan(tuple(shared), others, clean)


def _plan_of(sweep: Sweep) -> tuple[list[PlannedForward], int]:
    found: list[PlannedForward] = []
    again: set[CleanRun] = set()
    each = _bytes_of_token(sweep)
    with sweep:
        sweep._scheduler = current()
        try:
            for _ in sweep._begin():
                pass
            for start, batch in sweep._batches():
                for variants, layout in sweep._shares(batch):
                    packed = isinstance(layout, Packed)
                    # What they read next is put together with the clean value of it.
                    again |= {v.clean for v in variants if packed and not v.clean.has(v.touch.site)}
                    mine = {id(variant) for variant in variants}
                    numbers = tuple(n for n, v in sweep._variants.items() if id(v) in mine)
                    tokens = sum(sweep.tokens - v.start * packed for v in variants)
                    tokens *= 1 if packed else sweep._rows
                    size = tokens * each + _bytes_beside(sweep, len(variants), tokens, packed)
                    blocks = len(sweep.model.blocks) - start
                    found.append(PlannedForward(numbers, tokens, blocks, size))
            others = sweep.forwards - sweep._tries + len(again)
        finally:
            sweep._cancel()
    return found, others


def _bytes_of_token(sweep: Sweep) -> int:
    return bytes_of_token(sweep._module, sweep.inputs, keeps=sweep.packs)


def _bytes_beside(sweep: Sweep, variants: int, tokens: int, packed: bool) -> int:
    """Logits, and patterns of what is packed: every token's scores with all that stands there."""
    logits = bytes_of_logits(sweep._module, sweep.tokens, sweep.inputs) * variants * sweep._rows
    return logits + (bytes_of_patterns(sweep._module, tokens) if packed else 0)


def _bytes_of_clean(sweep: Sweep) -> int:
    """What is kept until the end, about: of the runs without any change, and of each variant."""
    rows = sweep._rows * (len(sweep._cleans) + len(sweep._shared))
    clean = rows * sweep.tokens * _bytes_of_token(sweep)
    return clean + len(sweep._variants) * BYTES_OF_VARIANT
