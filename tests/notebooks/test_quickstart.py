"""The quickstart: executed in a real kernel by the command that `make demo` calls."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
RUN = ROOT / "notebooks" / "run.py"

# What differs by machine and moment: times, the last digits of probabilities, and the bars of them.
FLEETING = re.compile(r"·\s+[\d.,]+\s+m?s\b|[▏▎▍▌▋▊▉█ ]|[\d.]+(?=%)")


def play(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUN), str(path), *options],
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The quickstart, executed and stored in a folder of its own, and what was printed."""
    path = tmp_path_factory.mktemp("notebooks") / "quickstart.ipynb"
    path.write_text(NOTEBOOK.read_text(encoding="utf-8"), encoding="utf-8")
    done = play(path, "--store")
    assert done.returncode == 0, done.stdout + done.stderr
    return nbformat.read(path, as_version=4), done.stdout


def shown(notebook, beginning: str) -> str:
    """The outputs of the cell whose source begins like this, as text."""
    (cell,) = [each for each in notebook.cells if each.source.startswith(beginning)]
    return "\n".join(each.get("text") or each.data["text/plain"] for each in cell.outputs)


def probabilities(text: str, word: str) -> list[float]:
    """The percentages in the rows of `word`."""
    rows = [line for line in text.splitlines() if line.startswith(word)]
    return [float(number) for row in rows for number in re.findall(r"([\d.]+)%", row)]


@pytest.mark.demo
def test_the_model_predicts_paris(executed):
    notebook, _ = executed
    (paris,) = probabilities(
        shown(notebook, '%%trace "The Eiffel Tower is in the city of"\nresid'), "·Paris"
    )
    assert paris > 50


@pytest.mark.demo
def test_a_write_changes_paris(executed):
    notebook, _ = executed
    text = shown(notebook, "%%trace eiffel=").partition("colosseum:")[0]
    assert probabilities(text, "·Rome")[0] > 50 > probabilities(text, "·Rome")[1]
    now, before = probabilities(text, "·Paris")
    assert now < 1 < 50 < before


@pytest.mark.demo
def test_a_cell_that_looks_early_stops_early(executed):
    notebook, _ = executed
    early = next(each.source for each in notebook.cells if "early = " in each.source)
    assert "ran 6 of 30 blocks" in shown(notebook, early)


@pytest.mark.demo
def test_what_is_printed_is_what_the_cells_show(executed):
    notebook, printed = executed
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = output.get("text") or output.data["text/plain"]
            for line in text.splitlines():
                assert line.rstrip() in printed


@pytest.mark.demo
def test_the_stored_outputs_are_what_the_cells_show_today(executed):
    notebook, _ = executed
    stored = nbformat.read(NOTEBOOK, as_version=4)
    for now, before in zip(notebook.cells, stored.cells, strict=True):
        kinds = [sorted(each.get("data", {"stream": 0})) for each in now.get("outputs", [])]
        assert kinds == [
            sorted(each.get("data", {"stream": 0})) for each in before.get("outputs", [])
        ]
        if kinds:
            beginning = now.source
            assert FLEETING.sub("", shown(notebook, beginning)) == FLEETING.sub(
                "", shown(stored, beginning)
            )


def test_a_cell_that_fails_ends_the_run_and_stores_nothing(tmp_path):
    path = tmp_path / "failing.ipynb"
    cells = [nbformat.v4.new_code_cell("print('before')"), nbformat.v4.new_code_cell("1 / 0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    text = path.read_text(encoding="utf-8")
    done = play(path, "--store")
    assert done.returncode == 1
    assert "before" in done.stdout
    assert "ZeroDivisionError" in done.stdout
    assert path.read_text(encoding="utf-8") == text


def test_a_notebook_that_is_not_there_is_named(tmp_path):
    done = play(tmp_path / "absent.ipynb")
    assert done.returncode != 0
    assert "absent.ipynb" in done.stderr
