"""Whatever goes wrong, and whenever: nothing is left in the model, and the next trace works."""

from __future__ import annotations

import gc
import io
import linecache
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import tracemalloc
import weakref

import pytest
import torch
from torch import nn

import nnsight_magic
from nnsight_magic import LanguageModel
from nnsight_magic.engine.model.model import Model
from nnsight_magic.errors import NoTraceError, TraceInsideTraceError
from tests.hooks import hook_count

IDS = torch.tensor([[1, 2, 3, 4, 5]])


@pytest.fixture(autouse=True)
def gradients_on():
    yield
    torch.set_grad_enabled(True)


@pytest.fixture
def hf(tiny):
    return tiny("gpt2")


@pytest.fixture
def model(hf):
    return LanguageModel(hf)


def forward(hf, ids=IDS):
    with torch.no_grad():
        return hf(ids, use_cache=False).logits


def assert_untouched(model):
    """No hook, no instance `forward`, no lock, no mode, no signal handler of ours is left."""
    root = model.module
    assert hook_count(root) == 0
    assert not any("forward" in vars(module) for module in root.modules())
    assert not model._lock.locked()
    assert model._owner is None and model._active is None
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert torch._C._is_torch_function_enabled()
    assert not torch.is_autocast_enabled("cpu")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def trace_and_write(model):
    with model.trace(IDS):
        hidden = model.layers[0].output
        model.layers[1].mlp.output[:, -1] = 0
        model.layers[2].attn.skip((model.layers[2].attn.input * 1, None))
        logits = model.output.logits
    return hidden, logits


def generate_and_write(model):
    with model.generate(IDS, max_new_tokens=3, do_sample=False) as tracer:
        for step in tracer.steps:
            model.layers[1].output[:, -1] += step.index
    return tracer.result


def invoke_and_read_back(model):
    with model.trace() as tracer:
        with tracer.invoke(IDS):
            late = model.layers[2].output
            early = model.layers[0].mlp.output
        with tracer.invoke(IDS):
            model.layers[0].mlp.output = early + 1
            logits = model.output.logits
    return late, logits


WORK = [trace_and_write, generate_and_write, invoke_and_read_back]


