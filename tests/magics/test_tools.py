"""Formatters and linters, with the settings that docs/tools.md gives, on a notebook with cells."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "tools.md").read_text(encoding="utf-8")
(SETTINGS,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)

CELLS = [
    "%load_ext nnsight_magic",
    "import torch",
    '%%trace "The Eiffel Tower is in the city of"\nx=torch.relu( layers[3].output )',
    '%%generate "Once upon a time" -n 5\nfor step in steps:\n    h=logits',
    "%%edit quiet\nlayers[3].mlp.output[:,-1]=0",
]
FORMATTED = [
    *CELLS[:2],
    '%%trace "The Eiffel Tower is in the city of"\nx = torch.relu(layers[3].output)',
    '%%generate "Once upon a time" -n 5\nfor step in steps:\n    h = logits',
    "%%edit quiet\nlayers[3].mlp.output[:, -1] = 0",
]


class Project:
    """A folder with one notebook, in which tools are run."""

    def __init__(self, folder):
        self.folder = folder
        self.write(CELLS)

    def write(self, cells):
        made = [nbformat.v4.new_code_cell(cell) for cell in cells]
        nbformat.write(nbformat.v4.new_notebook(cells=made), self.folder / "n.ipynb")

    @property
    def cells(self):
        notebook = nbformat.read(self.folder / "n.ipynb", as_version=4)
        return [cell.source for cell in notebook.cells]

    def run(self, *command):
        """Runs a tool of this environment; gives its exit code and what it printed."""
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").write_text(SETTINGS, encoding="utf-8")
    return Project(tmp_path)


@pytest.fixture
def unset(tmp_path):
    """Without the settings, and out of reach of any others."""
    (tmp_path / "pyproject.toml").write_text("[tool.black]\n[tool.ruff]\n", encoding="utf-8")
    return Project(tmp_path)


@pytest.mark.parametrize("command", [("black", "n.ipynb"), ("nbqa", "black", "n.ipynb")])
def test_black_formats_the_cells(project, command):
    code, shown = project.run(*command)
    assert code == 0, shown
    assert project.cells == FORMATTED


def test_nbqa_checks_the_cells_and_knows_the_trace_s_names(project):
    code, shown = project.run("nbqa", "ruff check", "n.ipynb")
    assert code == 0, shown
    project.write([*CELLS, '%%trace "a"\ny = layer[3].output'])
    code, shown = project.run("nbqa", "ruff check", "n.ipynb")
    assert code == 1
    assert "Undefined name `layer`" in shown


def test_ruff_leaves_the_cells_and_what_they_use_alone(project):
    code, shown = project.run("ruff", "check", "--fix", "n.ipynb")
    assert code == 0, shown
    code, shown = project.run("ruff", "format", "n.ipynb")
    assert code == 0, shown
    assert project.cells == CELLS


def test_without_the_settings_ruff_removes_what_only_a_trace_cell_uses(unset):
    unset.run("ruff", "check", "--fix", "n.ipynb")
    assert CELLS[1] not in unset.cells


def test_the_commands_of_the_page_do_without_settings(unset):
    first, second = (line.strip() for line in PAGE.split("commands:\n")[1].strip().split("\n"))
    assert unset.run(*first.split())[0] == 0
    assert unset.cells == FORMATTED
    _, shown = unset.run("nbqa", "ruff check", *second.split('" ')[1].split())
    assert shown.count("Undefined name") == 4  # the trace's names: `builtins` is not set
