"""A module's source, with its operations beside their lines; the page about both."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from nnsight_magic import LanguageModel
from nnsight_magic.engine.model.model import Model
from nnsight_magic.errors import (
    NnsightError,
)
from tests.engine.places.eager import IDS, InPlace


def test_the_source_names_the_operations_beside_their_lines(model):
    lines = repr(model.layers[1].attn.source).splitlines()
    softmax = next(line for line in lines if line.endswith("← softmax[0]"))
    assert "nn.functional.softmax(attn_weights, dim=-1)" in softmax
    assert any("matmul[0]" in line.partition("←")[2] for line in lines)
    block = repr(model.layers[1].source)
    assert "attn_output + residual" in block
    assert "← add[1]" in block


@pytest.mark.parametrize(
    "name", ["gpt2", "llama", "gpt_neox", "mixtral", "mamba", "t5", "bert", "vit"]
)
def test_the_listed_operations_are_those_that_a_trace_finds(tiny, name):
    """Every block-level module of every architecture: listed on made-up inputs, read in a trace."""
    hf = tiny(name)
    model = LanguageModel(hf)
    inputs = {"pixel_values": torch.randn(1, 3, 32, 32)} if name == "vit" else IDS
    found = 0
    for path, module in hf.named_modules():
        if isinstance(module, nn.ModuleList) or not path:
            continue
        handle = model[path]
        if not handle.path.startswith(model.layers[1].path + "."):
            continue
        source = handle.source
        if not source.known or not source.operations:
            continue
        last = source.operations[-1].operation
        with model.trace(inputs):
            value = handle.ops[last].output
        assert isinstance(value, torch.Tensor | tuple) or hasattr(value, "to_tuple")
        found += len(source.operations)
    unknown = name == "bert" and transformers.__version__ < "5"  # it looks into its mask
    assert found == 0 if unknown else found > 5


def test_html_escapes_the_source():
    class Compared(nn.Module):
        def forward(self, x):
            return x < 1

    model = Model(nn.Sequential(Compared()))
    with model.trace(torch.zeros(1)):
        text = model[0].source._repr_html_()
    assert "x &lt; 1" in text
    assert "lt[0]" in text


def test_operations_are_listed_and_visited(model):
    ops = model.layers[1].ops
    assert [each.name for each in ops] == ["layers[1].ops.add[0]", "layers[1].ops.add[1]"]
    assert len(ops) == 2
    assert "add" in ops
    assert "softmax" not in ops
    assert "add × 2" in repr(ops)
    assert dir(model.layers[1].attn.ops).count("softmax") == 1


def test_a_module_that_cannot_be_run_by_itself_shows_its_bare_source():
    model = Model(nn.Sequential(InPlace()))
    source = model[0].source
    assert "y.mul_(2)" in repr(source)
    assert "inside a trace" in repr(source)
    with pytest.raises(NnsightError, match="not known"):
        len(model[0].ops)
    with model.trace(torch.zeros(1, 2)):
        assert [o.operation.name for o in model[0].source.operations] == [
            "clone", "add_", "mul_", "setitem", "relu",
        ]  # fmt: skip
        assert model.output.tolist() == [[7, 2]]


def test_the_source_is_there_before_the_weights_are(tiny_gpt2_folder):
    model = LanguageModel(str(tiny_gpt2_folder), attn_implementation="eager")
    assert "← softmax[0]" in repr(model.layers[0].attn.source)
    assert not model.loaded


@pytest.mark.demo
def test_the_examples_of_the_documentation_run():
    import doctest
    from pathlib import Path

    page = Path(__file__).parents[3] / "docs" / "operations.md"
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testfile(
        str(page), module_relative=False, globs={"torch": torch}, optionflags=flags
    )
    assert result.attempted > 8
    assert result.failed == 0
