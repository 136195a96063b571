"""The tutorials: executed with their folded solutions, and in the form in which they are kept."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from tests.notebooks.tutorial import (
    FOLDER,
    NAMES,
    checks_module,
    exercises,
    hint_for,
    read,
    solutions,
)

# What a page that shows notebooks loads for each; a saved picture of numbers should not need more.
LARGEST = 400_000
LIVE = "application/vnd.jupyter.widget-view+json"

# What no exercise asks for. Each is told so in words.
NONSENSE = ["", "nonsense", 3.5, float("nan"), True, [], [[]], {}, object(), len, 10**9, (None,),
            (1, 2), (1, 2, 3), ("a", "b"), ["99.99"], b"bytes", [1, "two"], {"a": 1}]  # fmt: skip


def executed(name: str) -> NotebookNode:
    """A notebook that has run, with its solutions as further cells at the end."""
    notebook = read(name)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3",
                            resources={"metadata": {"path": str(FOLDER)}})  # fmt: skip
    notebook.cells += [new_code_cell(code) for code in solutions(notebook)]
    client.execute(env={**os.environ, "OMP_NUM_THREADS": "1"})
    return notebook


@pytest.fixture(scope="module")
def ran(demo_model) -> Iterator[dict[str, Future]]:
    """All of them, two at a time: each kernel keeps one core busy."""
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(executed, name) for name in NAMES}


@pytest.mark.demo
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_from_top_to_bottom_and_its_solutions_are_right(name, ran):
    notebook = ran[name].result()
    solved, asked = solutions(read(name)), exercises(read(name))
    told = [
        output.data["text/plain"]
        for cell in notebook.cells[-len(solved) :]
        for output in cell.outputs
        if output.output_type == "execute_result" and "check.exercise" in cell.source
    ]
    assert all(text.startswith("✓") for text in told), told
    assert len(told) == len(asked), told


@pytest.mark.parametrize("name", NAMES)
def test_it_is_kept_with_outputs_that_show_without_a_kernel(name):
    path = FOLDER / f"{name}.ipynb"
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST
    notebook = read(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert LIVE not in output.get("data", {})
            assert output.get("name") != "stderr", output.text  # a warning: the cell mends it
    assert "widgets" not in notebook.metadata
    places = ("/root/", "/home/", "/tmp/", "site-packages")
    assert not any(word in json.dumps(notebook) for word in places)


@pytest.mark.parametrize("name", NAMES)
def test_each_exercise_has_a_check_a_cell_and_a_solution(name):
    notebook = read(name)
    found = exercises(notebook)
    checks = checks_module(notebook).Checks
    methods = [each for each, _ in inspect.getmembers(checks) if each.startswith("exercise_")]
    assert [f"exercise_{number}" for number in found] == sorted(methods)
    assert 3 <= len(found) <= 6
    solved = [code for code in solutions(notebook) if "check.exercise_" in code]
    assert len(solved) == len(found)


@pytest.mark.demo
@pytest.mark.parametrize("name", NAMES)
def test_nonsense_gets_a_hint(name, demo):
    checks = checks_module(read(name)).Checks(demo)
    for number in exercises(read(name)):
        for answer in NONSENSE:
            assert len(hint_for(checks, number, answer)) > 10, (number, answer)
        opened = getattr(checks, f"exercise_{number}")(...)
        assert opened.open
        assert not opened
