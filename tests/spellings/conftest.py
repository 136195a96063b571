"""The folders that the models of the corpus are loaded from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny as tiny_models


@pytest.fixture(scope="session")
def folders(tiny_gpt2_folder, tiny_tokenizer, tmp_path_factory) -> dict[str, str]:
    """By architecture, as the rules of the corpus name them."""
    llama: Path = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_models.build("llama").save_pretrained(llama)
    tiny_tokenizer.save_pretrained(llama)
    return {"gpt2": str(tiny_gpt2_folder), "llama": str(llama)}
