"""What trees ask for: whatever the page sends, no cell fails for it and no trace stays open."""

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.views.live.tree import TreeView
from tests.magics.conftest import PROMPT

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


def plain_outputs(module, path, inputs):
    """What a hook written by hand sees at each call of a module."""
    seen = []
    hook = module.get_submodule(path).register_forward_hook(lambda *call: seen.append(call[-1]))
    with torch.no_grad():
        module(**inputs)
    hook.remove()
    return seen


WANTED = {
    "model.layers.0.mlp": ("layers_0_mlp_output", 1),
    "model.layers.1": ("layers_1_output", 2),
    "model.layers.2.self_attn.q_proj": ("layers_2_attn_q_proj_output", 3),
    "model.norm": ("norm_output", 3),
    "lm_head": ("unembed_output", 3),
}


@pytest.mark.parametrize("line", ["--fresh", ""], ids=["fresh", "remembering"])
def test_a_forward_runs_no_further_than_to_what_is_wanted(shell, cell, tree, line):
    model = shell.ns["model"]
    inputs = model.tokenizer(PROMPT, return_tensors="pt")
    expected = {path: plain_outputs(model.module, path, inputs)[0] for path in WANTED}
    if not line:
        shell.run(cell("_h = logits"))  # every block is remembered now
    forwards = []
    hook = model.module.model.layers[2].register_forward_hook(lambda *_: forwards.append(1))
    for path, (name, blocks) in WANTED.items():
        for body, read in (("pass", 0), ("_h = layers[0].output", 1), ("_h = layers[1].output", 2)):
            forwards.clear()
            tree.wanted = [path]
            result = shell.run(cell(body, line))
            assert result.blocks_run <= max(blocks, read)
            assert len(forwards) <= (blocks == 3), "the last block has run for nothing"
            torch.testing.assert_close(shell.ns.pop(name), expected[path])
    hook.remove()


def test_several_are_had_from_one_forward_whatever_their_order(shell, cell, tree):
    tree.wanted = ["model.layers.1.mlp", "model.layers.0.mlp", "model.layers.1.self_attn.o_proj"]
    result = shell.run(cell("pass", "--fresh"))
    assert (result.forwards, result.blocks_run, len(result.saved)) == (1, 2, 3)


def test_writes_are_in_what_is_wanted(shell, cell, tree):
    tree.wanted = ["model.layers.1.mlp", "model.layers.0.mlp"]
    shell.run(cell("layers[0].mlp.output[:] = 0"))
    assert not shell.ns["layers_0_mlp_output"].any()
    assert shell.ns["layers_1_mlp_output"].any()


@pytest.mark.parametrize("body", ["pass", "for step in steps:\n    _h = layers[0].output"])
def test_of_a_generation_every_step_is_kept(shell, cell, tree, body):
    tree.wanted = ["model.layers.1.mlp"]
    result = shell.run(cell(body, "-n 4 --do_sample False", "generate"))
    model = shell.ns["model"]
    inputs = model.tokenizer(PROMPT, return_tensors="pt")
    seen = []
    module = model.module.model.layers[1].mlp
    hook = module.register_forward_hook(lambda *call: seen.append(call[-1]))
    model.module.generate(**inputs, max_new_tokens=4, do_sample=False)
    hook.remove()
    assert len(result.prompts[0].generated) == len(seen)
    found = shell.ns["layers_1_mlp_output"]
    assert len(found) == len(seen)
    for mine, plain in zip(found, seen, strict=True):
        torch.testing.assert_close(mine, plain)


def test_what_has_no_output_is_named(shell, cell, tree):
    tree.wanted = ["model.layers"]
    result = shell.run(cell("_h = layers[0].output"))
    assert any("layers" in notice and "without an output" in notice for notice in result.notices)
    assert result.blocks_run == 1
