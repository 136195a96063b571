"""A trace works wherever Python code runs: nothing looks at the source of the block."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pytest
import torch

from nnsight_magic import LanguageModel
from tests.hooks import hook_count

IDS = torch.tensor([[1, 2, 3, 4, 5]])

SCRIPT = """
import sys, torch
from nnsight_magic import LanguageModel
model = LanguageModel(sys.argv[1] if len(sys.argv) > 1 else FOLDER)
with model.trace("The Eiffel Tower"):
    hidden = model.transformer.h[1].output[0].save()
print(tuple(hidden.value.shape)[::2])
"""


@pytest.fixture
def model(tiny):
    hf = tiny("gpt2")
    yield LanguageModel(hf)
    assert hook_count(hf) == 0


@pytest.fixture
def expected(model):
    with model.trace(IDS):
        return model.layers[1].output.clone()


@pytest.mark.parametrize("how", ["script", "-c", "stdin", "exec"])
def test_out_of_a_file_a_string_a_pipe_and_exec(how, tiny_gpt2_folder, tmp_path):
    text = SCRIPT.replace("FOLDER", repr(str(tiny_gpt2_folder)))
    command, stdin = [sys.executable], None
    if how == "script":
        (tmp_path / "script.py").write_text(text)
        command.append(str(tmp_path / "script.py"))
    elif how == "-c":
        command += ["-c", text]
    elif how == "exec":
        command += ["-c", f"exec({text!r})"]
    else:
        command, stdin = [sys.executable, "-"], text
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith("(1,")


def test_in_a_function_that_returns_out_of_the_block(model, expected):
    def read():
        with model.trace(IDS):
            return model.layers[1].output

    assert torch.equal(read(), expected)


def test_in_a_class_body(model, expected):
    class Reading:
        with model.trace(IDS):
            hidden = model.layers[1].output

    assert torch.equal(Reading.hidden, expected)


def test_in_a_lambda_and_a_comprehension(model, expected):
    read = lambda i: model.layers[i].output  # noqa: E731
    with model.trace(IDS):
        values = [read(i) for i in range(2)]
    assert torch.equal(values[1], expected)


def test_in_a_generator_that_is_suspended_inside_the_block(model, expected):
    def values():
        with model.trace(IDS):
            for block in model.layers:
                yield block.output

    generator = values()
    next(generator)
    assert torch.equal(next(generator), expected)
    generator.close()
    with model.trace(IDS):
        assert torch.equal(model.layers[1].output, expected)


def test_in_a_coroutine(model, expected):
    import asyncio

    async def read():
        with model.trace(IDS):
            first = model.layers[0].output
            await asyncio.sleep(0)
            return first, model.layers[1].output

    assert torch.equal(asyncio.run(read())[1], expected)


def test_break_leaves_the_block(model):
    for _ in range(3):
        with model.trace(IDS):
            hidden = model.layers[0].output
            break
    assert hidden.shape[1] == 5


def test_try_inside_the_block(model):
    with model.trace(IDS):
        try:
            model.layers[0].output[:, 99] = 0
        except Exception as error:
            caught = error
        hidden = model.layers[1].output
    assert "index" in str(caught)
    assert hidden.shape[1] == 5


def test_a_block_on_one_line(model, expected):
    with model.trace(IDS): hidden = model.layers[1].output  # noqa: E701  # fmt: skip
    assert torch.equal(hidden, expected)


def test_inside_ones_own_context_manager(model, expected):
    @contextmanager
    def tracing():
        with model.trace(IDS) as tracer:
            yield tracer

    with tracing():
        hidden = model.layers[1].output
    assert torch.equal(hidden, expected)


def test_on_an_exit_stack(model, expected):
    with ExitStack() as stack:
        stack.enter_context(model.trace(IDS))
        hidden = model.layers[1].output
    assert torch.equal(hidden, expected)


def test_under_the_users_own_grad_and_inference_modes(model, expected):
    with torch.inference_mode():
        with model.trace(IDS):
            hidden = model.layers[1].output
        assert torch.is_inference_mode_enabled()
    with torch.no_grad(), model.trace(IDS):
        again = model.layers[1].output
    assert torch.equal(hidden, expected)
    assert torch.equal(again, expected)


def test_print_and_shape_and_if_see_real_values(model, capsys):
    with model.trace(IDS):
        hidden = model.layers[1].output
        if hidden.mean() < 1e9:
            print(hidden.shape[1], hidden[0, 0, 0].item())
    assert capsys.readouterr().out.startswith("5 ")
    assert repr(hidden).startswith("tensor(")


def test_asserts_are_rewritten_by_pytest_as_ever(model):
    with pytest.raises(AssertionError, match="assert 5 == 6"), model.trace(IDS):
        assert model.layers[1].output.shape[1] == 6


def test_in_another_thread(model, expected):
    from concurrent.futures import ThreadPoolExecutor

    def read():
        with model.trace(IDS):
            return model.layers[1].output

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(read) for _ in range(12)]
        assert all(torch.equal(f.result(), expected) for f in futures)
