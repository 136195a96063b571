"""Shapes and dtypes of a whole model, from its structure alone."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from nnsight_magic import LanguageModel
from nnsight_magic.engine.model.model import Model
from nnsight_magic.engine.running.scan import Shape
from nnsight_magic.errors import ScanError
from tests import tiny as tiny_models
from tests.hooks import hook_count

IDS = torch.tensor([[1, 2, 3, 4, 5]])
PIXELS = {"pixel_values": torch.zeros(1, 3, 32, 32)}


def shapes(value):
    if isinstance(value, torch.Tensor):
        return Shape(tuple(value.shape), value.dtype)
    if isinstance(value, tuple | list):
        return tuple(shapes(item) for item in value)
    if isinstance(value, dict):
        return {key: shapes(item) for key, item in value.items()}
    return None


@pytest.mark.parametrize("name", tiny_models.ARCHITECTURES)
def test_the_shapes_are_those_that_a_forward_has(name, tiny):
    hf = tiny(name)
    model = LanguageModel(hf)
    inputs = PIXELS if name == "vit" else IDS
    if name in ("mixtral", "bert") and transformers.__version__ < "5":
        # Mixtral's experts look which tokens go where, and BERT looks into its mask.
        with pytest.raises(ScanError, match="it needs numbers, not shapes alone, in"):
            model.scan(inputs)
        assert hook_count(hf) == 0
        return
    scanned = model.scan(inputs)
    assert hook_count(hf) == 0

    ran = {}
    for path, module in hf.named_modules():
        module.register_forward_hook(
            # The first call: before transformers 5, T5's encoder and decoder share an embedding.
            lambda module, args, output, path=path: ran.setdefault(path, shapes(output)) and None
        )
    with model.trace(inputs):
        logits = model.output.logits
    assert logits.shape == scanned[""].output["logits"].shape
    for path, output in ran.items():
        if isinstance(output, Shape):
            assert scanned[path].output == output
    # How experts are run may differ, and with it which of them are called.
    assert ran.keys() == scanned.keys()


def test_seventy_billion_parameters_are_scanned_without_a_weight():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=128256,
        dtype=torch.bfloat16,
    )
    with torch.device("meta"):
        model = LanguageModel(LlamaForCausalLM(config).bfloat16())
    assert sum(p.numel() for p in model.module.parameters()) > 70e9
    scanned = model.scan(IDS)
    assert scanned[model.layers[79].mlp].output == Shape((1, 5, 8192), torch.bfloat16)
    assert scanned[model.lm_head].output == Shape((1, 5, 128256), torch.bfloat16)
    assert "model.layers.0 … 79" in repr(scanned)
    assert len(repr(scanned).splitlines()) < 25


def test_order_and_calls_are_those_of_the_forward():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.shared = nn.Linear(2, 3), nn.Linear(2, 2)
            self.unused = nn.Linear(2, 2)

        def forward(self, x, *, scale):
            return {"out": (self.last(self.shared(self.shared(x))) * scale, None)}

    scanned = Model(Twice()).scan(torch.ones(4, 2), scale=2.0)
    assert list(scanned) == ["", "shared", "last"]
    assert scanned["shared"].calls == 2
    assert scanned["shared"].order < scanned["last"].order < scanned[""].order
    assert scanned[""].output == {"out": (Shape((4, 3), torch.float32), None)}
    assert scanned[""].inputs == ((Shape((4, 2), torch.float32),), {"scale": 2.0})
    assert "2 times" in repr(scanned)


def test_a_batch_with_padding_is_scanned(tiny, tiny_tokenizer):
    model = LanguageModel(tiny("gpt2"), tokenizer=tiny_tokenizer)
    scanned = model.scan(["The quick brown fox", "Hello"])
    output = scanned[model.layers[0]].output
    hidden = output if isinstance(output, Shape) else output[0]  # transformers 4: in a tuple
    assert hidden.shape[0] == 2


def test_a_model_that_looks_at_numbers_says_so():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(2, 2)

        def forward(self, x):
            return x if self.first(x).sum().item() > 0 else -x

    with pytest.raises(ScanError, match=r"Looks cannot be scanned.*\n.*\nRun a trace"):
        Model(Looks()).scan(torch.ones(1, 2))


def test_weights_and_hooks_of_the_model_stay_as_they_are(tiny):
    hf = tiny("gpt2")
    calls = []
    hf.transformer.h[0].register_forward_hook(lambda *args: calls.append(args))
    before = {name: (id(p), p._version) for name, p in hf.named_parameters()}
    LanguageModel(hf).scan(IDS)
    assert {name: (id(p), p._version) for name, p in hf.named_parameters()} == before
    assert calls == []


@pytest.mark.parametrize("named", [False, True])
def test_equal_modules_in_a_row_are_one_line_wherever_their_list_is(named):
    alike = [nn.Linear(2, 2) for _ in range(11)]
    lists = {"first": nn.Sequential(*alike, nn.Tanh(), nn.Linear(2, 2))}
    root = nn.Sequential(nn.ModuleDict(lists)["first"]) if named else lists["first"]
    rows = [row.split("  ")[0] for row in repr(Model(root).scan(torch.zeros(1, 2))).splitlines()]
    inside = "0." if named else ""
    below = [f"{inside}0 … 10", f"{inside}11", f"{inside}12"]
    assert rows == ["(the model)", *(["0"] if named else []), *below]
