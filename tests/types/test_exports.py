"""What is imported when it is first asked for is known to type checkers, and is the same thing."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import nnsight_magic
from nnsight_magic import views


def _for_checkers(package: str) -> dict[str, str]:
    """Under which module each name is imported for type checkers."""
    module = importlib.import_module(package)
    tree = ast.parse(Path(str(module.__file__)).read_text())
    blocks = [each for each in tree.body if isinstance(each, ast.If)]
    imports = [each for block in blocks for each in block.body if isinstance(each, ast.ImportFrom)]
    return {name.name: str(each.module) for each in imports for name in each.names}


@pytest.mark.parametrize("package", [nnsight_magic, views])
def test_checkers_and_python_find_a_name_in_the_same_module(package) -> None:
    at_run_time = {
        name: home
        if "." in home and home.startswith("nnsight_magic")
        else f"{package.__name__}.{home}"
        for name, home in package._HOMES.items()
    }
    assert _for_checkers(package.__name__) == at_run_time


@pytest.mark.parametrize("package", [nnsight_magic, views])
def test_every_public_name_is_there(package) -> None:
    assert set(package._HOMES) <= set(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)
