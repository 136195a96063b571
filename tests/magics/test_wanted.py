"""What trees ask for: whatever the page sends, no cell fails for it and no trace stays open."""

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.views.tree import TreeView

ASKED = (
    ["nope"],
    ["model.layers.99.mlp"],
    [""],
    ["model.layers"],
    ["model", "model.layers.0.self_attn", "nope"],
    ["../..", ".", "..", " ", "0", "-1", "[0]", "__class__", "_root", "forward"],
    ["é" * 1000, "\ud800", "a\nb", "'; drop"],
    ["model.layers.0.mlp"] * 50,
)


@pytest.fixture
def tree(shell) -> TreeView:
    return shell.ns["model"].tree()


@pytest.mark.parametrize("asked", ASKED, ids=range(len(ASKED)))
def test_a_tree_may_ask_for_anything(shell, cell, tree, asked):
    tree.wanted = asked
    shell.run(cell("h = layers[0].output"))
    assert not tree.wanted
    assert torch.is_grad_enabled()
    shell.run(cell("h = layers[1].output"))
    assert shell.ns["h"].shape[0] == 1


def test_what_is_not_there_is_named(shell, cell, tree):
    tree.wanted = ["nope", "model.layers.0.mlp"]
    result = shell.run(cell("h = layers[1].output"))
    assert any("nope" in notice for notice in result.notices)
    assert "layers_0_mlp_output" in shell.ns


def test_a_tree_of_a_model_that_was_shortened_since(shell, cell, tiny, tiny_tokenizer):
    model = LanguageModel(tiny("llama"), tiny_tokenizer)
    shell.ns["short"] = model
    tree = model.tree()
    tree.wanted = ["model.layers.2.mlp"]
    del model.module.model.layers[2]
    shell.run('%%trace -m short "hello"\nh = layers[1].output')
    assert shell.ns["h"].shape[0] == 1
