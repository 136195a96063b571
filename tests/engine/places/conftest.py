"""Models whose attention is made of single operations."""

from __future__ import annotations

import pytest


@pytest.fixture
def hf(tiny):
    hf = tiny("gpt2")
    hf.set_attn_implementation("eager")
    return hf
