"""Tiny models whose text another model inside writes: of PEFT, compiled, and of several parts.

Each maker gives a module with random weights and what its `generate` is called with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn

from tests import tiny

Case = tuple[nn.Module, dict[str, Any]]

_SIZES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 2,
}
_VISION = {**_SIZES, "num_hidden_layers": 1, "image_size": 8, "patch_size": 4}
_TEXT = {
    **_SIZES,
    "num_hidden_layers": 2,
    "encoder_hidden_size": 16,
    "vocab_size": 320,
    "bos_token_id": 1,
    "sep_token_id": 2,
    "pad_token_id": 0,
    "max_position_embeddings": 64,
    "initializer_range": 0.5,
}


def _made(kind: Callable[[Any], nn.Module], config: Any) -> nn.Module:
    torch.manual_seed(0)
    return kind(config).eval()


def _image() -> torch.Tensor:
    return torch.linspace(-1, 1, 3 * 64).reshape(1, 3, 8, 8)


def _ids(*ids: int) -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
    }


class Talking(nn.Module):
    """A model of its own class that has another one generate."""

    main_input_name = "input_ids"

    def __init__(self):
        super().__init__()
        self.looks = nn.Linear(2, 2)
        self.language_model = tiny.build("llama")
        self.config = self.language_model.config
        self.generation_config = self.language_model.generation_config

    def forward(self, input_ids, **kwargs):
        return self.language_model(input_ids, **kwargs)

    def generate(self, input_ids, **kwargs):
        self.looks(torch.ones(1, 2))
        return self.language_model.generate(input_ids, **kwargs)


def talking() -> Case:
    return Talking(), {"input_ids": torch.tensor([[5, 6, 7, 8]])}


def _blip2(text: dict[str, Any]) -> Case:
    config = transformers.Blip2Config(
        vision_config=_VISION,
        qformer_config={
            **_SIZES,
            "num_hidden_layers": 1,
            "encoder_hidden_size": 16,
            "vocab_size": 30,
        },
        text_config=text,
        num_query_tokens=2,
        image_token_index=319,
    )
    module = _made(transformers.Blip2ForConditionalGeneration, config)
    return module, {"pixel_values": _image(), **_ids(319, 319, 5, 6, 7)}


def blip2() -> Case:
    return _blip2(
        {
            "model_type": "opt",
            "hidden_size": 16,
            "ffn_dim": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": 320,
            "word_embed_proj_dim": 16,
            "max_position_embeddings": 64,
            "init_std": 0.5,
        }
    )


def blip2_t5() -> Case:
    return _blip2(
        {
            "model_type": "t5",
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 16,
            "num_layers": 2,
            "num_heads": 2,
            "vocab_size": 320,
            "decoder_start_token_id": 0,
            "initializer_factor": 5.0,
        }
    )


def blip() -> Case:
    config = transformers.BlipConfig(text_config=_TEXT, vision_config=_VISION)
    module = _made(transformers.BlipForConditionalGeneration, config)
    return module, {"pixel_values": _image(), **_ids(1, 5, 6, 7, 2)}


def blip_without_text() -> Case:
    return blip()[0], {"pixel_values": _image()}


def blip_that_answers() -> Case:
    config = transformers.BlipConfig(text_config=_TEXT, vision_config=_VISION)
    module = _made(transformers.BlipForQuestionAnswering, config)
    return module, {"pixel_values": _image(), **_ids(1, 5, 6, 7, 2)}


def kosmos2() -> Case:
    text = {
        "embed_dim": 16,
        "layers": 2,
        "ffn_dim": 16,
        "attention_heads": 2,
        "vocab_size": 320,
        "max_position_embeddings": 64,
        "init_std": 0.5,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    config = transformers.Kosmos2Config(
        text_config=text,
        vision_config={**_VISION},
        latent_query_num=2,
    )
    module = _made(transformers.Kosmos2ForConditionalGeneration, config)
    where = torch.tensor([[False, True, True, False, False]])
    given = {"pixel_values": _image(), "image_embeds_position_mask": where, **_ids(0, 5, 6, 7, 8)}
    return module, given


def encoder_decoder() -> Case:
    sizes = {**tiny._sizes(2), **tiny._tokens()}
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.BertConfig(**sizes),
        transformers.BertConfig(**sizes, is_decoder=True, add_cross_attention=True),
    )
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    return _made(transformers.EncoderDecoderModel, config), _ids(5, 6, 7, 8)


def _adapted(kind: str, base: str = "llama", **options: Any) -> Case:
    import peft

    task = "SEQ_2_SEQ_LM" if base == "t5" else "CAUSAL_LM"
    torch.manual_seed(0)
    module = peft.get_peft_model(tiny.build(base), getattr(peft, kind)(task_type=task, **options))
    return module.eval(), _ids(5, 6, 7, 8)


def lora() -> Case:
    return _adapted("LoraConfig", target_modules=["q_proj"], init_lora_weights=False)


def lora_of_t5() -> Case:
    return _adapted("LoraConfig", "t5", target_modules=["q"], init_lora_weights=False)


def prompt_tuning() -> Case:
    return _adapted("PromptTuningConfig", num_virtual_tokens=3)


def prompt_tuning_of_t5() -> Case:
    return _adapted("PromptTuningConfig", "t5", num_virtual_tokens=3, num_transformer_submodules=1)


def prefix_tuning() -> Case:
    return _adapted("PrefixTuningConfig", num_virtual_tokens=3)


def compiled() -> Case:
    return torch.compile(tiny.build("llama"), backend="eager"), _ids(5, 6, 7, 8)


def compiled_lora() -> Case:
    module, given = lora()
    return torch.compile(module, backend="eager"), given


def compiled_forward() -> Case:
    module = tiny.build("llama")
    module.forward = torch.compile(module.forward, backend="eager")
    return module, _ids(5, 6, 7, 8)


def compiled_blocks() -> Case:
    module = tiny.build("llama")
    for block in module.model.layers:
        block.forward = torch.compile(block.forward, backend="eager")
    return module, _ids(5, 6, 7, 8)


# With the path of the block that tests look at.
CASES: dict[str, tuple[Callable[[], Case], str]] = {
    "talking": (talking, "language_model.model.layers.1"),
    "blip2": (blip2, "language_model.model.decoder.layers.1"),
    "blip2_t5": (blip2_t5, "language_model.decoder.block.1"),
    "blip": (blip, "text_decoder.bert.encoder.layer.1"),
    "blip_without_text": (blip_without_text, "text_decoder.bert.encoder.layer.1"),
    "blip_that_answers": (blip_that_answers, "text_decoder.bert.encoder.layer.1"),
    "kosmos2": (kosmos2, "text_model.model.layers.1"),
    "encoder_decoder": (encoder_decoder, "decoder.bert.encoder.layer.1"),
    "lora": (lora, "base_model.model.model.layers.1"),
    "lora_of_t5": (lora_of_t5, "base_model.model.decoder.block.1"),
    "prompt_tuning": (prompt_tuning, "base_model.model.layers.1"),
    "prompt_tuning_of_t5": (prompt_tuning_of_t5, "base_model.decoder.block.1"),
    "prefix_tuning": (prefix_tuning, "base_model.model.layers.1"),
    "compiled": (compiled, "_orig_mod.model.layers.1"),
    "compiled_forward": (compiled_forward, "model.layers.1"),
    "compiled_blocks": (compiled_blocks, "model.layers.1"),
    "compiled_lora": (compiled_lora, "_orig_mod.base_model.model.model.layers.1"),
}
