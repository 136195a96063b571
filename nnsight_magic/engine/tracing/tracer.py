"""`with model.trace(...)`: the block runs in place, the forward is what gets suspended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from nnsight_magic.engine.insides import torch_insides
from nnsight_magic.engine.memory.shortcut import Shortcut
from nnsight_magic.engine.places.named_operation import operation_place
from nnsight_magic.engine.places.spellings import Given, OlderSpellings, explain
from nnsight_magic.engine.running.block_layout import in_block_layout, layout_of, learn
from nnsight_magic.engine.running.bypass import hidden_of
from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.engine.running.interrupt import interruptible, uninterrupted, watch
from nnsight_magic.engine.running.lifeline import watched_exit
from nnsight_magic.engine.running.thread_state import UsersGradMode
from nnsight_magic.engine.sites.caller import user_frame, user_line
from nnsight_magic.engine.sites.report import RunReport
from nnsight_magic.engine.sites.site import BOTH, Site, Touch
from nnsight_magic.engine.tracing.cache import Cache, modules_of
from nnsight_magic.engine.tracing.chosen_steps import ChosenSteps, Steps
from nnsight_magic.engine.tracing.extent import describe_extent
from nnsight_magic.engine.tracing.forward_factory import ForwardFactory
from nnsight_magic.engine.tracing.forwards import Forwards
from nnsight_magic.engine.tracing.invoke import Invoke, Invokes
from nnsight_magic.engine.tracing.own_calls import OwnCalls
from nnsight_magic.engine.tracing.token_texts import TextsOfRun
from nnsight_magic.engine.tracing.traceback import fold_frames
from nnsight_magic.engine.tracing.wants_gradients import wants_gradients
from nnsight_magic.engine.tracing.written import Written, written_in
from nnsight_magic.engine.values.changes import Change
from nnsight_magic.engine.values.containers import path_of_first
from nnsight_magic.engine.values.fit import fit
from nnsight_magic.engine.values.parts import Parts
from nnsight_magic.engine.values.pause import Pause
from nnsight_magic.engine.values.value import BlockValue, HiddenStates, Value, handed_out
from nnsight_magic.errors import BadInputError, NeverRanError, WrongValueError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.named_part import NamedPart
    from nnsight_magic.engine.places.ports import Placed, Root, Tree


class Tracer(OlderSpellings):
    """One trace: `with model.trace(...) as tracer`.

    Attributes:
        model: the wrapped model.
        prompts: the prompts as text, `None` where none was given.
        report: what was run, touched and noticed.

    Args:
        call: runs the model on the prepared inputs, once; `None` for a trace of `invoke` blocks.
        root: the module that `call` runs; the whole model unless one part of it is traced.
        args, inputs: what the model is called with, such as `input_ids` `(batch, tokens)`.
        full: run the forward to its end even where nothing later is wanted.
        grad: record for autograd; `None` looks whether the block asks for gradients.
        again: makes the tracer of an `invoke(inputs)` block.
    """

    is_one_forward = True  # and not the many of a generation
    of_all_prompts = False  # an invoke without a prompt of its own
    rows_of_prompt = 1  # of a batch: a generation may follow several beams

    def __init__(
        self,
        model: Root,
        call: Callable[[], Any] | None,
        *,
        root: nn.Module | None = None,
        args: tuple = (),
        prompts: list[str] | None = None,
        inputs: dict[str, Any] | None = None,
        full: bool = False,
        grad: bool | None = None,
        random: bool = False,
        shortcut: Shortcut | None = None,
        again: Callable[..., Tracer] | None = None,
    ):
        self.model = model
        self.prompts = prompts
        self.args = args
        self.inputs = Given(inputs or {})
        self.report = RunReport()
        self.step = 0
        self._call, self._root, self._full, self._grad = call, root, full, grad
        self._random, self._shortcut, self._again = random, shortcut, again
        # Whoever asks for it is inside the block.
        self._forwards: Forwards = None  # pyright: ignore[reportAttributeAccessIssue]
        self._parent: Tracer | None = None
        self._invokes = Invokes()
        self._invoked: list[Tracer] = []
        self.reads: Callable[[Placed, str], None] | None = None  # called with all that is read
        self._caches: list[Callable[[Forward], None]] = []
        self.own_calls = OwnCalls()
        self._written_before: dict[Site, list[Change]] = {}
        self._own_steps: dict[nn.Module, int] = {}
        self._grad_mode = UsersGradMode()
        self._began = 0.0
        self._entered = False
        self._texts: TextsOfRun | None = None
        self._lifeline: Any = None  # see `lifeline`

    @property
    def input_ids(self) -> torch.Tensor | None:
        """The token ids `(batch, tokens)`, or `None` for a model that takes none."""
        return self.inputs.get("input_ids")

    @property
    def attention_mask(self) -> torch.Tensor | None:
        """`(batch, tokens)`, 1 where a token is and 0 where padding is; `None` without padding."""
        return self.inputs.get("attention_mask")

    @property
    def result(self) -> Value:
        """The whole output of the model, inside the block; in an invoke, of its own run."""
        running = self._running()
        return self.read(self.model, "output") if running is self else running.result

    def _running(self) -> Self:
        """The invoke that is running, where this trace has no run of its own; else this trace."""
        active = self.model._turn.active
        is_invoke = isinstance(active, type(self)) and active._parent is self
        return active if is_invoke and self._call is None else self

    @property
    def wrote(self) -> bool:
        """Whether the block has changed the forward so far."""
        return any(touch.wrote for touch in self.report.touches) or self._forwards.wrote

    # ── the block ────────────────────────────────────────────────────────────────────────

    @uninterrupted
    def __enter__(self) -> Self:
        self._entered = True
        try:
            watch.begin(self)
            self._enter()
            for tell in self._parent._caches if self._parent is not None else ():
                self._fill_cache(tell)
            watch.deliver()
        except BaseException:
            self._close()
            raise
        return self

    def _enter(self) -> None:
        if self._grad is None:
            of_parent = self._parent is not None and self._parent._grad
            self._grad = bool(of_parent) or wants_gradients(user_frame())
        self.model._turn.begin(self, self._parent)
        factory = ForwardFactory(
            self._call or _no_prompt,
            self._root or self.model.module,
            self.report,
            grad=bool(self._grad),
            random=self._random,
        )
        self._forwards = Forwards(factory, self.report, shortcut=self._shortcut)
        factory.written.update(self._written_before)
        edits = self.model.edits.in_force
        if edits:
            self._forwards.run_everything()  # what is remembered was computed without them
            factory.prepare.append(self.model.edits.tell)
            names = ", ".join(edit.name for edit in edits)
            self.report.notices.append(f"Edits in force: {names}.")
        self._began = time.perf_counter()
        self._grad_mode.enter()
        torch_insides.set_grad_enabled(bool(self._grad))

    @watched_exit
    @uninterrupted
    def __exit__(self, kind, error, traceback) -> bool:
        stopped = kind is not None and issubclass(kind, _Stopped) and error.tracer is self
        try:
            if kind is None:
                watch.deliver()
                self._leave()
                self._forwards.check_unseen_writes()
            elif error is not None:
                self._forwards.explain(error)
                explain(error)
            self._describe_extent()
        except BaseException as late:
            error = late
            raise
        finally:
            self._close()
            if error is not None and not stopped:
                fold_frames(error)
        return stopped

    def _describe_extent(self) -> None:
        main, root = self._forwards.last, self._forwards.factory.root
        describe_extent(self.report, main, root, self.model.names, self.model.block_count)

    def stop(self) -> None:
        """End the forward here and leave the block; what follows in the block does not run."""
        raise _Stopped(self)

    @interruptible
    def _leave(self) -> None:
        """The block is over: run what is still wanted."""
        if self._full and self._call is not None:
            self._forwards.main.finish()

    def _close(self) -> None:
        """Cancel and unhook everything, whatever happened; an interrupt waits until it is done.

        What is put away is forgotten afterwards, not before: an exception may rise in between, and
        then this is called again.
        """
        forwards, parent = self._forwards, self._parent
        try:
            if forwards is not None:
                if parent is not None and self not in parent._invoked:
                    forwards.settle()
                    writes = forwards.factory.written
                    parent._invokes.add(Invoke(self.prompts, writes, self.of_all_prompts))
                    parent._invoked.append(self)
                    parent.report.forwards += self.report.forwards
                forwards.close()
                self.own_calls.close()
                self.report.seconds = time.perf_counter() - self._began
                self._forwards = None  # pyright: ignore[reportAttributeAccessIssue]
        finally:
            self._grad_mode.leave()  # behind every switch into the model, which has its own mode
            self.model._turn.end(self, parent)
            self._call = self._again = None
            self._caches.clear()
            watch.end(self)
        self._parent = self._lifeline = None
        self._entered = False

    @uninterrupted
    def _abandon(self) -> None:
        self._lifeline = None
        if self._entered:
            self._close()

    # ── several runs, and many modules ───────────────────────────────────────────────────

    def invoke(self, *inputs: Any, **kwargs: Any) -> Tracer:
        """A block with a run of its own inside this trace, on these inputs.

        Values of one block may be used in the next. Without inputs: all prompts so far as one
        padded batch, with what their own blocks wrote.

        Raises:
            BadInputError: there is no prompt to run.
        """
        if self._again is None:
            raise BadInputError("invoke() belongs into model.trace() or model.generate().")
        if inputs or kwargs:
            tracer = self._again(*inputs, **kwargs)
        else:
            tracer = self._again(self._invokes.prompts())
            tracer.of_all_prompts = True
            tracer._written_before = self._invokes.writes(tracer.attention_mask)
        tracer._parent = self
        return tracer

    def cache(
        self,
        modules: Iterable[Any] | None = None,
        *,
        include_output: bool = True,
        include_inputs: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        detach: bool = True,
    ) -> Cache:
        """Keep copies of what modules give (and are given) from here to the end of the forward.

        Before the invokes of a trace: of each of them, one after another.

        Args:
            modules: handles, paths or names; all modules by default.
            device: move the copies there, such as `"cpu"`.
            dtype: store floating point copies so.
            detach: keep them without their graph.
        """
        cache = Cache(device, dtype, detach, self.model)
        kinds = [
            k for k, wanted in (("output", include_output), ("input", include_inputs)) if wanted
        ]
        chosen = [
            h for h in modules_of(self.model, modules) if not isinstance(h.module, nn.ModuleList)
        ]

        def tell(forward: Forward) -> None:
            for handle in chosen:
                for kind in kinds:
                    forward.hook(handle.ancestors(), kind)
                    forward.observe(
                        handle.module,
                        kind,
                        lambda site, value, h=handle: cache.keep(h.path, h.name, site.kind, value),
                    )

        running = self._running()
        if running._call is None:
            self._caches.append(tell)  # for every invoke that follows
        else:
            running._fill_cache(tell)
        return cache

    def _fill_cache(self, tell: Callable[[Forward], None]) -> None:
        self._forwards.run_everything()
        tell(self._forwards.main)
        self._full = True

    def show_passing(
        self, handles: Iterable[Tree], seen: Callable[[Tree, Site, Any], None]
    ) -> None:
        """Show `seen` what these modules give wherever a forward comes past them.

        Other than for a cache no forward is run any further for it. What is shown is the model's
        own: it has to be copied.
        """
        watched = tuple(handles)

        def tell(forward: Forward) -> None:
            for handle in watched:
                forward.hook(handle.ancestors(), "output")
                forward.observe(
                    handle.module, "output", lambda site, value, h=handle: seen(h, site, value)
                )

        self._forwards.factory.prepare.append(tell)

    def expect(self, values: Iterable[tuple[Tree, str]]) -> None:
        """Watch modules from their start on, for values in them that are read later.

        Some values are operations in a module's forward (`resid_mid`, a pattern), which are counted
        from the start of it. Read when the module is under way already, such a one is read by a
        second forward, to which no gradient leads; one that is expected is read by the first. To be
        called before anything is read.

        Args:
            values: each a handle and the name of a value of it: `(model.layers[3], "resid_mid")`.

        Raises:
            NoSuchModuleError: this architecture has no such value.
        """
        places = [operation_place(handle, name) for handle, name in values]
        touches = [self._touch(place, "output") for place in places if place is not None]

        def tell(forward: Forward) -> None:
            for touch, ancestry in touches:
                forward.attend(touch.site, ancestry)

        self._forwards.factory.prepare.append(tell)

    @property
    def iter(self) -> ChosenSteps[Any]:
        """The steps: of a trace, which is one forward, the one."""
        return ChosenSteps(1, iter, "Several steps are those of a text: model.generate(prompt, …).")

    def all(self) -> Steps[Any]:
        """Every step, as `iter[:]`."""
        return self.iter[:]

    def barrier(self, count: int) -> Callable[[], None]:
        """Accepted for programs that wait for each other elsewhere; blocks run in order here."""
        return lambda: None

    # ── looking back at what was written ─────────────────────────────────────────────────

    def written(self) -> list[Written]:
        """What the block has written so far, a site at a time, as it was first written."""
        self._forwards.settle()
        return written_in(self._forwards.factory.written, self.report.touches)

    def run_again(self, written: Mapping[Site, list[Change]]) -> tuple[Any, dict[Site, Any]]:
        """The model run once more from its start, with these writes in place of the block's.

        Args:
            written: by site, as `Written.changes`; a change may be a function of what stands there.

        Returns:
            What the model gives, and what flows on at each of these sites.
        """
        edits = self.model.edits
        return self._forwards.factory.run_again(written, edits.tell if edits.in_force else None)

    # ── touching ─────────────────────────────────────────────────────────────────────────

    def read(self, handle: Tree, kind: str, path: tuple = (), raw: bool = False) -> Any:
        """The value of a site: runs the model that far."""
        pause = self._reach(handle, kind)
        if self.reads is not None:
            self.reads(handle, kind)
        if kind == "output" and not raw and handle.is_block:
            # `[0]` of a value with a name of its own is its first row, as it is of any tensor.
            cls = BlockValue if handle._called is None else Value
            path = _hidden_states(pause, path)
        else:
            cls = Value
        value = pause.take(path, cls)
        if cls is Value and handle._called is not None and isinstance(value, Value):
            value.where = pause.describe()  # whether or not it is an item of a tuple
        return value

    def write(self, handle: Tree, kind: str, new: Any, path: tuple = (), raw: bool = False) -> None:
        """Let `new` flow on at a site; the model is run that far first."""
        pause = self._reach(handle, kind)
        if kind == "output" and not raw and handle.is_block:
            returned = pause.part(())
            one_item = isinstance(returned, tuple | list) and len(returned) == 1
            alone = one_item or isinstance(
                returned, torch.Tensor
            )  # nothing beside the hidden states
            if isinstance(new, tuple | list) and (alone or isinstance(new, HiddenStates)):
                new = new[0]  # the tuple that a block of an older transformers would return
            if not isinstance(new, tuple | list):
                path = _hidden_states(pause, path)
        pause.put(path, new, check=not raw)

    def read_input(self, handle: Tree) -> Any:
        """The first argument of a module."""
        pause = self._reach(handle, "input")
        if self.reads is not None:
            self.reads(handle, "input")
        return pause.take(_first_argument(pause, handle))

    def write_input(self, handle: Tree, new: Any) -> None:
        """Let `new` flow in as the first argument."""
        pause = self._reach(handle, "input")
        pause.put(_first_argument(pause, handle), new)

    def read_part(self, place: NamedPart) -> Any:
        """A value that has a name of its own."""
        pause = self._reach(place, place.kind)
        if self.reads is not None:
            self.reads(place, place.kind)
        return pause.take(_path_of_part(pause, place))

    def given_to(self, handle: Placed) -> Value | None:
        """What a projection is given, if the forward stands where its heads' results are shown.

        So reading one head's result after another, each by way of what the head gives, runs nothing
        again. It can be read there, and no longer written.
        """
        pause = self._forwards.main.pause if self._forwards.started else None
        site = Site(handle.module, "output", self.step, handle.call, BOTH)
        if pause is None or pause.site != site:
            return None
        given = pause.take((0,))
        given.where = f"{handle.name}.input"
        handed = handed_out(given)
        if handed is not None:
            handed.refusal = (
                f"{given.where} was read behind {pause.describe()}, which was computed from it.\n"
                f"Write to it before {pause.describe()} is read."
            )
        return given

    def write_part(self, place: NamedPart, new: Any) -> None:
        """Let `new` flow on in the place of such a value."""
        pause = self._reach(place, place.kind)
        pause.put(_path_of_part(pause, place), new)

    def skip(self, handle: Tree, value: Any) -> None:
        """Do not run a module: `value` is what it gives."""
        touch, ancestry = self._touch(handle, "output")
        main, module, given = self._forwards.main, handle.module, []
        if handle.is_block:
            self._check_layout(handle, ancestry, value)

        def produce(args: tuple, kwargs: dict) -> Any:
            raw = value.value if isinstance(value, Parts) else value
            if handle.is_block:
                raw = _block_returns(module, raw, hidden_of(args, kwargs), f"{handle.name}.skip")
            given.append(raw)
            return raw

        main.replace(touch.site, produce)
        try:
            pause = self._reach(handle, "output")
            if not given:
                pause.passer = pause.passer or pause.touch
            pause.put((), given[0] if given else None, check=False)
        finally:
            main.end_replacing()

    def _check_layout(self, handle: Tree, ancestry: list[nn.Module], value: Any) -> None:
        """Refuse hidden states alone where the blocks behind need what else a block returns.

        Raises:
            WrongValueError: says what is missing.
        """
        block = ancestry[-1]
        layout = layout_of(block)
        if layout is None:
            raw = self._forwards.look(
                Site(block, "output", max(self.step, 0), 0), ancestry, handle.name
            )
            layout = None if raw is None else learn(block, raw)
        given = len(value) if isinstance(value, tuple | list) else 1
        missing = [] if layout is None else [place for place in layout.more if place >= given]
        if layout is not None and missing:
            raise WrongValueError(
                f"{handle.name} returns a tuple of {layout.length}, and the blocks behind it use "
                f"more of it than the hidden states: item {', '.join(map(str, missing))} too.\n"
                "Give the whole tuple, such as that of the block before: "
                "layers[4].skip(layers[3]._output)."
            )

    def call(self, handle: Tree, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Run a module in the user's own code; of one that they attached, values can be read."""
        if handle.is_attached:
            return self.own_calls.run(handle.module, self.step, args, kwargs)
        return handle.module(*args, **kwargs)

    def model_call(self) -> Callable[[], Any] | None:
        """What runs the model once on the inputs of this trace; `None` where it has several."""
        return self._call if self.is_one_forward else None

    def advance(self, handle: Tree) -> None:
        """`handle.next()`: only a generation has further steps."""
        raise NeverRanError(
            "next() moves on to the next step of a generation, and a trace is one forward.\n"
            "Use: with model.generate(prompt, max_new_tokens=…) as tracer."
        )

    def _reach(self, handle: Placed, kind: str) -> Pause:
        touch, ancestry = self._touch(handle, kind)
        if handle.is_attached:
            return self.own_calls.pause(touch)
        pause = self._reach_site(touch, ancestry)
        if pause.texts is None:
            pause.texts = self._texts = self._texts or TextsOfRun(self)
        return pause

    def _touch(self, handle: Placed, kind: str) -> tuple[Touch, list[nn.Module]]:
        """The site that is meant, and the modules from the root down to its own."""
        ancestry = handle.ancestors()
        module = ancestry[-1]
        holds = isinstance(module, nn.ModuleList | nn.ModuleDict | nn.ParameterList)
        if holds and type(module).forward is nn.Module.forward:  # Switch's experts are called
            raise NeverRanError(
                f"{handle.name} is a {type(module).__name__}: it holds modules and is never "
                f"called, so it has no {kind}.\nIndex it, such as {handle.name}[0].{kind}."
            )
        step = self._own_steps.get(module, self.step) if self._own_steps else self.step
        site = Site(module, kind, step, handle.call, handle._operation)
        touch = Touch(
            site, handle.name, kind, step, user_line(), handle.parts, called=handle._called
        )
        return touch, ancestry

    def _reach_site(self, touch: Touch, ancestry: list[nn.Module]) -> Pause:
        return self._forwards.reach(touch, ancestry)


