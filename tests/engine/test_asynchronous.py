"""An exception at any step of the engine's code, from wherever: nothing stays behind.

The handler of an alarm raises, another thread sends an exception, a debugger is left with `q`. The
precise tests raise at the n-th step of Python code in this package, by a trace function, for steps
spread over the whole of a trace; the others by a real alarm at random moments.
"""

from __future__ import annotations

import bdb
import contextlib
import gc
import logging
import random
import signal
import sys
import threading

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.engine.memory import fingerprint
from nnsight_magic.engine.memory.fingerprint import Fingerprint
from nnsight_magic.engine.memory.weights import Weights
from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.engine.sites.caller import PACKAGE
from nnsight_magic.engine.tracing.turn import Turn
from tests.handled import hands_over
from tests.hooks import hook_count

IDS = torch.tensor([[1, 2, 3, 4, 5]])


class Alarm(Exception):
    """What a time-out raises."""


class Sent(BaseException):
    """What another thread sends."""


@pytest.fixture
def hf(tiny):
    return tiny("gpt2")


def assert_closed(model):
    root = model.module
    assert hook_count(root) == 0
    assert not any("forward" in vars(module) for module in root.modules())
    assert not model._turn.locked()
    assert model._turn.owner is None and model._turn.active is None
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert torch._C._len_torch_function_stack() == 0
    assert torch._C._is_torch_function_enabled()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not any(handler.filters for handler in logging.getLogger("transformers").handlers)


def read_and_write(model):
    with model.trace(IDS):
        _ = model.layers[0].output
        model.layers[1].mlp.output[:, -1] = 0
        model.layers[2].attn.skip((model.layers[2].attn.input * 1, None))
        return model.output.logits


def generate(model):
    with model.generate(IDS, max_new_tokens=2, do_sample=False) as tracer:
        for step in tracer.steps:
            model.layers[1].output[:, -1] += int(step)
    return tracer.result


def invoke(model):
    with model.trace() as tracer:
        with tracer.invoke(IDS):
            late = model.layers[2].output
            early = model.layers[0].mlp.output
        with tracer.invoke(IDS):
            model.layers[0].mlp.output = early + 1
            _ = model.output.logits
    return late


def edit(model):
    with model.edit("off"):
        model.layers[1].mlp.output[:] = 0
    model.edits.clear()


def operation(model):
    with model.trace(IDS):
        return model.layers[1].attn.pattern


def sweep(model):
    def change(block):
        model.layers[block].mlp.output[:, -1] = 0
        return model.output.logits

    return model.sweep({"input_ids": IDS}, change, range(2))


def attached(model):
    model.layers[1].extra = torch.nn.Linear(32, 32)
    try:
        with model.trace(IDS):
            y = model.layers[1].extra(model.layers[1].output)
            return y, model.layers[1].extra.output
    finally:
        model._handles.attached.clear()


WORK = [read_and_write, generate, invoke, edit, operation, sweep, attached]


class Steps:
    """Counts the steps of Python code in this package, and raises at one of them."""

    def __init__(self, at: int | None = None, error: type[BaseException] = Alarm):
        self.at, self.error, self.count = at, error, 0

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        self._step()
        return self._inside

    def _inside(self, frame, event, argument):
        if event == "opcode" and not hands_over(frame):
            self._step()
        return self._inside

    def _step(self):
        self.count += 1
        if self.count == self.at:
            raise self.error

    def run(self, work, model):
        before = sys.gettrace()
        sys.settrace(self)
        try:
            work(model)
        finally:
            sys.settrace(before)


@pytest.fixture
def ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("work", WORK, ids=[each.__name__ for each in WORK])
def test_an_exception_at_any_step_leaves_nothing_behind(work, model):
    work(model)  # what is imported or noted once for all is no part of it
    steps = Steps()
    steps.run(work, model)
    total = steps.count
    random.seed(total)
    for at in sorted(random.sample(range(1, total), min(total - 1, 150))):
        try:
            Steps(at).run(work, model)
        except Alarm:
            pass
        model.edits.clear()
        assert_closed(model)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("work", [read_and_write, generate, edit])
def test_an_exception_on_the_first_and_last_steps_of_a_block(work, model):
    """The narrowest places: every single step of entering and leaving."""

    class AtFunction(Steps):
        def __call__(self, frame, event, argument):
            if frame.f_code.co_name not in ("__enter__", "__exit__", "_close", "_begin", "_end"):
                return None
            return super().__call__(frame, event, argument)

    work(model)
    steps = AtFunction()
    steps.run(work, model)
    for at in range(1, steps.count + 1):
        with contextlib.suppress(Sent):
            AtFunction(at, Sent).run(work, model)
        model.edits.clear()
        assert_closed(model)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("place", ["__enter__", "__exit__"])
def test_q_in_the_debugger_at_the_end_of_a_block(place, model):
    """pdb raises `BdbQuit` out of its trace function, when the next function is called."""

    def quits(frame, event, argument):
        if frame.f_code.co_name == place and frame.f_code.co_filename.startswith(PACKAGE):
            raise bdb.BdbQuit

    before = sys.gettrace()
    try:
        with pytest.raises(bdb.BdbQuit):
            sys.settrace(quits)
            with model.trace(IDS):
                _ = model.layers[1].mlp.output
    finally:
        sys.settrace(before)
    assert_closed(model)
    with model.trace(IDS):
        _ = model.layers[1].output


