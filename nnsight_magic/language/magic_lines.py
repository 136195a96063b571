"""`%time h = layers[1].output`: magics that run code of their own, which no trace knows of."""

from __future__ import annotations

import ast
import re

from nnsight_magic.language.paths import Positions
from nnsight_magic.language.problems import Problem

RUN_CODE = ("time", "timeit", "prun", "memit", "mprun", "lprun", "pyinstrument", "debug", "scalene")
_CALLED = {"run_line_magic": "%", "run_cell_magic": "%%"}
_NAME = re.compile(r"(?<![\w.'\"])[^\W\d]\w*")


def code_apart(tree: ast.Module, names: frozenset[str], positions: Positions) -> list[Problem]:
    """The magic lines whose code uses names of the trace: it runs where those are not known."""
    problems = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        found = _magic(node)
        if found is None:
            continue
        sign, name, code = found
        used = [each for each in _NAME.findall(code) if each in names]
        if name in RUN_CODE and used:
            problems.append(
                Problem(
                    positions.of(node),
                    f"{sign}{name} runs its code apart from this cell, where {used[0]} is not "
                    "known",
                    f"to {'time' if 'time' in name else 'watch'} the cell, write %%{name} on a "
                    "line above the cell's first one",
                )
            )
    return problems


def _magic(node: ast.Call) -> tuple[str, str, str] | None:
    """The sign and the name of a magic that is called, and the code that it is given."""
    if not (
        isinstance(node.func, ast.Attribute)
        and node.func.attr in _CALLED
        and isinstance(node.func.value, ast.Call)
        and isinstance(node.func.value.func, ast.Name)
        and node.func.value.func.id == "get_ipython"
    ):
        return None
    texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
    if not texts:
        return None
    return _CALLED[node.func.attr], str(texts[0]), "\n".join(map(str, texts[1:]))
