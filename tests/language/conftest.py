"""Models for the tests of the language."""

import pytest

from nnsight_magic import LanguageModel
from tests.hooks import hook_count


@pytest.fixture
def model(tiny, tiny_tokenizer):
    """A tiny Llama of three blocks; no hook may be left on it."""
    module = tiny("llama")
    yield LanguageModel(module, tiny_tokenizer)
    assert hook_count(module) == 0
