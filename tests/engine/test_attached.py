"""Modules that the user attaches to the tree, and modules called out of the user's own code."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel
from nnsight_magic.engine.model.model import Model
from nnsight_magic.errors import AlreadyRanError, NeverRanError, NnsightError, NoSuchModuleError
from tests.hooks import hook_count, hooked, hooked_block
from tests.tiny import HIDDEN

IDS = torch.tensor([[1, 2, 3, 4, 5]])


class SAE(nn.Module):
    """(batch, tokens, hidden) → the same, by way of features (batch, tokens, 2·hidden)."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(HIDDEN, 2 * HIDDEN)
        self.decoder = nn.Linear(2 * HIDDEN, HIDDEN)

    def encode(self, x):
        return torch.relu(self.encoder(x))

    def forward(self, x):
        return self.decoder(self.encode(x))


@pytest.fixture
def hf(tiny):
    return tiny("gpt2")


@pytest.fixture
def model(hf):
    model = LanguageModel(hf)
    tree = repr(hf)
    yield model
    assert repr(hf) == tree  # the user's model has not been changed
    assert hook_count(hf) == 0


@pytest.fixture
def sae():
    torch.manual_seed(0)
    sae = SAE().requires_grad_(False)
    yield sae
    assert hook_count(sae) == 0


def logits_of(hf):
    with torch.no_grad():
        return hf(IDS, use_cache=False).logits


# ── attached modules ─────────────────────────────────────────────────────────────────────────


def test_an_attached_module_runs_in_place(model, hf, sae):
    with hooked_block(hf.transformer.h[1], sae):
        expected = logits_of(hf)
    model.layers[1].sae = sae
    with model.trace(IDS):
        model.layers[1].output = model.layers[1].sae(model.layers[1].output)
        logits = model.logits
    assert torch.equal(logits, expected)


def test_what_flowed_through_it_can_be_read_in_the_same_trace(model, sae):
    model.layers[1].sae = sae
    with model.trace(IDS):
        block = model.layers[1]
        hidden = block.output
        rebuilt = block.sae(hidden)
        given, gave = block.sae.input, block.sae.output
        features = block.sae.encoder.output.save()
        inner = block.sae.decoder.input
    assert torch.equal(given, hidden)
    assert torch.equal(gave, rebuilt)
    assert torch.equal(features, sae.encoder(hidden.value))
    assert torch.equal(inner, torch.relu(features))
    assert gave.where == "layers[1].sae.output"


def test_what_it_gave_stays_readable_after_the_user_changed_it(model, sae):
    model.layers[1].sae = sae
    with model.trace(IDS):
        rebuilt = model.layers[1].sae(model.layers[1].output)
        before = rebuilt.clone()
        rebuilt[:] = 0
        assert torch.equal(model.layers[1].sae.output, before)


def test_each_step_of_a_generation_has_its_own_call(model, sae):
    model.layers[1].sae = sae
    shapes = []
    with model.generate(IDS, max_new_tokens=3, do_sample=False) as tracer:
        for _ in tracer.steps:
            block = model.layers[1]
            block.output = block.sae(block.output)
            shapes.append(tuple(block.sae.encoder.output.shape[:2]))
    assert shapes == [(1, 5), (1, 1), (1, 1)]


def test_several_calls_are_told_apart(model, sae):
    model.sae = sae
    with model.trace(IDS):
        first = model.sae(model.layers[0].output)
        second = model.sae(model.layers[1].output)
        assert torch.equal(model.sae.output, first)
        assert torch.equal(model.sae.calls[1].output, second)
        with pytest.raises(NeverRanError, match="2 calls"):
            _ = model.sae.calls[2].output


