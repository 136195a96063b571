"""`%%sweep --out`: a process that is killed, and another one that goes on where it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from nnsight_magic import LanguageModel
from tests import tiny
from tests.magics.conftest import PROMPT, Shell

BODY = """
for layer, head in grid(layer=layers, head=heads):
    layers[layer].attn.heads[head][:] = 0
    os.write(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), b"%d %d\\n" % (layer, head))
    time.sleep(pause)
    logprob = logits[0, -1].log_softmax(-1)[7]
"""
SCRIPT = """
import os, sys, time
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
import numpy as np
folder, model, log, pause, every, cell, to = sys.argv[1:]
from nnsight_magic.magics import sweep_folder
sweep_folder.EVERY = float(every)
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config, colors="nocolor")
shell.user_ns.update(os=os, time=time, log=log, pause=float(pause))
shell.run_cell("%load_ext nnsight_magic").raise_error()
shell.run_cell(f"from nnsight_magic import LanguageModel; model = LanguageModel({model!r})")
shell.run_cell(cell).raise_error()
np.save(to, shell.user_ns["logprob"].values)
"""


@pytest.fixture
def named(tmp_path: Path) -> str:
    tiny.build("llama").save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_a_sweep_whose_process_is_killed_goes_on_in_another_one(
    bare: Shell, named: str, tmp_path: Path
) -> None:
    folder, log, to = (tmp_path / name for name in ("points", "log", "found.npy"))
    cell = f'%%sweep "{PROMPT}" --batch 1 --out {folder}{BODY}'

    def begun() -> subprocess.Popen[bytes]:
        given = [folder, named, log, 0.3, 0, cell, to]
        return subprocess.Popen([sys.executable, "-c", SCRIPT, *map(str, given)])

    chance, known = random.Random(0), set()
    for _ in range(2):
        process = begun()
        while process.poll() is None and not new_points(folder, known):
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(chance.random() / 2)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        known = set(points(folder))
        assert known and len(known) < 12
        log.write_text("")
    assert begun().wait() == 0
    ran = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
    # The baseline is at the first point; of the others, none that was finished has run again.
    assert {4 * layer + head for layer, head in ran[1:]} == {*range(12)} - known
    bare.ns |= {
        "model": LanguageModel(named),
        "os": os,
        "time": time,
        "log": str(log),
        "pause": 0.0,
    }
    bare.run(cell.replace(f" --out {folder}", ""))
    np.testing.assert_allclose(np.load(to), bare.ns["logprob"].values, atol=2e-4)


def points(folder: Path) -> dict[int, object]:
    path = folder / "points.pt"
    return torch.load(path, weights_only=True) if path.exists() else {}


def new_points(folder: Path, known: set[int]) -> set[int]:
    return set(points(folder)) - known
