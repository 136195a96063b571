"""Small models with random weights, one for each architecture, and a tokenizer that fits them.

Built in memory, seeded, with weights large enough that a change in one block shows in the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

VOCABULARY = 320
LAYERS = 3
HIDDEN = 32
HEADS = 4

# What the tokenizer is trained on: the sentences that tests use as prompts.
SENTENCES = (
    "The Eiffel Tower is in the city of Paris.",
    "The Colosseum is in the city of Rome.",
    "Hello world, this is a test of the tiny model.",
    "When Mary and John went to the store, John gave a drink to Mary.",
    "The quick brown fox jumps over the lazy dog.",
    "One, two, three, four, five: the capital of France is Paris.",
)


def gpt2(layers: int = LAYERS, hidden: int = HIDDEN) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=layers,
        n_embd=hidden,
        n_head=HEADS,
        n_positions=128,
        initializer_range=0.2,
        **_tokens(),
    )
    return GPT2LMHeadModel(config)


def llama(layers: int = LAYERS) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_sizes(layers), num_key_value_heads=2, **_tokens()))


def gpt_neox(layers: int = LAYERS) -> nn.Module:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return GPTNeoXForCausalLM(GPTNeoXConfig(**_sizes(layers), **_tokens()))


def mixtral(layers: int = LAYERS) -> nn.Module:
    from transformers import MixtralConfig, MixtralForCausalLM

    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    config = MixtralConfig(**_sizes(layers), num_key_value_heads=2, **experts, **_tokens())
    return MixtralForCausalLM(config)


def mamba(layers: int = LAYERS) -> nn.Module:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        state_size=8,
        initializer_range=0.2,
        **_tokens(),
    )
    return MambaForCausalLM(config)


def t5(layers: int = LAYERS) -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        d_model=HIDDEN,
        d_kv=HIDDEN // HEADS,
        d_ff=2 * HIDDEN,
        num_layers=layers,
        num_heads=HEADS,
        decoder_start_token_id=1,
        **_tokens(),
    )
    return T5ForConditionalGeneration(config)


def bert(layers: int = LAYERS) -> nn.Module:
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(BertConfig(**_sizes(layers), **_tokens()))


def vit(layers: int = LAYERS) -> nn.Module:
    """Takes `pixel_values` of shape (batch, 3, 32, 32); 17 positions, 5 labels."""
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(**_sizes(layers), image_size=32, patch_size=8, num_labels=5)
    )


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    f.__name__: f for f in (gpt2, llama, gpt_neox, mixtral, mamba, t5, bert, vit)
}


def build(name: str, seed: int = 0, **sizes: int) -> nn.Module:
    """A new model of an architecture, in eval mode; the same weights for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[name](**sizes).eval()


def tokenizer() -> Any:
    """A byte-level BPE tokenizer of at most `VOCABULARY` tokens; any text makes the round trip."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=128,
        # Before transformers 5 it would give token types as well, which `generate` refuses.
        model_input_names=["input_ids", "attention_mask"],
    )


def _sizes(layers: int) -> dict[str, Any]:
    return {
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "initializer_range": 0.2,
    }


def _tokens() -> dict[str, int]:
    return {
        "vocab_size": VOCABULARY,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
