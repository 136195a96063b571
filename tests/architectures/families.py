"""Tiny random text models of many architectures, each by the few sizes that make it small."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 99,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_ONE_SIZE = {"num_key_value_heads": None, "head_dim": None}  # heads divide the hidden states
_GPT = {
    **_ONE_SIZE,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "rotary_dim": 4,
    "n_inner": 48,
}
_SEQ2SEQ = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "init_std": 0.2,
    "decoder_start_token_id": 1,
}
_MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LINEAR = {"layer_types": ["linear_attention", "full_attention"]}

# Architecture: the stem of transformers' class names, what its model ends in, its own sizes.
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt_oss": (
        "GptOss",
        "ForCausalLM",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4},
    ),
    "xglm": (
        "XGLM",
        "ForCausalLM",
        {"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4, "init_std": 0.2},
    ),
    "gpt_neo": (
        "GPTNeo",
        "ForCausalLM",
        {
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 4,
        },
    ),
    "codegen": ("CodeGen", "ForCausalLM", _GPT),
    "gptj": ("GPTJ", "ForCausalLM", _GPT),
    "modernbert": (
        "ModernBert",
        "ForMaskedLM",
        {"local_attention": 4, "cls_token_id": 1, "sep_token_id": 2},
    ),
    "jetmoe": (
        "JetMoe",
        "ForCausalLM",
        {
            "kv_channels": 8,
            "num_key_value_heads": 2,
            "num_local_experts": 4,
            "num_attention_heads": 4,
        },
    ),
    "qwen3_next": (
        "Qwen3Next",
        "ForCausalLM",
        {
            **_LINEAR,
            **_MOE,
            "shared_expert_intermediate_size": 16,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 4,
        },
    ),
    "gemma3n": (
        "Gemma3nText",
        "Gemma3nForCausalLM",
        {
            "num_hidden_layers": 4,
            "vocab_size_per_layer_input": 99,
            "hidden_size_per_layer_input": 8,
            "laurel_rank": 4,
            "num_kv_shared_layers": 2,
            "activation_sparsity_pattern": [0.0] * 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
    ),
    "gemma2": (
        "Gemma2",
        "ForCausalLM",
        {"sliding_window": 4, "query_pre_attn_scalar": 8, "final_logit_softcapping": 2.0},
    ),
    "gemma3": (
        "Gemma3Text",
        "Gemma3ForCausalLM",
        {
            "sliding_window": 4,
            "query_pre_attn_scalar": 8,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "cohere": ("Cohere", "ForCausalLM", {"logit_scale": 0.25}),
    "granite": (
        "Granite",
        "ForCausalLM",
        {"logits_scaling": 8.0, "residual_multiplier": 0.5, "embedding_multiplier": 3.0},
    ),
    "granite4": (
        "GraniteMoeHybrid",
        "ForCausalLM",
        {
            **_MAMBA2,
            "layer_types": ["mamba", "attention"],
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "shared_intermediate_size": 16,
        },
    ),
    "bamba": ("Bamba", "ForCausalLM", {**_MAMBA2, "attn_layer_indices": [1]}),
    "falcon_h1": ("FalconH1", "ForCausalLM", {**_MAMBA2, "mamba_d_ssm": 64}),
    "lfm2": ("Lfm2", "ForCausalLM", {"layer_types": ["conv", "full_attention"]}),
    "zamba2": (
        "Zamba2",
        "ForCausalLM",
        {
            "num_hidden_layers": 3,
            "layers_block_type": ["mamba", "hybrid", "mamba"],
            "hybrid_layer_ids": [1],
            "mamba_d_state": 8,
            "n_mamba_heads": 4,
            "mamba_ngroups": 1,
            "num_mem_blocks": 1,
            "adapter_rank": 4,
            "num_key_value_heads": 4,
        },
    ),
    "olmo2": ("Olmo2", "ForCausalLM", {}),
    "glm4": ("Glm4", "ForCausalLM", {}),
    "phi": ("Phi", "ForCausalLM", {}),
    "phi3": ("Phi3", "ForCausalLM", {}),
    "llama4": (
        "Llama4Text",
        "Llama4ForCausalLM",
        {
            "num_local_experts": 2,
            "intermediate_size_mlp": 48,
            "interleave_moe_layer_step": 2,
            "attention_chunk_size": 32,
        },
    ),
    "mistral": ("Mistral", "ForCausalLM", {"sliding_window": 4}),
    "qwen3": ("Qwen3", "ForCausalLM", {}),
    "qwen2_moe": ("Qwen2Moe", "ForCausalLM", {**_MOE, "shared_expert_intermediate_size": 16}),
    "qwen3_moe": ("Qwen3Moe", "ForCausalLM", _MOE),
    "falcon": ("Falcon", "ForCausalLM", _ONE_SIZE),
    "bloom": ("Bloom", "ForCausalLM", {**_ONE_SIZE, "n_layer": 2, "n_head": 4}),
    "opt": ("OPT", "ForCausalLM", {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.2}),
    "stablelm": ("StableLm", "ForCausalLM", {}),
    "starcoder2": ("Starcoder2", "ForCausalLM", {"sliding_window": 4}),
    "mamba2": (
        "Mamba2",
        "ForCausalLM",
        {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 4},
    ),
    "rwkv": ("Rwkv", "ForCausalLM", {"attention_hidden_size": 32, "context_length": 64}),
    "bart": ("Bart", "ForConditionalGeneration", _SEQ2SEQ),
    "pegasus": ("Pegasus", "ForConditionalGeneration", _SEQ2SEQ),
    "marian": ("Marian", "MTModel", _SEQ2SEQ),
    "switch": (
        "SwitchTransformers",
        "ForConditionalGeneration",
        {
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 2,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "num_experts": 2,
            "num_sparse_encoder_layers": 1,
            "num_sparse_decoder_layers": 1,
            "decoder_start_token_id": 0,
        },
    ),
}


def make(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """A model with weights of the present seed, and inputs for it.

    A test of a family that came with a later transformers is left out.
    """
    import transformers

    stem, ending, own = FAMILIES[name]
    kind = ending if ending.startswith(("Gemma", "Llama")) else stem + ending
    sizes = {key: value for key, value in {**_SIZES, **own}.items() if value is not None}
    if not hasattr(transformers, f"{stem}Config"):
        pytest.skip(f"transformers {transformers.__version__} has no {stem}")
    config = getattr(transformers, f"{stem}Config")(**sizes)
    inputs = {"input_ids": IDS}
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = IDS.flip(1)[:, :5]
    return getattr(transformers, kind)(config), inputs
