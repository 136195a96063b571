"""The forwards of one trace, and which of them serves which touch.

A trace has a main forward, whose end is the end of the trace. A site that it has left behind is
read by a second one, which runs from the start with the writes made so far; that one is kept
for further reads of what lies behind. A write is in time only if no value that was handed out
depends on it.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from nnsight_magic.engine.memory.shortcut import Shortcut
from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.engine.sites.report import RunReport
from nnsight_magic.engine.sites.site import Site, Touch
from nnsight_magic.engine.tracing.explain import never_ran, no_such_operation, numpy_lent, too_late
from nnsight_magic.engine.tracing.forward_factory import ForwardFactory
from nnsight_magic.engine.tracing.order import has_passed
from nnsight_magic.engine.values.gradients import NOT_RECORDED
from nnsight_magic.engine.values.pause import Pause
from nnsight_magic.errors import AlreadyRanError, NeverRanError, NoSuchOperationError

# Each forward has a graph of its own.
NO_GRADIENT_BETWEEN = (
    " No gradient leads from one of the two to the other; to have them, read in the order in which "
    "the model runs."
)


class Forwards:
    """The forwards of one trace, and the order in which sites were touched.

    Args:
        factory: begins them.
        report: filled as things happen.
        shortcut: where blocks may be left out that are known from earlier forwards.
    """

    def __init__(
        self, factory: ForwardFactory, report: RunReport, *, shortcut: Shortcut | None = None
    ):
        self.factory, self.report = factory, report
        self._looks_back = bool(report.touches)  # values were handed out before it began
        self._shortcut = shortcut
        self._main: Forward | None = None
        self._behind: Forward | None = None  # the second one, of what the main one has left behind
        self._pauses: list[Pause] = []
        self._reopened: list[Pause] = []  # left behind, and written since: see `_still_ahead`
        self._order: set[tuple[Site, Site]] = set()  # what was seen to run before what

    @property
    def started(self) -> bool:
        """Whether a forward was begun."""
        return self._main is not None

    @property
    def main(self) -> Forward:
        """The forward whose end is the end of the trace."""
        if self._main is None:
            self._main = self.factory.begin(self._late_write)
        if self._reopened:
            self._settle_reopened()
        return self._main

    @property
    def last(self) -> Forward | None:
        """The same, where one was begun."""
        return self._main

    @property
    def wrote(self) -> bool:
        """Whether something was written, also at the sites where forwards are paused now."""
        return bool(self.factory.written) or any(
            forward.pause is not None and forward.pause.written for forward in self.factory.begun
        )

    def running(self) -> Forward:
        """The forward out of which this is called; the main one, if it is out of none."""
        return self.factory.runs_now() or self.main

    def reach(self, touch: Touch, ancestry: list[nn.Module]) -> Pause:
        """Bring a forward to the touched site; `ancestry` goes from the root to its module.

        Raises:
            NeverRanError: no forward reaches the site.
        """
        pause = self._ahead(touch, ancestry) or self._again(touch, ancestry)
        first = pause.touch is None
        if pause.note(touch):
            self.report.touches.append(touch)
        if first:
            if len(self.factory.begun) > 1:
                stopped = next(each for each in self.factory.begun if each.pause is pause)
                behind = (each.site for each in self._pauses if each.site not in stopped.fired)
                self._order.update((touch.site, site) for site in behind)
            self._pauses.append(pause)
        return pause

    def settle(self) -> None:
        """Note what was written at the sites where forwards are paused."""
        self._settle_reopened()
        for standing in self.factory.begun:
            standing.settle()

    def _settle_reopened(self) -> None:
        for pause in self._reopened:
            if changes := pause.pending():
                written = self.factory.written
                written[pause.site] = [*written.get(pause.site, ()), *changes]
        self._reopened.clear()

    def run_everything(self) -> None:
        """Leave no block out from here on, known or not."""
        self._shortcut = None

    def close(self) -> None:
        """End every forward, take every hook away, let go of every value."""
        self.factory.close()
        for pause in self._pauses:
            pause.close()
        for touch in self.report.touches:
            touch.end()
        self._pauses.clear()
        self._reopened.clear()
        self._order.clear()
        self._main = self._behind = self._shortcut = None

    def _ahead(self, touch: Touch, ancestry: list[nn.Module]) -> Pause | None:
        """Run a forward on to the touched site, if one has it still ahead."""
        site, main = touch.site, self.main
        forwards = (main,) if self._behind is None else (main, self._behind)
        for forward in forwards:
            if forward.pause is not None and forward.pause.site == site:
                return forward.pause
        for forward in forwards:
            behind = forward.finished or site in forward.fired
            ahead = not (behind or has_passed(forward, touch, self.factory.root))
            if ahead and forward is not main:
                main.settle()
            pause = self._run_to(forward, touch, ancestry) if ahead else None
            if pause is not None:
                self._pass_in_others(forward, touch)
                if self._looks_back or len(self.factory.begun) > 1:
                    pause.passer = self._passer(forward)
                    if forward is not main and (main.finished or pause.passer is None):
                        self._take_over(forward)
                return pause
            self._check_operation(forward, touch)
            if site.operation is None:
                forward.fired.add(site)  # whether or not it was seen, it has passed
        return None

    def _again(self, touch: Touch, ancestry: list[nn.Module]) -> Pause:
        """A forward from the start, for a site that every running one has left behind."""
        operation = touch.site.operation
        self.settle()  # the site may come after writes at the pauses of others
        forward = self.factory.begin(self._late_write)
        pause = self._run_to(forward, touch, ancestry)
        if pause is None:
            self._check_operation(forward, touch)
            forward.cancel()
            raise NeverRanError(never_ran(touch))
        self._pass_in_others(forward, touch)
        pause.passer = self._passer(forward)
        main = self._main
        assert main is not None, "a second forward is begun behind a first"
        # An operation of a module that is under way is not counted from the start there.
        under_way = operation is not None and not main.finished and pause.passer is None
        if main.finished or pause.passer is None:
            self._take_over(forward)
        else:
            if self._behind is not None:
                self._behind.cancel()
            self._behind = forward
        after = "when it had run already"
        if pause.passer is not None:
            after = f"after {pause.passer.where}"
        elif under_way:
            after = "when its module was running, and operations are counted from the start of it"
        self.report.notices.append(
            f"{touch.where} was read {after}: the forward was run again as far as there."
            + (NO_GRADIENT_BETWEEN if self.factory.grad else "")
        )
        return pause

    def _pass_in_others(self, reached_by: Forward, touch: Touch) -> None:
        """`reached_by` has stopped at an operation. Mark it as passed in every other forward that
        can no longer stop there.

        A forward that is paused inside the operation's module is not watched for it any more. The
        second forward is cancelled where it would run on past a write that it cannot repeat.
        """
        if touch.site.operation is None:
            return
        for forward in self.factory.begun:
            if forward is reached_by:
                continue
            after = forward.pause is not None and forward.pause.site in reached_by.fired
            if not after:
                forward.fired.add(touch.site)
            elif forward is self._behind and has_passed(forward, touch, self.factory.root):
                forward.cancel()
                self._behind = None

    def _take_over(self, forward: Forward) -> None:
        """Make a forward that has passed all sites whose values were handed out the main one.

        The old main forward would not repeat what is written at this one's pause: it has passed
        that site already, or does not see it.
        """
        if self._main is not None:
            self._main.cancel()
        self._main = forward
        if self._behind is forward:
            self._behind = None

    def look(self, site: Site, ancestry: list[nn.Module], name: str) -> Any:
        """What a module gives, by a forward of its own that ends there; `None` if it never runs."""
        raw = self.factory.look(site, ancestry, self._late_write)
        self.report.notices.append(
            f"What {name} returns was not known: a forward was run as far as there to see."
        )
        return raw

    def _run_to(self, forward: Forward, touch: Touch, ancestry: list[nn.Module]) -> Pause | None:
        """Let a forward run on to a site, past blocks that are known from earlier forwards."""
        if touch.kind == "input":
            # The user may skip the module having seen its input.
            self.factory.bypasses.watch(ancestry[-1])
        forward.attend(touch.site, ancestry)
        # It may not know yet what was touched by way of another forward.
        if self._looks_back or len(self.factory.begun) > 1:
            for earlier in self.report.touches:
                forward.attend(earlier.site)
        if self._shortcut is not None and not self.factory.grad:
            self._shortcut.take(forward, touch, self.report)
        return forward.run_to(touch.site)

    def _check_operation(self, forward: Forward, touch: Touch) -> None:
        """Say at once that a module that has run has no such operation."""
        listing = forward.listing(touch.site) if touch.site.operation is not None else None
        if listing is not None and listing.complete and touch.site not in forward.fired:
            raise NoSuchOperationError(no_such_operation(touch, listing.counts()))

    # ── what goes wrong ──────────────────────────────────────────────────────────────────

    def _passer(self, forward: Forward) -> Touch | None:
        """The first touch whose value was handed out and that `forward` has still ahead."""
        return next((t for t in self.report.touches if t.site not in forward.fired), None)

    def _late_write(self, pause: Pause) -> str | None:
        """Why a write comes too late: which line ran past it, and what to do; `None` if in time."""
        if self._still_ahead(pause):
            if pause not in self._reopened:
                self._reopened.append(pause)
            return None
        return self._too_late(pause)

    def _still_ahead(self, pause: Pause) -> bool:
        """Whether the forward went on for something that ran before, so that nothing depends on it.

        Then the main forward has been begun anew and has the written site still ahead, and all that
        was handed out is known to run before it.
        """
        main, site = self._main, pause.site
        if not pause.passed or self._looks_back or main is None or main.pause is None:
            return False
        others = [each.site for each in self.report.touches if each.site != site]
        if site.operation is not None or any(each.operation is not None for each in others):
            return False
        return site not in main.fired and all(
            each in main.fired or (each, site) in self._order for each in others
        )

    def _too_late(self, pause: Pause) -> str:
        touches, touch = self.report.touches, pause.touch
        passer = pause.passer
        assert touch is not None, "what was written was handed out"
        if passer is None and touch in touches:
            later = touches[touches.index(touch) + 1 :]
            passer = next((t for t in later if (t.site, touch.site) not in self._order), None)
        return too_late(touch, passer)

    def check_unseen_writes(self) -> None:
        """At the end of the block: refuse writes that no function of torch has shown.

        Raises:
            AlreadyRanError: a value was written when the forward had gone on past it.
        """
        self._settle_reopened()
        for pause in self._pauses:
            if pause.written_unseen():
                raise AlreadyRanError(
                    f"{self._too_late(pause)}\n"
                    "It was seen at the end of the block: the write came through memory that numpy "
                    "or another library shares, or through torch.func."
                )

    def explain(self, error: BaseException) -> None:
        """Say what torch and numpy cannot know: why there is no graph, why an array is read-only.

        `torch.autograd.backward` asks nobody before it fails, unlike the method of tensors.
        """
        no_graph = type(error) is RuntimeError and "does not require grad" in str(error)
        if no_graph and not self.factory.grad:
            error.add_note(NOT_RECORDED)
        lent = [pause.describe() for pause in self._pauses if pause.lent]
        if isinstance(error, ValueError) and "read-only" in str(error) and lent:
            error.add_note(numpy_lent(lent[0]))
