"""The demo model as this package has it, and as TransformerLens has it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from torch import nn
from transformers import logging

from nnsight_magic import LanguageModel
from tests import tiny
from tests.hooks import hook_count

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"  # what TransformerLens knows the demo model as


@pytest.fixture(scope="session")
def wrapped(demo_model: nn.Module, demo_tokenizer: Any) -> LanguageModel:
    return LanguageModel(demo_model, demo_tokenizer)


@pytest.fixture
def demo(wrapped: LanguageModel) -> Any:
    """The demo model; it is left as it was found."""
    yield wrapped
    assert hook_count(wrapped.module) == 0


@pytest.fixture(scope="session")
def bridge(demo_model: nn.Module, demo_tokenizer: Any) -> Any:
    """TransformerLens' own wrapping of a copy of the demo model."""
    verbosity = logging.get_verbosity()
    from transformer_lens.model_bridge import TransformerBridge

    logging.set_verbosity(verbosity)  # importing it silences transformers for the whole process
    return TransformerBridge.boot_transformers(
        NAME, hf_model=copy.deepcopy(demo_model), tokenizer=demo_tokenizer, device="cpu"
    )


@pytest.fixture(scope="session")
def named(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a model: what a worker loads it by."""
    folder = tmp_path_factory.mktemp("model")
    tiny.build("llama").save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return str(folder)
