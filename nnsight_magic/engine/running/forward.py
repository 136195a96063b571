"""One forward pass that is suspended wherever the user touches it.

The model runs in a coroutine. `run_to(site)` lets it run until that site is reached and gives
back a `Pause`; the model stands still inside the hook until the next `run_to`, `finish` or
`cancel`. Hooks sit on touched modules and their ancestors alone (a module that is already
running does not look at hooks that it gets later, so the ancestors must have theirs before).
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from nnsight_magic.engine.insides import torch_insides
from nnsight_magic.engine.running.bypass import RUNS, Bypasses, Produce
from nnsight_magic.engine.running.called_again import called_again
from nnsight_magic.engine.running.coroutine import Coroutine, coroutine, current, own_thread
from nnsight_magic.engine.running.dispatch import alone_in_dispatch
from nnsight_magic.engine.running.hooks import take_away
from nnsight_magic.engine.running.interrupt import uninterrupted, watch
from nnsight_magic.engine.running.operation_mode import Listing, OperationMode
from nnsight_magic.engine.running.randomness import Drawing
from nnsight_magic.engine.running.thread_state import ThreadState
from nnsight_magic.engine.sites.site import Operation, Site
from nnsight_magic.engine.values.changes import Change, apply_changes
from nnsight_magic.engine.values.pause import Pause


def _uncompiled(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
    original: Any = module._modules[torch_insides.COMPILED]
    return original(*args, **kwargs)


class Cancelled(BaseException):
    """Thrown into a suspended forward that nobody needs any more."""


class Forward:
    """A suspended call of a model.

    Args:
        call: runs the model, once.
        root: the module that `call` runs. Every call of it begins a new step, unless one of
            `beginners` was called before it: then the calls of that one do.
        bypasses: the modules of this trace that are not run.
        written: the writes of the trace so far. Those on the way are repeated, and what is
            written at a pause of this forward is added.
        drawing: where its random numbers come from, if it draws any.
    """

    def __init__(
        self,
        call: Callable[[], Any],
        root: nn.Module,
        late_write: Callable[[Pause], str | None],
        *,
        bypasses: Bypasses,
        written: dict[Site, list[Change]],
        grad: bool = False,
        drawing: Drawing | None = None,
    ):
        self.root = root
        self.beginners = {root}
        self.began: nn.Module | None = None  # the one of them whose calls are counted
        self.result: Any = None
        self.step = -1
        self.fired: set[Site] = set()
        self.left_out: set[int] = set()  # blocks that are known and are not run
        self.written = written
        self.replaced = False  # a module was not run: what comes behind it is not the model's own
        self.replacing: Site | None = None
        self.known_as: Any = None  # what its block outputs are remembered by, if they are
        self.pause: Pause | None = None
        self._call: Any = call
        self._late_write: Any = late_write
        self._drawing = drawing
        self._grad = grad
        self._awaited: set[Site] = set()
        self._calls: dict[tuple[nn.Module, str], int] = {}
        self._hooks: dict[tuple[nn.Module, str], Any] = {}  # `None` while one is being registered
        self._edits: dict[
            tuple[nn.Module, str, Operation | None], list[Callable[[Any, int, int], Any]]
        ] = {}
        self._late: dict[tuple[nn.Module, str], list[nn.Module]] = {}
        self._recorders: dict[nn.Module, Callable[[Any, tuple, dict], None]] = {}
        self._observers: dict[tuple[nn.Module, str], Callable[[Site, Any], None]] = {}
        self._listings: dict[tuple[nn.Module, int, int], Listing] = {}
        self._bypasses = bypasses
        self._user: Any = None  # the coroutine that the model gives way to
        self._coroutine: Any = coroutine(self._run)
        self._thread = own_thread()
        self._state = ThreadState.capture().on_a_stack_of_its_own()._replace(grad=grad)
        self.autocast = self._state.autocast
        self.started = self.finished = False

    @property
    def whole(self) -> Forward:
        """What carries out edits that are of the whole batch: the forward itself."""
        return self

    def hook(self, ancestry: list[nn.Module], kind: str) -> None:
        """Watch the input or output of the last module of `ancestry`, which begins at the root.

        The modules above it get a hook on their output, whether or not it is ever asked for, and so
        do those right inside that they may call more than once: when one of them is touched while
        its parent is under way, it is known how often it has been called there.
        """
        if (ancestry[-1], kind) in self._hooks:
            return
        again = [child for module in ancestry[:-1] for child in called_again(module)]
        for module in (*ancestry, *again):
            if torch_insides.compiled_call(module) is not None or "forward" in module.__dict__:
                self._bypasses.uncompile(module)
        for module in ancestry[:-1]:
            if torch_insides.COMPILED in module._modules:  # no hook fires in there
                self.bypass(module, partial(_uncompiled, module))
            self._hook(module, "output")
        for module in again:
            self._hook(module, "output")
        self._hook(ancestry[-1], kind)
        if self.started:
            self._late[ancestry[-1], kind] = ancestry[:-1]

    def attend(self, site: Site, ancestry: list[nn.Module] | None = None) -> None:
        """Hook what `site` needs; `ancestry` goes from the root down to its module, where known.

        For an operation the module's forward is watched. The modules right inside it get hooks
        too: they tell how far the forward is when it is paused at an operation.
        """
        if site.operation is None:
            self.hook(ancestry or [site.module], site.kind)
            return
        self.hook(ancestry or [site.module], "output")
        for child in site.module.children():
            for inner in child if isinstance(child, nn.ModuleList) else (child,):
                self._hook(inner, "output")
        self._bypasses.surround(
            self._coroutine, site.module, partial(self._run_watched, site.module)
        )

    def listing(self, site: Site) -> Listing | None:
        """The operations of the call that `site` lies in, if it has begun and is watched."""
        return self._listings.get((site.module, site.step, site.call))

    def has_left(self, site: Site, below: tuple[str, ...], module: nn.Module) -> bool:
        """Whether the module at the path `below` an attended one has run in the call of that."""
        for part in below:
            module = module._modules[part]  # pyright: ignore[reportAssignmentType] - it is there
            if Site(module, "output", site.step, site.call) in self.fired:
                return True
        return False

    @uninterrupted
    def _hook(self, module: nn.Module, kind: str) -> None:
        if (module, kind) in self._hooks:
            return
        register = (
            module.register_forward_pre_hook if kind == "input" else module.register_forward_hook
        )
        act = self._on_input if kind == "input" else self._on_output
        self._hooks[module, kind] = None  # noted before it is there: see `_unhook`
        self._hooks[module, kind] = register(act, with_kwargs=True)
        if kind == "output":
            self._bypasses.let_captures_follow(module)

    def _unhook(self) -> None:
        """Take every hook away, also one whose registration an exception has cut short."""
        for (module, kind), hook in self._hooks.items():
            if hook is not None:
                hook.remove()
            else:
                take_away(module, self._on_input if kind == "input" else self._on_output)
        self._hooks.clear()

    @property
    def awaited_step(self) -> int:
        """The step that the user is waiting for, -1 if none."""
        return max((site.step for site in self._awaited), default=-1)

    def runs_in(self, here: Coroutine) -> bool:
        """Whether this forward's model is what runs in a coroutine."""
        return self._coroutine is here

    def bypass(self, module: nn.Module, produce: Produce) -> None:
        """Let the module's calls that have not begun give what `produce` gives instead."""
        self._bypasses.add(self._coroutine, module, produce)

    def unbypass(self, module: nn.Module) -> None:
        """Let the module run again."""
        self._bypasses.remove(self._coroutine, module)

    def replace(self, site: Site, produce: Produce) -> None:
        """Let one call of a module, whose output is `site`, give what `produce` gives instead.

        That is a write: nothing behind it is remembered.
        """

        def produced(args: tuple, kwargs: dict[str, Any]) -> Any:
            if (max(self.step, 0), self._next_call(site.module, "output")) != site[2:4]:
                return RUNS
            self.replaced = True
            return produce(args, kwargs)

        self.replacing = site
        self.bypass(site.module, produced)

    def end_replacing(self) -> None:
        """Let further calls of the module run."""
        if self.replacing is not None:
            self.unbypass(self.replacing.module)
        self.replacing = None

    def record(self, ancestry: list[nn.Module], keep: Callable[[Any, tuple, dict], None]) -> None:
        """Let `keep(output, args, kwargs)` see a call of the last module of `ancestry`.

        Not if something was written or left out before it.
        """
        self.hook(ancestry, "output")
        self._recorders[ancestry[-1]] = keep

    def edit(
        self,
        ancestry: list[nn.Module],
        kind: str,
        change: Callable[[Any, int, int], Any],
        operation: Operation | None = None,
    ) -> None:
        """Let `change(value, step, call)` replace what the last module of `ancestry` gives.

        Or for what goes into an operation of it, or comes out of one.
        """
        module = ancestry[-1]
        self.attend(Site(module, kind, 0, 0, operation), ancestry)
        self._edits.setdefault((module, kind, operation), []).append(change)

    def observe(self, module: nn.Module, kind: str, seen: Callable[[Site, Any], None]) -> None:
        """Show `seen` what flows on at every call of a module, writes included."""
        self._hook(module, kind)
        self._observers[module, kind] = seen

    def run_to(self, site: Site) -> Pause | None:
        """Run until `site` is reached; `None` if the forward ends without coming there."""
        if self.pause is not None and self.pause.site == site:
            return self.pause
        return self.run_to_any({site})

    def run_to_any(self, sites: set[Site]) -> Pause | None:
        """Run until the first of several sites is reached; `None` if none of them comes."""
        self._awaited = sites
        self._resume()
        return self.pause

    def settle(self) -> None:
        """Note what was written at the present pause, for another forward to repeat."""
        if self.pause is not None and self.pause.written:
            self._note(self.pause)

    def finish(self) -> Any:
        """Run to the end; the result of the call."""
        self._awaited = set()
        while not self.finished:
            self._resume()
        return self.result

    def cancel(self) -> None:
        """End the forward where it is paused and take its hooks away."""
        try:
            # Of another thread's forward (a generator that is collected elsewhere) only the hooks
            # can be taken away: greenlet ends it when its own thread comes by.
            under_way = self.started and not self.finished and self._coroutine is not None
            if under_way:
                self._bypasses.cut_short(self.root)
            if under_way and self._thread == own_thread():
                self._awaited = set()
                self._resume(Cancelled)  # an instance here would hold its own traceback
        except (Cancelled, Exception):
            pass  # what a model raises on its way out concerns nobody any more
        except KeyboardInterrupt:
            watch.noted = True
        finally:
            self.close()

    def close(self) -> None:
        """Take every hook away, and let go of the model's tensors."""
        self._unhook()
        self.fired.clear()
        self._calls.clear()
        self._recorders.clear()
        self._edits.clear()
        self._observers.clear()
        self._listings.clear()
        self._bypasses.forget(self._coroutine)
        self.pause = self._call = self._user = self._coroutine = self._late_write = None

    @uninterrupted
    def _resume(self, error: type[BaseException] | None = None) -> None:
        """Let the model run until it is paused again or ends."""
        if self._thread != own_thread():
            raise RuntimeError(
                "This trace was begun in another thread, and belongs to it: begin one in this one."
            )
        if not self.started:
            self._coroutine.gr_context = contextvars.copy_context()
            self.started = True
        watch.deliver()
        user = current()
        if user is not self._user:
            self._user = self._coroutine.parent = user
        mine = ThreadState.capture()
        try:
            if mine.inference != self._state.inference:
                with self._state.inference_guard():
                    self._switch(mine, error)
            else:
                self._switch(mine, error)
        finally:
            if self._coroutine.dead:
                self.finished, self.pause = True, None

    def _switch(self, mine: ThreadState, error: type[BaseException] | None) -> None:
        """Into the model and back, each side with its own grad mode and autocast."""
        theirs = self._state
        try:
            theirs.restore(mine)
            if self._drawing is not None:
                self._drawing.enter(None if self.pause is None else self.pause.site)
            try:
                if error is None:
                    self._coroutine.switch()
                else:
                    self._coroutine.throw(error)
            finally:
                if self._drawing is not None:
                    self._drawing.leave()
        finally:
            self._state = ThreadState.capture()
            mine.restore(self._state)

    def _run(self) -> None:
        self.result = self._call()

    # Hooks fire for whoever calls the module; only calls out of this coroutine count. A module
    # whose hooks are being called goes on to those that were removed meanwhile (by the end of
    # another forward), without kwargs: hence the defaults.

    def _on_input(self, module: nn.Module, args: tuple, kwargs: Any = None):
        if current() is not self._coroutine:
            return None
        if module in self.beginners and (self.began or module) is module:
            self.began = module
            self.step += 1
            self._calls.clear()
            self._late.clear()
        return self._arrive(module, "input", (args, kwargs))

    def _on_output(self, module: nn.Module, args: tuple, kwargs: Any, output: Any = None):
        if current() is not self._coroutine:
            return None
        if self._recorders:
            keep = self._recorders.pop(module, None)
            if keep is not None and not (self.written or self.replaced):
                keep(output, args, kwargs)
        return self._arrive(module, "output", output)

    def _arrive(self, module: nn.Module, kind: str, raw: Any) -> Any:
        """A hooked module is at a site."""
        site = Site(module, kind, max(self.step, 0), self._count(module, kind))
        value = self._stand(site, raw)
        if self._observers:
            seen = self._observers.get((module, kind))
            if seen is not None:
                seen(site, value)
        return None if value is raw else value

    def _calls_unseen(self, module: nn.Module, kind: str, call: int) -> int:
        """The number of this call of a module that was hooked when the forward had begun.

        Where a module above it has returned since the step began, it has probably run then. A
        number that is too high does no harm: the site is looked for in a forward from the start.
        """
        above = self._late.get((module, kind), ())
        return max([call, *(self._calls.get((each, "output"), -1) + 1 for each in above)])

    def _next_call(self, module: nn.Module, kind: str) -> int:
        calls = self._calls
        # What is asked for later than the other is counted on from it.
        other = calls.get((module, "input"), 0) - 1 if kind == "output" else None
        other = calls.get((module, "output"), -1) if other is None else other
        call = max(calls.get((module, kind), -1), other) + 1
        return self._calls_unseen(module, kind, call) if self._late else call

    def _count(self, module: nn.Module, kind: str) -> int:
        call = self._calls[module, kind] = self._next_call(module, kind)
        return call

    def _stand(self, site: Site, raw: Any) -> Any:
        """At a site: go on, repeat a write, or pause. Returns the value that flows on."""
        self.fired.add(site)
        if self._edits:
            for change in self._edits.get((site.module, site.kind, site.operation), ()):
                raw = change(raw, site.step, site.call)
        replayed = self.written.get(site)
        value = apply_changes(raw, replayed) if replayed else raw
        if site in self._awaited:
            self.pause = pause = Pause(site, value, self._late_write, self._grad)
            pause.repeated = replayed or ()
            try:
                self._user.switch()
            finally:
                value, self.pause = pause.leave(), None
            if pause.changes:
                self._note(pause)
        if self._drawing is not None:
            self._drawing.pass_by(site)
        return value

    def _note(self, pause: Pause) -> None:
        self.written[pause.site] = [*pause.repeated, *pause.changes]

    def _run_watched(self, module: nn.Module, run: Callable, args: tuple, kwargs: dict) -> Any:
        """Run a module's forward, whose operations are sites too."""
        step, call = max(self.step, 0), self._count(module, "operations")
        listing = self._listings[module, step, call] = Listing()

        def arrive(operation: Operation, kind: str, raw: Any) -> Any:
            site = Site(module, kind, step, call, operation)
            if watched.dispatched is None or site not in self._awaited:
                return self._stand(site, raw)
            with alone_in_dispatch(watched.dispatched):
                return self._stand(site, raw)

        def wanted(*operations: Operation) -> bool:
            kinds = ("input", "output")
            sites = [Site(module, kind, step, call, o) for o in operations for kind in kinds]
            if any(site in self._awaited or site in self.written for site in sites):
                return True
            self.fired.update(sites)  # it has passed, although nobody saw it
            return False

        with OperationMode(arrive, listing, module, self.root, wanted) as watched:
            result = watched.run(run, args, kwargs)
        listing.complete = True
        if self._awaited and all(
            site.operation is not None
            and (site.module, site.step, site.call) == (module, step, call)
            and site not in self.fired
            for site in self._awaited
        ):
            self._user.switch()  # it is not there: nobody has to run to the end to know
        return result
