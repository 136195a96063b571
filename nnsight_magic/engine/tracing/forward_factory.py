"""The forwards of one trace are begun alike: the same call, the same writes, the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.running.bypass import Bypasses
from nnsight_magic.engine.running.coroutine import current
from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.engine.running.randomness import Drawing, Redrawing
from nnsight_magic.engine.sites.report import RunReport
from nnsight_magic.engine.sites.site import Site
from nnsight_magic.engine.tracing.silence import Silence
from nnsight_magic.engine.values.changes import Change
from nnsight_magic.engine.values.containers import copy_tree
from nnsight_magic.engine.values.pause import Pause

LateWrite = Callable[[Pause], str | None]  # why a write at a pause comes too late


class ForwardFactory:
    """Begins the forwards of one trace, and ends them all.

    Attributes:
        root: the module whose calls are the steps.
        beginners: modules whose calls begin a step, each with the way to it from the root.
        begun: the forwards, in the order in which they were begun.
        written: what was written so far, for each further forward to repeat.
        prepare: called with every forward before it runs.

    Args:
        call: runs the model on the prepared inputs, once.
        report: counts them.
        grad: record for autograd.
        bypasses: those of a larger run that this one is part of.
        random: whether a second forward has to draw the random numbers of the first.
    """

    def __init__(
        self,
        call: Callable[[], Any],
        root: nn.Module,
        report: RunReport,
        *,
        grad: bool,
        bypasses: Bypasses | None = None,
        random: bool = False,
    ):
        self.root, self.grad = root, grad
        self.beginners: dict[nn.Module, list[nn.Module]] = {root: [root]}
        self.begun: list[Forward] = []
        self.written: dict[Site, list[Change]] = {}
        self.prepare: list[Callable[[Forward], None]] = []
        self.bypasses = bypasses if bypasses is not None else Bypasses()
        self._own_bypasses = bypasses is None
        self._call: Callable[[], Any] | None = call
        self._report = report
        self._drawing = Drawing() if random else None
        self._silence = Silence(self._runs_here)

    def begin(self, late_write: LateWrite) -> Forward:
        """A further forward, which stands at its start."""
        if not self.begun:
            self._silence.begin()
        if self.grad and self.root.training and self.bypasses.keep_activations(self.root):
            self._report.notices.append(
                "Gradient checkpointing is off in this trace: what is written in a block would be "
                "missing when the backward pass runs it again."
            )
        drawing = self._drawing
        if drawing is not None and self.begun:
            drawing = Redrawing(drawing)
        assert self._call is not None, "no forward begins when the trace is over"
        forward = Forward(
            self._call,
            self.root,
            late_write,
            bypasses=self.bypasses,
            written=self.written,
            grad=self.grad,
            drawing=drawing,
        )
        self.begun.append(forward)
        self._report.forwards += 1
        for site in self.written:
            forward.attend(site)
        for tell in self.prepare:
            tell(forward)
        return forward

    def look(self, site: Site, ancestry: list[nn.Module], late_write: LateWrite) -> Any:
        """What a module gives, by a forward of its own that ends there; `None` if it never runs.

        It draws random numbers that nobody else misses, and is no forward of the trace.
        """
        drawing, self._drawing = self._drawing, None
        try:
            with torch.random.fork_rng():
                forward = self.begin(late_write)
                try:
                    forward.attend(site, ancestry)
                    pause = forward.run_to(site)
                    return None if pause is None else pause.part(())
                finally:
                    self.begun.remove(forward)
                    forward.cancel()
        finally:
            self._drawing = drawing

    def run_again(
        self, written: Mapping[Site, list[Change]], edits: Callable[[Forward], None] | None
    ) -> tuple[Any, dict[Site, Any]]:
        """A forward from start to end with these writes in place of the trace's; it is none of it.

        Random numbers are drawn from the same beginning each time; no gradients are recorded.

        Args:
            written: in any order.
            edits: has the forward carry out the model's edits, where there are some.

        Returns:
            What the model gives, and what flows on at each of these sites, the writes included.
        """
        bypasses, seen, left = Bypasses(), {}, set(written)
        assert self._call is not None, "no forward begins when the trace is over"
        forward = Forward(
            self._call, self.root, lambda pause: None, bypasses=bypasses, written=dict(written)
        )
        try:
            for site in written:
                forward.attend(site)
            if edits is not None:
                edits(forward)
            with torch.random.fork_rng():
                torch.manual_seed(0)
                while left and (pause := forward.run_to_any(set(left))) is not None:
                    seen[pause.site] = copy_tree(pause.part(()))
                    left.discard(pause.site)
                return forward.finish(), seen
        finally:
            forward.cancel()
            bypasses.close()

    def runs_now(self) -> Forward | None:
        """The forward out of which this is called, if it is out of one."""
        here = current()
        return next((forward for forward in self.begun if forward.runs_in(here)), None)

    def _runs_here(self) -> bool:
        return self.runs_now() is not None

    def close(self) -> None:
        """End every forward and take every hook away; may be called again."""
        for forward in self.begun:
            forward.cancel()
        if self._own_bypasses:
            self.bypasses.close()
        self._silence.end()
        self.begun.clear()
        self.written = {}
        self.prepare.clear()
        self._call = self._drawing = None
