"""A GGUF file, written here out of a tiny Llama, comes back as that Llama."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gguf import GGUFWriter

from nnsight_magic.errors import LoadError, ModelNotFound
from nnsight_magic.loading.load import open_source
from tests import tiny as tiny_models

IDS = torch.tensor([[1, 2, 3, 4]])

# Our name of a tensor in a block -> its name in GGUF.
IN_BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """The order of rotary dimensions that GGUF files of Llamas keep queries and keys in."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path: Path, model, tokenizer) -> None:
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    backend = tokenizer.backend_tokenizer
    vocabulary = sorted(backend.get_vocab(), key=backend.get_vocab().get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if i == 0 else 1 for i in range(len(vocabulary))])

    merges = json.loads(backend.to_str())["model"]["merges"]
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    writer.add_add_bos_token(False)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_tensor("token_embd.weight", model.model.embed_tokens.weight.detach().numpy())
    writer.add_tensor("output_norm.weight", model.model.norm.weight.detach().numpy())
    writer.add_tensor("output.weight", model.lm_head.weight.detach().numpy())
    for index, block in enumerate(model.model.layers):
        for ours, theirs in IN_BLOCK.items():
            weight = block.get_submodule(ours).weight.detach()
            if theirs in ("attn_q", "attn_k"):
                weight = interleaved(weight, weight.shape[0] // config.head_dim)
            writer.add_tensor(f"blk.{index}.{theirs}.weight", weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def llama():
    return tiny_models.build("llama")


@pytest.fixture(scope="module")
def file(llama, tiny_tokenizer, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, llama, tiny_tokenizer)
    return path


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(IDS).logits


def test_the_file_gives_the_same_logits(file, llama):
    loaded = open_source(file).weights()
    assert type(loaded) is type(llama)
    assert not loaded.training
    torch.testing.assert_close(logits(loaded), logits(llama))


def test_a_folder_with_one_file_stands_for_it(file, llama):
    torch.testing.assert_close(logits(open_source(file.parent).weights()), logits(llama))


def test_the_file_may_be_named_apart_from_its_folder(file):
    assert open_source(file.parent, gguf_file=file.name).config.num_hidden_layers == 3
    with pytest.raises(ModelNotFound, match=r"It holds: tiny\.gguf"):
        open_source(file.parent, gguf_file="other.gguf")


def test_of_several_files_one_has_to_be_named(file, tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(file.read_bytes())
    with pytest.raises(ModelNotFound, match=r"2 GGUF files; say which:\n.*a\.gguf.*\n.*b\.gguf"):
        open_source(tmp_path)


def test_the_skeleton_has_its_names_and_shapes(file, llama):
    skeleton = open_source(file).skeleton()
    assert {n: p.shape for n, p in skeleton.named_parameters()} == {
        n: p.shape for n, p in llama.named_parameters()
    }
    assert {p.device.type for p in skeleton.parameters()} == {"meta"}


def test_the_model_can_be_moved_and_saved_as_any_other(file, llama, tmp_path):
    loaded = open_source(file).weights()
    loaded.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(open_source(tmp_path).weights()), logits(llama))
    assert loaded.to(torch.float64).dtype is torch.float64


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_dtype_and_device_are_as_asked(file, device_map):
    loaded = open_source(file).weights(device_map=device_map, dtype="bfloat16")
    assert loaded.dtype is torch.bfloat16
    assert logits(loaded.to("cpu")).shape == (1, 4, tiny_models.VOCABULARY)


def test_its_tokenizer_makes_the_same_tokens(file, tiny_tokenizer):
    tokenizer = open_source(file).tokenizer
    text = "The Eiffel Tower is in the city of Paris, héllo"
    assert tokenizer(text).input_ids == tiny_tokenizer(text).input_ids
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token == tokenizer.eos_token


def test_nothing_is_printed(file, capfd):
    source = open_source(file)
    source.weights()
    _ = source.tokenizer
    assert tuple(capfd.readouterr()) == ("", "")


def test_a_file_that_is_none_is_told(tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(LoadError, match=r"broken\.gguf was found, and cannot be loaded"):
        open_source(path)
