"""An error of torch in a suspended forward is an ordinary exception; it does not end the process.

What could end it runs in a process of its own: see `provoke`.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel
from nnsight_magic.engine.running.coroutine import coroutine
from nnsight_magic.engine.running.stack_floor import make_floor
from tests.engine.provoke import deeper
from tests.hooks import hook_count


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("count", "environment"),
    [
        (1000, {}),
        (60, {"TORCH_SHOW_CPP_STACKTRACES": "1", "TORCH_DISABLE_ADDR2LINE": "1"}),
        (100, {"NNSIGHT_MAGIC_THREADS": "1"}),
    ],
    ids=["plain", "C++ stack traces", "threads"],
)
def test_errors_at_random_depths_leave_the_process_alive(count, environment):
    done = python("-m", "tests.engine.provoke", str(count), **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"{count} errors\n"


class Missing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, torch.tensor([99])]


def test_the_error_rises_on_the_line_that_asked():
    hf = nn.Sequential(nn.Linear(4, 4), Missing())
    model = LanguageModel(hf)
    with pytest.raises(IndexError, match="99 is") as raised, model.trace(torch.ones(1, 4)):
        first = model[0].output
        model[1].output.save()
    assert str(raised.traceback[0].statement).strip() == "model[1].output.save()"
    assert first.shape == (1, 4) and hook_count(hf) == 0


def test_a_model_may_catch_it_itself():
    class Careful(nn.Module):
        def forward(self, x):
            try:
                return x[:, torch.tensor([99])]
            except IndexError:
                return x * 2

    model = LanguageModel(nn.Sequential(nn.Linear(4, 4), Careful()))
    with model.trace(torch.ones(1, 4)):
        first = model[0].output
        second = model[1].output
    assert torch.equal(second, first * 2)


# ── the floor ─────────────────────────────────────────────────────────────────────────────


def callers() -> int:
    """How many callers the C library finds, of a thousand at most."""
    backtrace = ctypes.CDLL(None).backtrace
    return backtrace((ctypes.c_void_p * 1000)(), 1000)


def test_whoever_walks_the_stack_comes_no_further_than_the_floor():
    floor = make_floor()
    found = {deeper(depth, lambda: floor(callers)) for depth in (0, 0, 5, 20)}
    assert len(found) == 1
    assert deeper(20, callers) > deeper(0, callers) >= 1


def test_a_coroutine_has_a_floor_wherever_it_goes_on():
    found = []

    def run():
        while True:
            found.append(callers())
            inside.parent.switch()

    inside = coroutine(run)
    for depth in (3, 0, 5, 20):
        deeper(depth, inside.switch)
    assert len(found) == 4 and len(set(found)) == 1


def test_what_is_called_gives_and_raises_what_it_does_without_a_floor():
    floor = make_floor()
    thing = object()
    before = sys.getrefcount(thing)
    for _ in range(100):
        assert floor(lambda: thing) is thing
        with pytest.raises(ZeroDivisionError):
            floor(lambda: 1 / 0)
    with pytest.raises(KeyboardInterrupt):
        floor(lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert sys.getrefcount(thing) == before


NO_NEW_INSTRUCTIONS = """
import ctypes, platform
from nnsight_magic.engine.running.stack_floor import NoFloor, make_floor
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:  # PR_SET_MDWE: nothing becomes executable
    platform.machine = lambda: "an unknown machine"  # a Linux before 6.3
try:
    make_floor()
except NoFloor as error:
    print(error)
"""


def test_a_system_that_refuses_is_told():
    done = python("-c", NO_NEW_INSTRUCTIONS)
    assert done.returncode == 0, done.stderr
    assert "no program make instructions" in done.stdout or "an unknown machine" in done.stdout


ON_AN_UNKNOWN_MACHINE = """
import platform, warnings
platform.machine = lambda: "riscv64"
import torch
from nnsight_magic import LanguageModel
model = LanguageModel(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)))
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for _ in range(3):
        with model.trace(torch.ones(1, 4)):
            first = model[0].output
            first *= 2
            last = model[1].output
hook = model.module[0].register_forward_hook(lambda module, args, output: output * 2)
assert torch.equal(last, model.module(torch.ones(1, 4)))
print(*[each.message for each in told if "nnsight_magic" in str(each.message)], sep="\\n")
"""


def test_without_a_floor_models_run_in_threads_and_it_is_said_once():
    done = python("-c", ON_AN_UNKNOWN_MACHINE, NNSIGHT_MAGIC_THREADS="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "threads of their own" in done.stdout and "not known for riscv64" in done.stdout


def test_threads_give_what_greenlets_give():
    tests = str(Path(__file__).with_name("test_trace.py"))
    done = python("-m", "pytest", "-q", "-x", "-m", "not demo", tests, NNSIGHT_MAGIC_THREADS="1")
    assert done.returncode == 0, done.stdout[-3000:]
