"""Cells on a model whose modules go by names of ours."""

import pytest
import torch
from transformers import BertConfig, BertModel

from nnsight_magic import LanguageModel
from tests import tiny
from tests.engine.test_own_children import NAMES, clashing, comes_first
from tests.magics.conftest import PROMPT


@pytest.fixture(scope="module")
def clash():
    return LanguageModel(clashing(NAMES), tiny.tokenizer())


@pytest.mark.parametrize("parent", ["model", 'model._own.layers[1]["mlp"]'])
@pytest.mark.parametrize("brackets", [True, False])
def test_a_cell_reads_and_writes_children_of_all_names_of_ours(bare, clash, parent, brackets):
    bare.ns["model"] = clash
    above = clash if parent == "model" else clash._own.layers[1]["mlp"]
    names = [name for name in NAMES if name != "model" and (brackets or comes_first(above, name))]
    if not brackets:  # two are the prompt's in a cell
        names = [name for name in names if name not in ("tokens", "prompt") or parent != "model"]
    path = (parent + '["{}"]').format if brackets else (parent + ".{}").format
    cell = "".join(f"i_{n} = {path(n)}.input\no_{n} = {path(n)}.output\n" for n in names)
    bare.run(f'%%trace "{PROMPT}"\n{cell}')
    for name in names:
        weight = above._own.module._modules[name].weight
        assert torch.equal(bare.ns[f"o_{name}"], bare.ns[f"i_{name}"] + weight)
    cell = "".join(f"{path(n)}.output[:] = {k}\n" for k, n in enumerate(names))
    cell += "".join(f"w_{n} = {path(n)}.output\n" for n in names)
    result = bare.run(f'%%trace "{PROMPT}"\n{cell}')
    assert [int(bare.ns[f"w_{name}"].unique()) for name in names] == list(range(len(names)))
    assert len(result.wrote) == len(names)


def test_everything_of_ours_runs_in_a_cell_at_own(bare, clash):
    bare.ns["model"] = clash
    mlp = 'model._own.layers[1]["mlp"]'
    bare.run(f'%%trace "{PROMPT}"\n{mlp}._own.skip({mlp}.input)\nh = {mlp}.output - {mlp}.input')
    assert not bare.ns["h"].any()
    attention = "model._own.layers[1].self_attn"
    bare.run(f'%%trace "{PROMPT}"\np = {attention}._own.pattern')
    assert torch.allclose(bare.ns["p"].sum(-1), torch.ones(()))


def test_a_value_is_told_from_the_child_of_its_name_before_anything_runs(bare):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "vocab_size": 320}
    module = BertModel(BertConfig(**sizes, num_hidden_layers=2, num_attention_heads=2)).eval()
    bare.ns["model"] = model = LanguageModel(module, tiny.tokenizer())
    said = bare.fails(f'%%trace "{PROMPT}"\nh = layers[0].attention.output.dense.output')
    assert 'write layers[0].attention["output"].dense' in said
    bare.run(f'%%trace "{PROMPT}"\nh = layers[0].attention["output"].dense.output')
    assert bare.ns["h"].shape[-1] == 16
    refusal = pytest.raises(AttributeError, match=r'layers\[0\]\["output"\]\.dense')
    with refusal, model.trace(PROMPT):
        _ = model.layers[0].output.dense
    with pytest.raises(Exception, match=r'own child of that name: layers\[0\]\["output"\]'):
        _ = model.layers[0].output.dense
