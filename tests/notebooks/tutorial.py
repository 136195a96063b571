"""A tutorial as its tests see it: cells, folded solutions, checks."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

FOLDER = Path(__file__).parents[2] / "notebooks"
PATHS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
NAMES = [path.stem for path in PATHS]

FOLDED = re.compile(r"<details><summary>Solution</summary>\n(.*?)\n</details>", re.DOTALL)
FENCED = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXERCISE = re.compile(r"check\.exercise_(\d)\(")


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def solutions(notebook: Any) -> list[str]:
    """The code of all folded solutions, cell by cell."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return [code.strip() for text in texts for part in FOLDED.findall(text)
            for code in FENCED.findall(part)]  # fmt: skip


def checks_module(notebook: Any) -> Any:
    """The module whose `Checks` the notebook imports."""
    source = "\n".join(cell.source for cell in notebook.cells)
    (name,) = set(re.findall(r"from nnsight_magic\.tutorials\.(\w+) import Checks", source))
    return importlib.import_module(f"nnsight_magic.tutorials.{name}")


def exercises(notebook: Any) -> list[int]:
    """The numbers of the exercises that have a cell of their own, in their order."""
    found = [EXERCISE.search(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    return [int(each[1]) for each in found if each]


@dataclass(frozen=True)
class Wrong:
    """A typical wrong answer: its exercise, the answer, and words that its hint has."""

    exercise: int
    answer: Any
    words: str


def hint_for(checks: Any, number: int, *answer: Any) -> str:
    """What a wrong answer is told."""
    verdict = getattr(checks, f"exercise_{number}")(*answer)
    assert not verdict.right, f"exercise {number} takes a wrong answer for right: {verdict}"
    return verdict.says
