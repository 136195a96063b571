"""`%%sweep --on`: the points of a cell run in other processes, and give the same numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnsight_magic import LanguageModel
from tests import tiny
from tests.magics.conftest import PROMPT, Shell
from tests.magics.test_sweeps import HEADS, OTHER, PATCH, one, two


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def shell(bare: Shell, tmp_path: Path) -> Iterator[Shell]:
    """A shell whose model has a name, and an executor in this process as `pool`.

    What is still running there at the end, of a sweep that was refused, is waited for: it puts the
    process's random numbers back when it ends.
    """
    tiny.build("llama").save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    bare.ns["model"] = LanguageModel(tmp_path / "model")
    with ThreadPoolExecutor(1) as bare.ns["pool"]:
        yield bare


def both_ways(shell: Shell, line: str, body: str, names: tuple[str, ...], on: str) -> None:
    """A cell here and elsewhere; what it collects is the same."""
    shell.run(f"{line}\n{body}")
    here = {name: shell.ns[name] for name in names}
    shell.run(f"{line} --on {on}\n{body}")
    for name in names:
        there = shell.ns[name]
        assert there is not here[name] and there.dims == here[name].dims
        assert there.attrs == here[name].attrs
        if there.dtype.kind in "OU":
            assert there.values.tolist() == here[name].values.tolist()
            assert there.baseline.item() == here[name].baseline.item()
            continue
        np.testing.assert_allclose(there.values, here[name].values, atol=2e-4, rtol=0)
        for kind in {"baseline", "reference"} & set(here[name].coords):
            np.testing.assert_allclose(there[kind].values, here[name][kind].values, atol=2e-4)


def test_processes_of_this_machine_give_the_same_numbers(shell: Shell) -> None:
    body = PATCH.format(a=5, b=6)
    both_ways(shell, two(PROMPT, OTHER), body, ("effect",), "2")
    assert set(shell.ns["best"]) == {"layer", "position"}


USED = """
import math
wanted = layers[1].output[:, -1]
for layer, strength in grid(layer=layers, strength=[0.0, 1.0]):
    layers[layer].output[:, -1] += mixed(strength) * wanted
    logit = logits[0, -1, 3] + math.sqrt(more["two"][0])
"""
TEXTS = """
for layer, strength in grid(layer=[0, 2], strength=[0.0, 4.0]):
    for step in steps:
        layers[layer].output[:, -1] += strength * way
        top = logits[0, -1].max()
"""
GRADIENTS = """
for layer in grid(layer=layers):
    hidden = layers[layer].output
    logits[0, -1, 3].backward()
    size = hidden.grad[0].norm()
