"""What a standard name promises in every architecture, or refuses in words."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.errors import NoSuchModuleError
from tests.architectures import families, models
from tests.hooks import hook_count

TEXT = [*families.FAMILIES, "gpt2", "llama", "gpt_neox", "mixtral", "mamba", "t5", "jamba"]


@pytest.fixture(autouse=True)
def one_core():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=TEXT)
def case(request):
    module, inputs = models.build(request.param)
    yield LanguageModel(module), module, inputs
    assert hook_count(module) == 0


def test_embed_is_called_with_the_tokens_of_the_residual_stream(case):
    model, _, inputs = case
    ids = inputs.get("decoder_input_ids", inputs["input_ids"])
    with model.trace(inputs):
        given, found = model.embed.input, model.embed.output
    assert torch.equal(given, ids)
    assert found.shape[:2] == ids.shape


def test_the_embedding_that_a_decoder_shares_with_its_encoder_is_no_standard_name():
    module, _ = models.build("bart")
    module.model.decoder.embed_tokens = module.model.encoder.embed_tokens
    model = LanguageModel(module)
    with pytest.raises((NoSuchModuleError, AttributeError), match="embed"):
        _ = model.embed


def test_a_block_with_two_mlps_names_both_and_one_without_experts_has_one():
    module, _ = models.build("granite4")
    with pytest.raises((NoSuchModuleError, AttributeError), match=r"block_sparse_moe.*shared_mlp"):
        _ = LanguageModel(module).layers[1].mlp
    module.model.layers[1].has_experts = False
    assert LanguageModel(module).layers[1].mlp.path == "model.layers.1.shared_mlp"
    module, _ = models.build("switch")
    assert LanguageModel(module).layers[0].mlp.path == "decoder.block.0.layer.2.mlp"