@pytest.mark.usefixtures("ctrl_c")
def test_an_alarm_at_a_random_moment(model):
    def rings(number, frame):
        raise Alarm

    random.seed(0)
    before = signal.signal(signal.SIGALRM, rings)
    try:
        for _ in range(150):
            work = random.choice(WORK[:3])
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 6e-3))
                work(model)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Alarm:
                pass
            assert_closed(model)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_exception_at_a_step_that_stands_on_no_line_is_the_one_that_is_seen(model):
    """Where a step of the user's code has no line, as an alarm may find it."""
    code = compile("raise Alarm", "user.py", "exec").replace(co_linetable=b"")
    with pytest.raises(Alarm), model.trace(IDS):
        _ = model.layers[0].output
        exec(code, {"Alarm": Alarm})

    def rings(module, args):
        exec(code, {"Alarm": Alarm})

    hook = model.module.register_forward_pre_hook(rings)
    with pytest.raises(Alarm), model.trace(IDS):
        _ = model.layers[0].output
    hook.remove()


def test_a_turn_is_free_after_an_exception_at_any_step_of_its_code():
    """Also in what the standard library writes in Python: nobody waits for ever afterwards."""

    class Everywhere(Steps):
        def __call__(self, frame, event, argument):
            frame.f_trace_opcodes = True
            self._step()
            return self._inside

    def take_and_give_back(turn):
        try:
            turn.take(turn, lambda: None)
        finally:
            while turn.locked():
                with contextlib.suppress(Alarm):  # a second call is made where one is cut short
                    turn.give_back(turn)

    steps = Everywhere()
    steps.run(take_and_give_back, Turn())
    for at in range(1, steps.count + 1):
        turn, taken = Turn(), threading.Event()
        with contextlib.suppress(Alarm):
            Everywhere(at).run(take_and_give_back, turn)
        turn.give_back(turn)

        def take(turn=turn, taken=taken):
            turn.take(taken, lambda: None)
            taken.set()

        threading.Thread(target=take, daemon=True).start()
        assert taken.wait(60), f"step {at}"


def test_looking_at_exit_ends_nothing(model):
    trace = model.trace(IDS)
    assert hasattr(trace, "__exit__") and callable(type(trace).__exit__)
    with trace:
        hidden = model.layers[0].output
        assert hasattr(trace, "__exit__")
        gc.collect()
        assert model.layers[1].output.shape == hidden.shape


def test_two_wrappers_of_one_model_ended_in_the_order_of_their_beginning(hf):
    models = [LanguageModel(hf), LanguageModel(hf), LanguageModel(hf)]
    expected = []
    for model in models:
        with model.trace(IDS):
            expected.append(model.output.logits)
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0], [0, 2, 1]):
        traces = [model.trace(IDS) for model in models]
        found = {}
        for trace, model in zip(traces, models, strict=True):
            trace.__enter__()
            block = model.layers[1]
            block.mlp.output = block.mlp.output * 1
            model.layers[2].attn.skip((model.layers[2].attn.input * 1, None))
        for each in order:
            found[each] = models[each].output.logits
            traces[each].__exit__(None, None, None)
        assert hook_count(hf) == 0
        assert not any("forward" in vars(module) for module in hf.modules())
        assert torch.equal(found[0], found[1]) and torch.equal(found[1], found[2])
        assert not torch.equal(found[0], expected[0])
    assert torch.is_grad_enabled()
    for model in models:
        assert_not_held(model)


def assert_not_held(model):
    assert not model._turn.locked() and model._turn.owner is None


def test_traces_of_one_model_in_many_threads_take_turns(model):
    found = []

    def run(scale):
        for _ in range(5):
            with model.trace(IDS):
                model.layers[1].mlp.output *= scale
                found.append((scale, model.output.logits.sum().item()))

    threads = [threading.Thread(target=run, args=(scale,)) for scale in (0, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({scale for scale, _ in found}) == len(set(found)) == 3
    assert_not_held(model)


@pytest.mark.parametrize("when", ["_hooks", "_attributes", "add_comparable"])
def test_a_look_at_the_model_that_was_cut_short_is_begun_anew(model, when, monkeypatch):
    looked = Fingerprint(model.module, model.names.layers)
    kept = getattr(fingerprint, when)

    def cut_short(*_):
        raise Alarm

    monkeypatch.setattr(fingerprint, when, cut_short)
    with pytest.raises(Alarm):
        looked.take(Forward)
    monkeypatch.setattr(fingerprint, when, kept)
    assert looked.take(Forward) == Fingerprint(model.module, model.names.layers).take(Forward)


def test_a_look_at_a_module_leaves_torch_as_it_was_wherever_it_is_cut_short():
    module = torch.nn.Linear(3, 4).eval()
    module.kept = [torch.ones(2)]  # changes in itself

    def looks(module):
        Fingerprint(module).take(Forward)
        Weights(lambda part: [module]).now(0)

    class AtLook(Steps):
        def __call__(self, frame, event, argument):
            if frame.f_code.co_name not in ("state", "_tensor", "__init__"):
                return None
            return super().__call__(frame, event, argument)

    looks(module)
    steps = AtLook()
    steps.run(looks, module)
    for at in range(1, steps.count):
        with contextlib.suppress(Alarm):
            AtLook(at).run(looks, module)
        assert torch._C._is_torch_function_enabled(), at
