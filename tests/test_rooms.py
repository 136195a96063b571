"""Imports point down: the contracts in pyproject.toml hold, and are seen to break."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENGINE = "nnsight_magic/engine"
# A line too much: the file, and which contract it breaks.
TOO_MUCH = {
    "a type of a room above": (
        f"{ENGINE}/values/words.py",
        "if 0:\n    from nnsight_magic.engine.tracing.tracer import Tracer",
        "The engine's rooms",
    ),
    "a room above, when it is needed": (
        f"{ENGINE}/sites/report.py",
        "def later():\n    import nnsight_magic.engine.running.forward",
        "The engine's rooms",
    ),
    "a circle inside a room": (
        f"{ENGINE}/values/words.py",
        "def later():\n    from nnsight_magic.engine.values.pause import Pause",
        "No circle",
    ),
    "a folder above": (
        f"{ENGINE}/model/model.py",
        "def later():\n    from nnsight_magic.magics import load",
        "The package",
    ),
    "a notebook": (
        "nnsight_magic/loading/load.py",
        "def later():\n    import IPython",
        "without a notebook",
    ),
}


def contracts(folder: Path) -> tuple[int, str]:
    command = "from importlinter.cli import lint_imports_command as lint; lint()"
    arguments = ["--no-cache", "--no-logo"]
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments], cwd=folder, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_imports_point_down_and_there_is_no_circle():
    code, said = contracts(ROOT)
    assert code == 0, said
    assert ", 0 broken" in said


@pytest.mark.parametrize("what", TOO_MUCH)
def test_a_contract_breaks_by(what, tmp_path):
    file, line, contract = TOO_MUCH[what]
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    only_python = shutil.ignore_patterns("static", "__pycache__")
    shutil.copytree(ROOT / "nnsight_magic", tmp_path / "nnsight_magic", ignore=only_python)
    with (tmp_path / file).open("a") as source:
        source.write(f"\n\n{line}\n")
    code, said = contracts(tmp_path)
    assert code == 1, said
    broken = [row for row in said.splitlines() if row.endswith("BROKEN")]
    assert any(contract in row for row in broken), said