"""


@pytest.mark.parametrize(
    ("line", "body", "names"),
    [
        ("", HEADS.format(a=7), ("logprob",)),
        ("--batch 2 --no-pack", HEADS.format(a=7), ("logprob",)),
        ("", USED, ("logit",)),
        ("-n 4", TEXTS, ("text", "top")),
        ("-n 4 --seed 3 --do-sample True --temperature 3.0", TEXTS, ("text", "top")),
        ("", GRADIENTS, ("size",)),
    ],
    ids=["heads", "options", "variables", "texts", "sampled", "gradients"],
)
def test_what_a_cell_may_do_it_may_do_elsewhere(
    shell: Shell, line: str, body: str, names: tuple[str, ...]
) -> None:
    shell.run("factor = 0.5\ndef scaled(x): return factor * x\ndef mixed(x): return scaled(x) + 1")
    hidden = shell.ns["model"].module.config.hidden_size
    shell.ns |= {"more": {"two": [4]}, "way": torch.linspace(-1, 1, hidden)}
    shell.ns["output"] = threading.Lock()  # nothing of the cell's, though an attribute is so called
    both_ways(shell, f'%%sweep "{PROMPT}" {line}', body, names, "pool")


def test_prompts_are_an_axis_elsewhere_too(shell: Shell) -> None:
    body = "for text, layer in grid(prompt=prompt, layer=layers):\n    "
    body += "layers[layer].output[:, -1] *= 0.5\n    logit = logits[0, -1, 3]"
    both_ways(shell, f'%%sweep "{PROMPT}" "{OTHER}" "The city"', body, ("logit",), "pool")


def test_an_error_names_its_point_and_the_cell_s_line_and_the_cell_goes_on(shell: Shell) -> None:
    body = HEADS.format(a=7) + "    if layer == 1 and head == 2:\n        1 / zero\n"
    shell.ns["zero"] = 0
    said = shell.fails(one(body, "--on pool"))
    assert "ZeroDivisionError" in said and "1 / zero" in said and "analyses" not in said
    assert "At the point layer=1, head=2" in said and "run again, goes on there" in said
    finished = int(np.isfinite(shell.ns["logprob"].values).sum())
    assert 0 < finished < 12
    body = body.replace("1 / zero", "pass")
    shell.run(one(body, "--on pool"))
    assert np.isfinite(shell.ns["logprob"].values).all()


def test_a_folder_and_another_process_go_together(shell: Shell, tmp_path: Path) -> None:
    body, folder = HEADS.format(a=7), tmp_path / "points"
    shell.run(one(body, f"--on pool --out {folder}"))
    whole = shell.ns["logprob"].values
    kept = torch.load(folder / "points.pt", weights_only=True)
    torch.save({n: kept[n] for n in range(7)}, folder / "points.pt")
    shell.ip.magics_manager.registry["NNsightMagic"]._unfinished = None
    result = shell.run(one(body, f"--out {folder}"))
    assert "went on behind 7 points" in repr(result)
    np.testing.assert_allclose(shell.ns["logprob"].values, whole, atol=2e-4)


@pytest.mark.parametrize(
    ("on", "said"),
    [
        ("0", "at least one process"),
        ("cluster", "NameError: name 'cluster' is not defined"),
        ("PROMPT", "runs no jobs"),
        ("2.5", "runs no jobs"),
        ("1+", "SyntaxError"),
        ("", "takes a value"),
    ],
)
def test_what_runs_nothing_is_refused_on_the_line(shell: Shell, on: str, said: str) -> None:
    shell.ns["PROMPT"] = PROMPT
    text = shell.fails(one(HEADS.format(a=7), f"--on {on}"))
    assert said in text and "--on" in text and "Cell In" in text
    assert "logprob" not in shell.ns


def test_a_variable_that_cannot_travel_is_refused_where_the_cell_uses_it(shell: Shell) -> None:
    shell.ns["lock"] = threading.Lock()
    text = shell.fails(one(HEADS.format(a=7) + "    _x = lock\n", "--on pool"))
    assert "lock, a lock, cannot go to another process" in text
    assert "line 6" in text and "_x = lock" in text and "without --on" in text
    assert "logprob" not in shell.ns


def test_a_model_that_has_no_name_is_refused(shell: Shell) -> None:
    shell.ns["model"] = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    text = shell.fails(one(HEADS.format(a=7), "--on pool"))
    assert "save_pretrained" in text and "--on" in text
    assert "logprob" not in shell.ns


def test_a_variable_that_points_change_is_refused(shell: Shell) -> None:
    shell.run("seen = []")
    text = shell.fails(one(HEADS.format(a=7) + "    seen.append(layer)\n", "--on pool"))
    assert (
        "The points change seen, a variable of the notebook" in text and "for layer, head" in text
    )
    assert shell.ns["seen"] == []


def test_what_a_thread_of_this_process_runs_leaves_the_notebook_s_random_numbers(
    shell: Shell,
) -> None:
    torch.manual_seed(1)
    expected: Any = torch.rand(1)
    torch.manual_seed(1)
    shell.run(one(HEADS.format(a=7), "--on pool"))
    assert torch.equal(torch.rand(1), expected)