# ── interrupts ────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def ctrl_c():
    """Python's own handler of SIGINT, whatever the one who runs the tests has."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c(delay):
    """Send a real SIGINT to this process, `delay` seconds from now."""
    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()


def interrupted(work, delay):
    """Repeat `work` until a real SIGINT arrives, `delay` seconds from now."""
    with pytest.raises(KeyboardInterrupt):
        press_ctrl_c(delay)
        while True:
            work()


@pytest.fixture
def pressed_again(monkeypatch):
    """An interrupt that Python drops is sent again.

    What rises in a callback of the garbage collector (hypothesis has one) or of a weak reference
    goes to `sys.unraisablehook` and no further, whoever handles the signal.
    """

    def unraisable(what):
        if what.exc_type is KeyboardInterrupt:
            press_ctrl_c(0.01)
        else:
            sys.__unraisablehook__(what)

    monkeypatch.setattr(sys, "unraisablehook", unraisable)


@pytest.mark.usefixtures("pressed_again")
def test_an_interrupt_at_any_moment_leaves_nothing_behind(model):
    expected = [work(model) for work in WORK]
    random.seed(0)
    for number in range(200):
        work, outcome = WORK[number % 3], expected[number % 3]
        interrupted(lambda work=work: work(model), random.uniform(0, 0.03))
        assert_untouched(model)
        if number % 5 == 0:
            same = work(model)
            for mine, theirs in zip(same, outcome, strict=True):
                assert torch.equal(mine, theirs)


def interrupt_at_each(work, model, stride):
    """Run `work` with a SIGINT at every `stride`-th line of the engine; how many there were."""
    package = os.path.dirname(nnsight_magic.__file__)
    left = 0

    def watch(frame, event, argument):
        nonlocal left
        code = frame.f_code
        # Python itself drops what rises in a generator that is being collected.
        if not code.co_filename.startswith(package) or code.co_name == "<genexpr>":
            return None
        # Python looks for signals at calls and loops alone: never where a `try` begins, or between
        # the body of a `with` and its end. A traced line may be there.
        line = linecache.getline(code.co_filename, frame.f_lineno)
        if line.strip() == "try:" or "DisableTorchFunctionSubclass" in line:
            return watch
        if event in ("call", "line"):
            left -= 1
            if left == 0:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return watch

    for number in range(1, 100_000, stride):
        left = number
        gc.collect(0)  # not in between, where Python drops what rises
        sys.settrace(watch)
        try:
            work()
        except KeyboardInterrupt:
            sys.settrace(None)
            assert_untouched(model)
        else:
            assert left > 0, f"the interrupt at line {number} was lost"
            return number
        finally:
            sys.settrace(None)
    return 0


def test_an_interrupt_at_every_line_of_the_engine_leaves_nothing_behind():
    model = Model(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Tanh(), nn.Linear(2, 2))))

    def work():
        with model.trace(torch.ones(1, 2)):
            model[0].output[:] += 1
            model[1][0].skip(torch.zeros(1, 2))
            late = model[1].output
            early = model[0].input
        return late + early

    expected = work()
    assert interrupt_at_each(work, model, 1) > 500
    assert torch.equal(work(), expected)


@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__)
def test_an_interrupt_in_the_engine_leaves_nothing_behind_in_a_language_model(model, work):
    expected = work(model)
    assert interrupt_at_each(lambda: work(model), model, 37) > 1000
    for mine, theirs in zip(work(model), expected, strict=True):
        assert torch.equal(mine, theirs)


def test_an_interrupt_on_the_first_step_of_exit_is_not_lost(model):
    after = False
    with pytest.raises(KeyboardInterrupt):
        with model.trace(IDS):
            model.layers[0].output.save()
            sys.setprofile(lambda frame, event, _: _interrupt_at(frame, event, "__exit__"))
        after = True
    sys.setprofile(None)
    assert not after
    assert_untouched(model)


def _interrupt_at(frame, event, name):
    if event == "call" and frame.f_code.co_name == name:
        sys.setprofile(None)
        signal.raise_signal(signal.SIGINT)


def test_ones_own_handler_of_interrupts_is_called_and_stays(model):
    calls = []
    before = signal.signal(signal.SIGINT, lambda number, frame: calls.append(number))
    try:
        mine = signal.getsignal(signal.SIGINT)
        with model.trace(IDS):
            signal.raise_signal(signal.SIGINT)
            logits = model.output.logits
        assert calls == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is mine
        assert torch.equal(logits, forward(model.module))
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("pressed_again")
def test_waiting_for_another_thread_can_be_interrupted(model):
    began, over = threading.Event(), threading.Event()

    def other():
        with model.trace(IDS):
            began.set()
            over.wait()

    thread = threading.Thread(target=other)
    thread.start()
    began.wait()
    interrupted(lambda: trace_and_write(model), 0.2)
    assert model._owner == thread.ident
    over.set()
    thread.join()
    assert_untouched(model)


# ── exceptions ────────────────────────────────────────────────────────────────────────────


class Boom(Exception):
    pass


def test_an_exception_in_the_block(model):
    with pytest.raises(Boom), model.trace(IDS):
        model.layers[1].output[:] = 0
        raise Boom
    assert_untouched(model)


def test_an_exception_in_the_models_forward(model, hf):
    inner = hf.transformer.h[1].mlp.forward
    hf.transformer.h[1].mlp.forward = lambda *args: (_ for _ in ()).throw(Boom("in the model"))
    with pytest.raises(Boom, match="in the model"), model.trace(IDS):
        model.layers[2].output.save()
    assert hook_count(hf) == 0
    del hf.transformer.h[1].mlp.forward
    assert inner == hf.transformer.h[1].mlp.forward
    assert_untouched(model)
    assert torch.equal(trace_and_write(model)[0], trace_and_write(model)[0])


def test_an_exception_in_a_hook_of_the_users(model, hf):
    def fail(*args):
        raise Boom("in a hook")

    handle = hf.transformer.h[1].register_forward_hook(fail)
    with pytest.raises(Boom, match="in a hook"), model.trace(IDS):
        model.layers[2].output.save()
    assert hook_count(hf) == 1
    handle.remove()
    assert_untouched(model)


def test_an_exception_in_a_generation(model):
    with pytest.raises(Boom), model.generate(IDS, max_new_tokens=3) as tracer:
        for step in tracer.steps:
            model.layers[0].output.save()
            if step.index == 1:
                raise Boom
    assert_untouched(model)


def test_a_model_that_swallows_every_exception_is_ended_too():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            try:
                x = self.first(x)
            except BaseException:
                x = -x
            try:
                return self.second(x)
            finally:
                raise Boom

    model = Model(Stubborn())
    with model.trace(torch.ones(1, 2)):
        model.first.output.save()
    assert_untouched(model)


def test_what_was_read_before_an_error_stays(model):
    try:
        with model.trace(IDS):
            hidden = model.layers[1].output.save()
            raise Boom
    except Boom:
        pass
    assert hidden.shape == (1, 5, 32)


# ── memory ────────────────────────────────────────────────────────────────────────────────


def test_two_thousand_traces_leave_no_object_behind(tiny):
    model = LanguageModel(tiny("gpt2", layers=1, hidden=8))
    model.resume.enabled = False

    def trace():
        with model.trace(IDS):
            model.layers[0].mlp.output[:] = 0
            return model.layers[0].output

    for _ in range(20):
        trace()
    gc.collect()
    gc.disable()  # so that a cycle would show
    try:
        before = len(gc.get_objects())
        for _ in range(2000):
            trace()
        assert len(gc.get_objects()) - before < 50
    finally:
        gc.enable()
    assert_untouched(model)


def test_traces_of_every_kind_leave_no_memory_behind(model):
    def all_kinds():
        for work in WORK:
            work(model)
        with pytest.raises(Boom), model.trace(IDS):
            model.layers[0].output.save()
            raise Boom

    for _ in range(5):
        all_kinds()
    gc.collect()
    tracemalloc.start()
    try:
        grown = []
        while len(grown) < 16 and not any(each < 5_000 for each in grown):
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(15):
                all_kinds()
            gc.collect()
            grown.append(tracemalloc.get_traced_memory()[0] - before)
        # A leak grows every time; caches of Python's and torch's own are full at some time.
        assert min(grown) < 5_000, grown
    finally:
        tracemalloc.stop()


def test_a_value_keeps_nothing_of_the_run_alive(model, hf):
    activations = []
    handle = hf.transformer.h[1].mlp.register_forward_hook(
        lambda module, args, output: activations.append(weakref.ref(output))
    )
    gc.collect()
    gc.disable()
    try:
        with model.trace(IDS) as tracer:
            hidden = model.layers[1].mlp.output.save()
            parts = model.layers[2].attn.output
            course, run = weakref.ref(tracer._course), weakref.ref(tracer._course.main)
        assert course() is None
        assert run() is None
        assert activations[0]() is None
        trace = weakref.ref(tracer)
        del tracer
        assert trace() is None
    finally:
        gc.enable()
        handle.remove()
    assert hidden.shape == (1, 5, 32)
    assert parts[0].shape == (1, 5, 32)


def test_the_values_of_a_trace_with_gradients_free_its_graph(model):
    with model.trace(IDS):
        hidden = model.layers[1].output
        loss = model.output.logits.sum()
        loss.backward()
    kept = hidden.grad.clone()
    graph = weakref.ref(loss)
    del loss, hidden
    assert graph() is None
    assert kept.abs().sum() > 0
    assert_untouched(model)


# ── threads ───────────────────────────────────────────────────────────────────────────────


def in_thread(work):
    """The result of `work` in a thread of its own, or the exception that it raised."""
    outcome = []

    def run():
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


def test_threads_on_one_model_take_turns_and_get_their_own_numbers(model, hf):
    prompts = [torch.tensor([[n, n + 1, n + 2]]) for n in range(1, 7)]
    expected = [forward(hf, ids) for ids in prompts]
    wrong = []

    def work(ids, right):
        for repeat in range(5):
            with model.trace(ids):
                if repeat % 2:
                    model.layers[1].output[:] = 0
                logits = model.output.logits
            if torch.equal(logits, right) == bool(repeat % 2):
                wrong.append((ids, repeat))

    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(prompts, expected, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert_untouched(model)


def test_another_thread_that_calls_the_model_itself_sees_no_trace(model, hf):
    plain = forward(hf)
    with model.trace(IDS):
        model.layers[0].output[:] = 0
        model.layers[1].skip(model.layers[1].input * 0)
        model.layers[2].input.save()
        assert torch.equal(in_thread(lambda: forward(hf)), plain)
        logits = model.output.logits
    assert not torch.equal(logits, plain)
    assert torch.equal(forward(hf), plain)


def test_the_block_itself_may_call_the_model_and_sees_no_trace(model, hf):
    plain = forward(hf)
    with model.trace(IDS):
        model.layers[0].output[:] = 0
        assert torch.equal(hf(IDS, use_cache=False).logits, plain)
        logits = model.output.logits
    assert not torch.equal(logits, plain)


def test_reading_in_another_thread_says_which_thread_may(model):
    with model.trace(IDS):
        model.layers[0].output.save()
        error = in_thread(lambda: model.layers[1].output)
        assert isinstance(error, NoTraceError)
        assert "another thread" in str(error)
        model.layers[1].output.save()
    assert_untouched(model)


def test_leaving_a_trace_in_another_thread_puts_everything_away(model):
    def traced():
        with model.trace(IDS):
            yield model.layers[0].output

    generator = traced()
    next(generator)
    assert in_thread(generator.close) is None
    torch.set_grad_enabled(True)  # the mode of this thread is out of the other's reach
    trace_and_write(model)  # and so is the handler of signals, until the next trace ends
    assert_untouched(model)
    assert torch.equal(trace_and_write(model)[0], trace_and_write(model)[0])


# ── traces in traces, generators ──────────────────────────────────────────────────────────


def test_traces_of_two_models_nest(tiny):
    one, two = LanguageModel(tiny("gpt2")), LanguageModel(tiny("llama", seed=1))
    alone = forward(one.module), forward(two.module)
    with one.trace(IDS):
        first = one.layers[1].output
        with two.trace(IDS):
            second = two.layers[1].output
            logits_of_two = two.output.logits
        logits_of_one = one.output.logits
    assert torch.equal(logits_of_one, alone[0])
    assert torch.equal(logits_of_two, alone[1])
    assert first.shape == second.shape
    assert_untouched(one)
    assert_untouched(two)


def test_a_trace_inside_a_trace_of_the_same_model_is_refused_and_the_outer_one_goes_on(model, hf):
    with model.trace(IDS):
        model.layers[0].output.save()
        with pytest.raises(TraceInsideTraceError), model.trace(IDS):
            pass
        logits = model.output.logits
    assert torch.equal(logits, forward(hf))
    assert_untouched(model)


def test_a_generator_collected_in_the_midst_of_a_trace_puts_everything_away(model, hf):
    def traced():
        with model.trace(IDS):
            yield model.layers[0].output
            yield model.layers[1].output

    generator = traced()
    next(generator)
    assert hook_count(hf) > 0
    del generator
    assert_untouched(model)


def test_traces_of_two_models_go_on_in_turns(tiny):
    one, two = LanguageModel(tiny("gpt2")), LanguageModel(tiny("gpt2", seed=1))

    def traced(model):
        with model.trace(IDS):
            yield model.layers[0].output
            yield model.output.logits

    first, second = traced(one), traced(two)
    next(first), next(second)
    assert torch.equal(next(first), forward(one.module))
    assert torch.equal(next(second), forward(two.module))
    second.close()
    first.close()
    assert_untouched(one)
    assert_untouched(two)


@pytest.mark.parametrize("grad", [True, False])
def test_traces_that_end_in_the_order_they_began_leave_the_grad_mode_as_it_was(tiny, grad):
    one, two = LanguageModel(tiny("gpt2")), LanguageModel(tiny("gpt2", seed=1))
    with torch.set_grad_enabled(grad):
        first, second = one.trace(IDS), two.trace(IDS)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert not torch.is_grad_enabled()  # the second one still lasts
        second.__exit__(None, None, None)
        assert torch.is_grad_enabled() == grad


# ── silence ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox", "mixtral", "t5"])
def test_nothing_is_printed_and_nothing_warned(architecture, tiny, capfd, recwarn):
    model = LanguageModel(tiny(architecture))
    with model.trace(IDS):
        model.layers[0].output.save()
        model.output.logits.save()
    with model.generate(IDS, max_new_tokens=2):
        model.layers[0].output.save()
    assert [str(warning.message) for warning in recwarn] == []
    assert capfd.readouterr() == ("", "")


def test_what_transformers_logs_in_a_forward_stays_there(tiny):
    hf, log = tiny("llama"), logging.getLogger("transformers.models.llama")
    shown = logging.StreamHandler(io.StringIO())
    root = logging.getLogger("transformers")
    root.addHandler(shown)
    try:
        filters = [list(handler.filters) for handler in root.handlers]
        hf.model.layers[0].register_forward_hook(lambda *_: log.warning("slow kernels"))
        model = LanguageModel(hf)
        with model.trace(IDS):
            model.layers[1].output.save()
            log.warning("the user's own")
        log.warning("after it")
    finally:
        root.removeHandler(shown)
    assert shown.stream.getvalue() == "the user's own\nafter it\n"
    assert [list(handler.filters) for handler in (*root.handlers, shown)] == filters


def test_a_mamba_without_kernels_runs_in_silence():
    code = (
        "import torch; from tests import tiny; from nnsight_magic import LanguageModel\n"
        "model = LanguageModel(tiny.build('mamba'))\n"
        "with model.trace(torch.tensor([[1, 2, 3]])):\n"
        "    h = model.layers[0].output\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
