"""An interrupt, whenever it comes: nothing is left in the model, and the next trace works."""

from __future__ import annotations

import gc
import linecache
import os
import random
import signal
import sys
import threading

import pytest
import torch
from torch import nn

import nnsight_magic
from nnsight_magic.engine.model.model import Model
from tests.engine.undisturbed import IDS, WORK, assert_untouched, forward, trace_and_write
from tests.handled import hands_over

pytestmark = pytest.mark.usefixtures("ctrl_c", "gradients_on")


@pytest.fixture
def hf(tiny):
    return tiny("gpt2")


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
        if line.strip() == "try:" or "DisableTorchFunctionSubclass" in line or hands_over(frame):
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
    assert model._turn.owner == thread.ident
    over.set()
    thread.join()
    assert_untouched(model)
