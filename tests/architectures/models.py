"""Tiny models of every kind, each with an input that it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tests import tiny
from tests.architectures import families

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
Case = tuple[nn.Module, dict[str, Any]]


def whisper() -> Case:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_mel_bins=8,
        max_source_positions=10,
        max_target_positions=32,
        init_std=0.2,
        decoder_start_token_id=1,
        **tiny._tokens(),
    )
    features = torch.linspace(-1, 1, 8 * 20).reshape(1, 8, 20)
    inputs = {"input_features": features, "decoder_input_ids": IDS}
    return WhisperForConditionalGeneration(config), inputs


def clip() -> Case:
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(
        text_config={**tiny._sizes(2), **tiny._tokens()},
        vision_config={**tiny._sizes(2), "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    return CLIPModel(config), {"input_ids": IDS, **pixels()}


def albert() -> Case:
    """One block, called once for each of three layers."""
    from transformers import AlbertConfig, AlbertForMaskedLM

    config = AlbertConfig(**tiny._sizes(3), embedding_size=16, **tiny._tokens())
    return AlbertForMaskedLM(config), {"input_ids": IDS}


def tied() -> Case:
    """The unembedding is the embedding."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**tiny._sizes(3), tie_word_embeddings=True, **tiny._tokens())
    return LlamaForCausalLM(config), {"input_ids": IDS}


def jamba() -> Case:
    """Blocks of two classes: every second one attends, the others are Mamba's."""
    from transformers import JambaConfig, JambaForCausalLM

    period = {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2}
    sizes = {"num_key_value_heads": 2, "num_experts": 2, "mamba_d_state": 8, "mamba_dt_rank": 4}
    # transformers 4 refuses to run without a GPU's kernels where it is not told to.
    sizes["use_mamba_kernels"] = False
    config = JambaConfig(**tiny._sizes(3), **period, **sizes, **tiny._tokens())
    return JambaForCausalLM(config), {"input_ids": IDS}


def half() -> Case:
    return tiny.build("llama").bfloat16(), {"input_ids": IDS}


def lora() -> Case:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    return get_peft_model(tiny.build("llama"), config), {"input_ids": IDS}


def quantised() -> Case:
    """8-bit weights in every linear layer, by torch's dynamic quantisation."""
    model = tiny.build("llama")
    from torch.ao.quantization import quantize_dynamic

    return quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8), {"input_ids": IDS}


def pixels() -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)}


def _by_name(name: str) -> Callable[[], Case]:
    def build() -> Case:
        inputs = pixels() if name == "vit" else {"input_ids": IDS}
        if name == "t5":
            inputs["decoder_input_ids"] = IDS
        return tiny.build(name), inputs

    return build


def _family(name: str) -> Callable[[], Case]:
    return lambda: families.make(name)


CASES: dict[str, Callable[[], Case]] = {
    **{name: _by_name(name) for name in tiny.ARCHITECTURES},
    **{name: _family(name) for name in families.FAMILIES},
    **{f.__name__: f for f in (whisper, clip, albert, tied, jamba, half, lora, quantised)},
}


def build(name: str) -> Case:
    """A model with the same weights every time, in eval mode, and keyword arguments for it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, inputs = CASES[name]()
        return module.eval(), inputs