class _Stopped(BaseException):
    """`tracer.stop()`: leaves the block, and the block alone."""

    def __init__(self, tracer: Tracer):
        self.tracer = tracer


def _block_returns(block: nn.Module, new: Any, hidden: Any, where: str) -> Any:
    """What a block that is skipped returns, from hidden states or the tuple that it used to be."""
    bare = new[0] if isinstance(new, tuple | list) and new else new
    if not isinstance(bare, torch.Tensor | int | float):
        return new
    returned = in_block_layout(block, fit(bare, hidden, where))
    if bare is new or not isinstance(returned, tuple):
        return returned
    return (returned[0], *new[1:], *returned[len(new) :])


def _no_prompt() -> Any:
    raise BadInputError(
        "This trace was given nothing to run on.\n"
        "Give it a prompt, model.trace(prompt), or touch modules inside an invoke block:\n"
        "    with tracer.invoke(prompt): …"
    )


def _hidden_states(pause: Pause, path: tuple) -> tuple:
    """The path of the hidden states in a block's raw output: the tensor, or item 0 of a tuple."""
    raw = pause.part(())
    if isinstance(raw, tuple | list) and raw:
        return (0, *path)
    if "altup" in pause.site.module._modules and isinstance(raw, torch.Tensor) and raw.ndim == 4:
        raise WrongValueError(
            f"{pause.describe()} is no (batch, tokens, hidden): blocks of this model pass on "
            f"{raw.shape[0]} streams, {tuple(raw.shape)}.\n"
            "Use _output, which is all of them, stream first: layers[3]._output[0, :, -1] = 0."
        )
    return path


def _path_of_part(pause: Pause, place: NamedPart) -> tuple:
    path = ()
    if place.kind == "input" and place._operation is None:
        path = _first_argument(pause, place)
    return path if place.layout is None else (*path, place.layout)


def _first_argument(pause: Pause, handle: Placed) -> tuple:
    """Where the first argument is in `(args, kwargs)`: some modules are called by keyword."""
    path = path_of_first(*pause.part(()))
    if path is None:
        raise NeverRanError(f"{handle.name} is called without arguments, so it has no input.")
    return path
