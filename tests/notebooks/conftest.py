"""The demo model that the exercises' checks are computed from."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def demo(demo_model: Any, demo_tokenizer: Any) -> Any:
    from nnsight_magic import LanguageModel

    return LanguageModel(demo_model, demo_tokenizer)