def test_gradients_reach_what_it_gave(model, sae):
    model.layers[1].sae = sae
    with model.trace(IDS, grad=True):
        block = model.layers[1]
        block.output = block.sae(block.output)
        features = block.sae.encoder.output
        model.logits[0, -1, 3].backward()
        gradient = features.grad
    assert gradient.shape == features.shape
    assert gradient.abs().sum() > 0
    model._root.zero_grad()

    pre = features.value.detach().requires_grad_()
    with (
        hooked_block(model._root.transformer.h[1], lambda out: sae.decoder(torch.relu(pre))),
        torch.enable_grad(),
    ):
        model._root(IDS, use_cache=False).logits[0, -1, 3].backward()
    model._root.zero_grad()
    assert torch.allclose(gradient, pre.grad, atol=1e-6)


def test_methods_and_weights_of_an_attached_module_are_at_hand(model, sae):
    model.layers[1].sae = sae
    with model.trace(IDS):
        features = model.layers[1].sae.encode(model.layers[1].output)
    assert features.shape == (1, 5, 2 * HIDDEN)
    assert model.layers[1].sae.encoder.weight is sae.encoder.weight
    assert model.layers[1].sae.module is sae


def test_a_list_of_modules_is_attached_at_the_root(model):
    model.saes = nn.ModuleList(SAE() for _ in range(3))
    with model.trace(IDS):
        for index, block in enumerate(model.layers):
            _ = model.saes[index](block.output)
        features = [model.saes[index].encoder.output for index in range(3)]
    assert len(features) == len(model.saes) == 3


def test_the_tree_shows_what_is_attached(model, hf, sae):
    model.layers[1].sae = sae
    lines = repr(model).splitlines()
    at = lines.index("        (sae): SAE(")
    assert lines[at + 1] == (
        f"          (encoder): Linear(in_features={HIDDEN}, out_features={2 * HIDDEN}, bias=True)"
    )
    assert "sae" in model.layers[1].children()
    assert "sae" not in model.layers[0].children()
    assert "sae" in dir(model.layers[1])
    assert model.layers[1].sae.name == "layers[1].sae"
    assert model["transformer.h.1.sae.encoder"].module is sae.encoder
    del model.layers[1].sae
    assert repr(model) == repr(hf)
    with pytest.raises(NoSuchModuleError):
        _ = model.layers[1].sae


def test_equal_blocks_stay_together_in_the_tree(sae):
    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(5))

    model = Model(Blocks())
    model["layers.3"].sae = nn.ReLU()
    assert repr(model) == "\n".join(
        [
            "Blocks(",
            "  (layers): ModuleList(",
            "    (0-2): 3 x Linear(in_features=2, out_features=2, bias=True)",
            "    (3): Linear(",
            "      in_features=2, out_features=2, bias=True",
            "      (sae): ReLU()",
            "    )",
            "    (4): Linear(in_features=2, out_features=2, bias=True)",
            "  )",
            ")",
        ]
    )


def test_a_second_one_replaces_the_first(model, sae):
    model.layers[1].sae = nn.Identity()
    model.layers[1].sae = sae
    assert model.layers[1].sae.module is sae


@pytest.mark.parametrize("name", ["mlp", "attn", "ln_1", "forward", "skip"])
def test_nothing_of_the_model_is_replaced(model, sae, name):
    with pytest.raises(NnsightError, match="exists already"):
        setattr(model.layers[1], name, sae)
    with pytest.raises(NoSuchModuleError):
        del model.layers[1].mlp


def test_a_read_before_its_call_says_what_to_do(model, sae):
    model.layers[1].sae = sae
    with model.trace(IDS):
        with pytest.raises(NeverRanError, match=r"Call it first: y = layers\[1\].sae\(x\)"):
            _ = model.layers[1].sae.output
        _ = model.layers[1].sae(model.layers[1].output)
        assert model.layers[1].sae.output.shape == (1, 5, HIDDEN)
    with model.trace(IDS), pytest.raises(NeverRanError):
        _ = model.layers[1].sae.output  # of the trace before, it knows nothing


