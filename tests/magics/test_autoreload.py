"""`%autoreload` with traces in a module of the user's: the code that runs is the code on disk."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
import torch
from IPython import version_info

MODULE = """
def read(model, ids):
    with model.trace(ids):
        h = model.layers[{block}].output.save()
    return h


class Reader:
    def read(self, model, ids):
        with model.trace(ids):
            return model.layers[{block}].output
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """`write(block)`: the user's module, saved anew and younger than before."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_traces", raising=False)
    path = tmp_path / "my_traces.py"
    versions = iter(range(1, 10))

    def write(block):
        path.write_text(MODULE.format(block=block), encoding="utf-8")
        moment = path.stat().st_mtime + next(versions)
        os.utime(path, (moment, moment))

    return write


@pytest.mark.skipif(
    version_info < (8,) and importlib.util.find_spec("imp") is None,
    reason="IPython 7's %autoreload imports `imp`, which Python has no more from 3.12 on",
)
def test_a_trace_in_a_module_runs_its_new_code_after_an_edit(shell, write):
    write(block=0)
    shell.run("%load_ext autoreload\n%autoreload 2")
    shell.run("import torch\nfrom my_traces import Reader, read\nids = torch.tensor([[1, 2, 3]])")
    shell.run("reader = Reader()")
    before = shell.run("read(model, ids)"), shell.run("reader.read(model, ids)")
    write(block=1)
    after = shell.run("read(model, ids)"), shell.run("reader.read(model, ids)")

    shell.run("with model.trace(ids):\n    b0, b1 = [b.output for b in model.layers[:2]]")
    for value in before:
        assert torch.equal(value, shell.ns["b0"])
    for value in after:
        assert torch.equal(value, shell.ns["b1"])
