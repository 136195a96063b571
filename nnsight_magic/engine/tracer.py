"""`with model.trace(...)`: the block runs in place, the forward is what gets suspended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nnsight_magic.engine.bypass import Bypasses, hidden_of
from nnsight_magic.engine.forward import Forward
from nnsight_magic.engine.pause import Change, Pause, fit
from nnsight_magic.engine.shortcut import Shortcut, in_block_layout
from nnsight_magic.engine.site import Site, Touch, user_frame, user_line
from nnsight_magic.engine.traceback import fold_frames
from nnsight_magic.engine.value import BlockValue, Parts, Value
from nnsight_magic.errors import NeverRanError

if TYPE_CHECKING:
    from nnsight_magic.engine.handle import Handle
    from nnsight_magic.engine.wrapped import Model

# Names whose use in the block's function says that gradients are wanted.
_GRADIENT_NAMES = frozenset({"backward", "grad", "requires_grad_", "autograd", "retain_grad"})


@dataclass
class RunReport:
    """What a trace did: for the reader of a result, and for tests.

    `blocks_run` of `blocks` were run by the main forward; `stopped_at` names the last thing
    that ran when the forward ended early, `resumed_at` the first block that ran when the ones
    before it were known from an earlier forward; `forwards` counts the forwards that were needed.
    """

    blocks: int = 0
    blocks_run: int = 0
    blocks_skipped: int = 0
    stopped_at: str | None = None
    resumed_at: str | None = None
    seconds: float = 0.0
    forwards: int = 0
    touches: list[Touch] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


class Tracer:
    """One trace: the forwards that serve it, and the order in which sites were touched.

    Args:
        model: the wrapped model.
        call: runs the model on the prepared inputs, once.
        prompts: the prompts as text, where they were given so.
        inputs: what the model is called with, such as `input_ids` `(batch, tokens)`.
        full: run the forward to its end even where nothing later is wanted.
        grad: record for autograd; `None` looks whether the block's function asks for gradients.
    """

    def __init__(
        self,
        model: Model,
        call: Callable[[], Any],
        *,
        prompts: list[str] | None = None,
        inputs: dict[str, Any] | None = None,
        full: bool = False,
        grad: bool | None = None,
        random: bool = False,
        shortcut: Shortcut | None = None,
    ):
        self.model = model
        self.prompts = prompts
        self.inputs = inputs or {}
        self.report = RunReport()
        self.step = 0
        self._call, self._full, self._grad = call, full, grad
        self._random = random
        self._shortcut = shortcut
        self._bypasses = Bypasses()
        self._main: Forward | None = None  # the forward whose end is the end of the trace
        self._behind: Forward | None = None  # one that serves reads of what has already run
        self._pauses: list[Pause] = []
        self._written: dict[Site, list[Change]] = {}
        self._own_steps: dict[nn.Module, int] = {}
        self._rng: Any = None
        self._open = False
        self._user_grad = True
        self._began = 0.0

    @property
    def input_ids(self) -> torch.Tensor | None:
        """The token ids `(batch, tokens)`, or `None` for a model that takes none."""
        return self.inputs.get("input_ids")

    @property
    def attention_mask(self) -> torch.Tensor | None:
        """`(batch, tokens)`, 1 where a token is and 0 where padding is; `None` without padding."""
        return self.inputs.get("attention_mask")

    # ── the block ────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> Tracer:
        if self._grad is None:
            frame = user_frame()
            names = frame.f_code.co_names if frame is not None else ()
            self._grad = not _GRADIENT_NAMES.isdisjoint(names)
        self.model._begin(self)
        self._open = True
        self._began = time.perf_counter()
        self._user_grad = torch.is_grad_enabled()
        torch._C._set_grad_enabled(bool(self._grad))
        if self._random:
            self._rng = _random_state()
        return self

    def __exit__(self, kind, error, traceback) -> bool:
        stopped = kind is not None and issubclass(kind, _Stopped) and error.tracer is self
        try:
            if kind is None:
                self._leave()
            self._describe_extent()
        except BaseException as late:
            error = late
            raise
        finally:
            self._close()
            if error is not None and not stopped:
                fold_frames(error)
        return stopped

    def stop(self) -> None:
        """End the forward here and leave the block; what follows in the block does not run."""
        raise _Stopped(self)

    def _leave(self) -> None:
        """The block is over: run what is still wanted."""
        if self._full:
            self._finish()

    def _finish(self) -> Any:
        """Run the main forward to its end; the result of the call."""
        if self._main is None:
            self._main = self._new_forward()
        return self._main.finish()

    def _close(self) -> None:
        """Cancel and unhook everything, whatever happened; a second interrupt does not stop it."""
        interrupt: KeyboardInterrupt | None = None
        while self._open:
            try:
                torch._C._set_grad_enabled(self._user_grad)
                for forward in (self._main, self._behind):
                    if forward is not None:
                        forward.cancel()
                self._main = self._behind = None
                self._bypasses.close()
                for pause in self._pauses:
                    pause.close()
                self._pauses.clear()
                self._written.clear()
                for touch in self.report.touches:
                    touch.site = None
                self.report.seconds = time.perf_counter() - self._began
                self._call = self._rng = None
                self.model._end(self)
                self._open = False
            except KeyboardInterrupt as again:
                interrupt = again
        if interrupt is not None:
            raise interrupt

    # ── touching ─────────────────────────────────────────────────────────────────────────

    def read(self, handle: Handle, kind: str, path: tuple = (), raw: bool = False) -> Any:
        """The value of a site: runs the model that far."""
        pause = self._reach(handle, kind)
        if kind == "output" and not raw and handle.is_block:
            path, cls = _hidden_states(pause, path), BlockValue
        else:
            cls = Value
        return pause.take(path, cls)

    def write(self, handle: Handle, kind: str, new: Any, path: tuple = (), raw: bool = False) -> None:
        """Let `new` flow on at a site; the model is run that far first."""
        pause = self._reach(handle, kind)
        if kind == "output" and not raw and handle.is_block:
            if isinstance(new, tuple | list) and isinstance(pause.part(()), torch.Tensor):
                new = new[0]  # the tuple that a block of an older transformers would return
            if not isinstance(new, tuple | list):
                path = _hidden_states(pause, path)
        pause.put(path, new, check=not raw)

    def read_input(self, handle: Handle) -> Any:
        """The first argument of a module."""
        pause = self._reach(handle, "input")
        return pause.take(_first_argument(pause, handle))

    def write_input(self, handle: Handle, new: Any) -> None:
        """Let `new` flow in as the first argument."""
        pause = self._reach(handle, "input")
        pause.put(_first_argument(pause, handle), new)

    def skip(self, handle: Handle, value: Any) -> None:
        """Do not run a module: `value` is what it gives."""
        if self._main is None:
            self._main = self._new_forward()
        module, given = handle.module, []

        def produce(args: tuple, kwargs: dict) -> Any:
            raw = value.value if isinstance(value, Parts) else value
            if handle.is_block and isinstance(raw, torch.Tensor | int | float):
                raw = in_block_layout(module, fit(raw, hidden_of(args, kwargs), f"{handle.name}.skip"))
            given.append(raw)
            return raw

        self._main.bypass(module, produce)
        try:
            pause = self._reach(handle, "output")
            if not given:
                pause.passer = pause.passer or pause.touch
            pause.put((), given[0] if given else None, check=False)
        finally:
            if self._main is not None:
                self._main.unbypass(module)

    def advance(self, handle: Handle) -> None:
        """`handle.next()`: only a generation has further steps."""
        raise NeverRanError(
            "next() moves on to the next step of a generation, and a trace is one forward.\n"
            "Use: with model.generate(prompt, max_new_tokens=…) as tracer."
        )

    def _reach(self, handle: Handle, kind: str) -> Pause:
        """Bring a forward to a site: the one that is under way, or another from the start."""
        line = handle.ancestors()
        module = line[-1]
        if isinstance(module, nn.ModuleList | nn.ModuleDict | nn.ParameterList):
            raise NeverRanError(
                f"{handle.name} is a {type(module).__name__}: it holds modules and is never called, "
                f"so it has no {kind}.\nIndex it, such as {handle.name}[0].{kind}."
            )
        step = self._own_steps.get(module, self.step) if self._own_steps else self.step
        touch = Touch(
            handle.name,
            kind,
            step,
            user_line(),
            handle.parts,
            site=Site(module, kind, step, handle.call),
        )
        pause = self._ahead(touch, line) or self._again(touch, line)
        if pause.touch is None:
            pause.touch = touch
            self._pauses.append(pause)
            self.report.touches.append(touch)
        return pause

    def _ahead(self, touch: Touch, line: list[nn.Module]) -> Pause | None:
        """Run a forward on to the touched site, if one has it still ahead."""
        site = touch.site
        if self._main is None:
            self._main = self._new_forward()
        forwards = (self._main,) if self._behind is None else (self._main, self._behind)
        for forward in forwards:
            if forward.pause is not None and forward.pause.site == site:
                return forward.pause
        for forward in forwards:
            ahead = not (forward.finished or site in forward.fired or self._has_passed(forward, touch))
            pause = self._run_to(forward, touch, line) if ahead else None
            if pause is not None:
                if self.report.forwards > 1:
                    pause.passer = self._passer(forward)
                return pause
            forward.fired.add(site)  # whether or not it was seen, it lies behind
        return None

    def _again(self, touch: Touch, line: list[nn.Module]) -> Pause:
        """A forward from the start, for a site that every running one has left behind."""
        forward = self._new_forward()
        pause = self._repeat(forward, touch, line)
        if pause is None:
            forward.cancel()
            raise NeverRanError(_never_ran(touch))
        pause.passer = self._passer(forward)
        if self._main.finished:
            self._main.close()
            self._main = forward
        else:
            if self._behind is not None:
                self._behind.cancel()
            self._behind = forward
        after = f"after {pause.passer.where}" if pause.passer else "when it had run already"
        self.report.notices.append(
            f"{touch.where} was read {after}: the forward was run again as far as there."
        )
        return pause

    def _run_to(self, forward: Forward, touch: Touch, line: list[nn.Module]) -> Pause | None:
        """Let a forward run on to a site, past blocks that are known from earlier forwards."""
        if touch.kind == "input":
            self._bypasses.watch(line[-1])  # the user may skip the module having seen its input
        forward.hook(line, touch.kind)
        if self.report.forwards > 1:  # it may not know yet what was touched by way of another
            for earlier in self.report.touches:
                forward.hook([earlier.site.module], earlier.site.kind)
        if self._shortcut is not None and not self._grad:
            self._shortcut.take(forward, touch, self.report)
        return forward.run_to(touch.site)

    def _repeat(self, forward: Forward, touch: Touch, line: list[nn.Module]) -> Pause | None:
        """Run a second forward with the random numbers of the first."""
        if self._rng is None:
            return self._run_to(forward, touch, line)
        now = _random_state()
        _set_random_state(self._rng)
        try:
            return self._run_to(forward, touch, line)
        finally:
            _set_random_state(now)

    def _new_forward(self) -> Forward:
        self.report.forwards += 1
        return Forward(
            self._call,
            self.model.module,
            self._late_write,
            bypasses=self._bypasses,
            written=self._written,
            grad=bool(self._grad),
        )

    def _has_passed(self, forward: Forward, touch: Touch) -> bool:
        """Whether the forward has left `site` behind, as far as the order of blocks tells."""
        pause, site = forward.pause, touch.site
        if pause is None:
            return False
        if site.step != pause.site.step:
            return site.step < pause.site.step
        if pause.touch is None:
            return False
        here, there = pause.touch.parts, touch.parts
        if here[: len(there)] == there:  # it stands inside the touched module, or at it
            return site.kind == "input"
        if there[: len(here)] == here:  # the touched module lies inside the one it stands at
            return pause.site.kind == "output"
        return _before(there, here, self.model.module)

    # ── what goes wrong ──────────────────────────────────────────────────────────────────

    def _passer(self, forward: Forward) -> Touch | None:
        """The first touch whose value was handed out and that `forward` has still ahead."""
        return next((t for t in self.report.touches if t.site not in forward.fired), None)

    def _late_write(self, pause: Pause) -> str:
        """Why a write comes too late: which line ran past it, and what to do."""
        touches, touch = self.report.touches, pause.touch
        passer = pause.passer
        if passer is None and touch in touches:
            passer = next(iter(touches[touches.index(touch) + 1 :]), None)
        lines = [f"{touch.where} was written after the forward had gone on past it."]
        if passer is not None:
            at = f"Line {passer.line}" if passer.line else "Reading"
            lines.append(f"{at} ran past it, for {passer.where}, which was computed without the write.")
            lines.append(f"Write to {touch.where} before {passer.where} is read.")
        lines.append("For a change that stays out of the model, work on a copy: h = h.clone().")
        return "\n".join(lines)

    # ── the report ───────────────────────────────────────────────────────────────────────

    def _describe_extent(self) -> None:
        """How far the main forward came, told from where it stands."""
        report, main = self.report, self._main
        report.blocks = len(self.model.blocks)
        if main is None:
            report.stopped_at = "the start"
            return
        report.blocks_run = self._blocks_reached(main) - report.blocks_skipped

    def _blocks_reached(self, main: Forward) -> int:
        names, report = self.model.names, self.report
        site = main.pause.site if main.pause is not None else None
        if site is None or (site.module is self.model.module and site.kind == "output"):
            return report.blocks
        touch = main.pause.touch
        report.stopped_at = touch.where if touch else f"step {site.step}"
        path = ".".join(touch.parts) if touch else ""
        index = names.block_index(path)
        if index is not None:
            return index + (not names.is_block(path) or site.kind == "output")
        return report.blocks if path != names.embed and names.layers is not None else 0


class _Stopped(BaseException):
    """`tracer.stop()`: leaves the block, and the block alone."""

    def __init__(self, tracer: Tracer):
        self.tracer = tracer


def _hidden_states(pause: Pause, path: tuple) -> tuple:
    """The path of the hidden states in a block's raw output: the tensor, or item 0 of a tuple."""
    raw = pause.part(())
    return (0, *path) if isinstance(raw, tuple | list) and raw else path