def test_a_write_to_what_it_gave_is_refused(model, sae):
    model.layers[1].sae = sae
    with model.trace(IDS):
        _ = model.layers[1].sae(model.layers[1].output)
        with pytest.raises(AlreadyRanError, match="in your own code"):
            model.layers[1].sae.output = 0
        with pytest.raises(AlreadyRanError, match="in your own code"):
            model.layers[1].sae.encoder.output[..., 3] = 0
        logits = model.logits  # and the writes before and after are none of its business
        with pytest.raises(AlreadyRanError, match="gone on past"):
            model.layers[0].output = 0
    assert torch.equal(logits, logits_of(model._root))


# ── calls of the model's own modules ─────────────────────────────────────────────────────────


def test_a_logit_lens_calls_the_models_own_modules(model, hf):
    seen = {}
    with hooked_block(hf.transformer.h[0], lambda out: seen.setdefault("hidden", out)):
        logits_of(hf)
    with torch.no_grad():
        expected = hf.lm_head(hf.transformer.ln_f(seen["hidden"]))
    with model.trace(IDS) as tracer:
        lens = model.lm_head(model.transformer.ln_f(model.layers[0].output)).save()
    assert torch.equal(lens, expected)
    assert tracer.report.forwards == 1
    assert tracer.report.blocks_run == 1


def test_such_a_call_is_not_one_of_the_forwards(model, hf):
    with model.trace(IDS):
        _ = model.transformer.ln_f(model.layers[0].output)
        _ = model.transformer.ln_f(model.layers[1].output)
        norm = model.norm.output
        logits = model.logits
    seen = {}
    with hooked(hf.transformer.ln_f, lambda out: seen.setdefault("norm", out)):
        expected = logits_of(hf)
    assert torch.equal(norm, seen["norm"])
    assert torch.equal(logits, expected)


def test_a_module_that_the_forward_stands_in_can_be_called(model):
    with model.trace(IDS):
        hidden = model.layers[1].mlp.input
        value = model.layers[1].mlp(hidden)
        assert torch.equal(value, model.layers[1].mlp.output)
        again = model.layers[1].mlp(hidden)
        assert torch.equal(value, again)


def test_a_skipped_or_watched_module_is_called_as_it_is(model):
    with model.trace(IDS):
        expected = model.layers[1].attn.ops.scaled_dot_product_attention.output
        plain = model.layers[1].mlp(model.layers[1].mlp.input)
    with model.trace(IDS):
        model.layers[1].mlp.skip(torch.zeros(1, 5, HIDDEN))
        given = model.layers[2].input
    with model.trace(IDS):
        given_to_mlp = model.layers[1].mlp.input
        model.layers[1].mlp.skip(torch.zeros(1, 5, HIDDEN))
        assert torch.equal(model.layers[1].mlp(given_to_mlp), plain)
        assert torch.equal(model.layers[2].input, given)
        assert torch.equal(model.layers[1].attn.ops.scaled_dot_product_attention.output, expected)


def test_the_result_of_a_call_is_the_users_own(model):
    with model.trace(IDS):
        hidden = model.layers[1].output
        passed = model.transformer.drop(hidden)  # gives its very argument back in eval mode
        passed[:] = 0
        same = model.layers[1].output
    assert torch.equal(hidden, same)
    assert not torch.equal(hidden, passed)


def test_a_block_may_be_called_and_its_zero_index_keeps_its_meaning(model):
    with model.trace(IDS):
        hidden = model.layers[1].output
        result = model.layers[2](hidden)
        expected = model.layers[2].output
    # transformers 4 has blocks that return tuples; [0] is their hidden states there too.
    assert torch.allclose(result[0], expected[0], atol=1e-6)
    assert result[0].shape == hidden.shape


def test_outside_a_trace_a_call_is_a_plain_call(model, hf):
    hidden = torch.randn(1, 5, HIDDEN)
    result = model.lm_head(hidden)
    assert type(result) is torch.Tensor
    assert torch.equal(result, hf.lm_head(hidden))


def test_a_call_before_the_weights_are_there_loads_them(tiny_gpt2_folder):
    model = LanguageModel(str(tiny_gpt2_folder))
    assert not model.loaded
    result = model.lm_head(torch.ones(1, 1, HIDDEN))
    assert model.loaded
    assert not result.is_meta
