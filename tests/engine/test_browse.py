"""`model.tree()`: the view of a model's modules, with shapes before anything ran."""

from __future__ import annotations

import subprocess
import sys

import torch

from nnsight_magic import LanguageModel
from tests.hooks import hooked

IDS = torch.tensor([[1, 2, 3, 4, 5]])


def test_the_tree_shows_the_shapes_that_hooks_see(tiny):
    hf = tiny("llama")
    seen = {}
    with (
        hooked(hf.model.layers[1].mlp, lambda out: seen.update(mlp=out)),
        hooked(hf.model.layers[1].self_attn, lambda out: seen.update(attn=out[0])),
        torch.no_grad(),
    ):
        hf(IDS)
    view = LanguageModel(hf).tree(IDS)
    assert view.notes["model.layers.*.mlp"]["o"] == str(tuple(seen["mlp"].shape))
    assert view.notes["model.layers.*.self_attn"]["o"] == str(tuple(seen["attn"].shape))
    assert view.notes[""]["o"] == str((1, 5, hf.config.vocab_size))
    assert view.aliases["model.layers"] == "layers"


def test_without_inputs_it_has_no_shapes_and_loads_nothing(tiny_gpt2_folder):
    model = LanguageModel(str(tiny_gpt2_folder))
    view = model.tree()
    assert view.notes == {}
    assert not model.loaded
    assert "transformer" in view.text()


def test_the_engine_alone_imports_no_widgets():
    code = (
        "import sys, torch, nnsight_magic\n"
        "model = nnsight_magic.Model(torch.nn.Linear(3, 4))\n"
        "with model.trace(torch.ones(1, 3)): model.output\n"
        "assert 'ipywidgets' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