def _first_argument(pause: Pause, handle: Handle) -> tuple:
    """Where the first argument stands in `(args, kwargs)`: some modules are called by keyword."""
    args, kwargs = pause.part(())
    if args:
        return (0, 0)
    if kwargs:
        return (1, next(iter(kwargs)))
    raise NeverRanError(f"{handle.name} is called without arguments, so it has no input.")


def _never_ran(touch: Touch) -> str:
    if touch.step:
        return (
            f"{touch.where} never came: the forward ended before.\n"
            "Ask for a step that the generation reaches (see max_new_tokens)."
        )
    times = f" a call number {touch.site.call}" if touch.site.call else ""
    return (
        f"{touch.name} ({type(touch.site.module).__name__}) did not run{times} in this forward, so "
        f"it has no {touch.kind}.\nThe model does not call this module on this input. "
        "Touch a module that runs: its parent, or one of its children."
    )


def _before(path: tuple[str, ...], other: tuple[str, ...], root: nn.Module) -> bool:
    """Whether `path` runs before `other`, where the order of a list of modules tells."""
    for depth, (ours, theirs) in enumerate(zip(path, other, strict=False)):
        if ours == theirs:
            continue
        if not (ours.isdigit() and theirs.isdigit()) or int(ours) > int(theirs):
            return False
        parent = root.get_submodule(".".join(path[:depth]))
        return isinstance(parent, nn.ModuleList | nn.Sequential)
    return False


def _random_state() -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), cuda


def _set_random_state(state: tuple[torch.Tensor, Sequence[torch.Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(list(state[1]))
