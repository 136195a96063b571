"""A tensor in a terminal: IPython's own, and `jupyter console`, which has a kernel."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pexpect
import pytest
from IPython import version_info

ROOT = Path(__file__).parents[2]
VIEWERS = ("xdg-open", "display", "gm", "eog", "xv")  # programs that open a picture
SHOWN = "show(torch.arange(48.).reshape(6, 8), 'numbers')"


@pytest.fixture
def environment(tmp_path):
    """Everything in a folder of its own, with programs for pictures that tell when they are run."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in VIEWERS:
        program = folder / name
        program.write_text(f"#!/bin/sh\necho {name} >> {tmp_path / 'opened'}\n")
        program.chmod(0o755)
    own = {name: str(tmp_path / name.lower()) for name in ("JUPYTER_DATA_DIR", "IPYTHONDIR")}
    own |= {"JUPYTER_RUNTIME_DIR": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path)}
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    others = {
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm-256color",
        "OMP_NUM_THREADS": "1",
    }
    return {**os.environ, **own, **others, "PROMPT_TOOLKIT_NO_CPR": "1"}


@pytest.mark.parametrize("module", ["jupyter_console", "IPython"])
def test_a_terminal_shows_a_map_and_opens_no_window(module, environment, tmp_path):
    command = ["-m", module, "--simple-prompt"]
    size = (40, 100)
    child = pexpect.spawn(
        sys.executable, command, env=environment, encoding="utf8", timeout=120, dimensions=size
    )
    lines = ["import torch; from nnsight_magic.views import show", SHOWN, "print('en' + 'ded')"]
    for number, line in enumerate(lines, 1):
        child.expect_exact(f"In [{number}]: ")
        before = child.before
        child.sendline(line)
    child.expect_exact("ended")
    child.sendline("exit")
    child.close(force=True)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", before)
    assert not (tmp_path / "opened").exists()
    if module == "IPython" and version_info < (8,):  # its terminal asks for the repr alone
        assert "<TensorView: numbers (6, 8) float32, cpu>" in plain
        return
    assert "numbers (6, 8) float32, cpu" in plain
    drawn = [line for line in plain.splitlines() if set(line.strip()) == {"▀"}]
    assert len(drawn) >= 3
    assert len({len(line.strip()) for line in drawn}) == 1
    colours = set(re.findall(r"\x1b\[(?:0;)?((?:38|48)[;0-9]*)m", before))
    assert (
        len(colours) > 6
    )  # as many as there are numbers, nearly: more than eight names of colours
