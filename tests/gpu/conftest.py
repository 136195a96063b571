"""Tests that need an accelerator: `make test-gpu` runs them, every other run leaves them out.

`TEST_DEVICE=cpu make test-gpu` runs what a CPU can, to try the tests themselves.
"""

from __future__ import annotations

import os

import pytest
import torch


def accelerator() -> str | None:
    """The device to test on, `None` on a machine that has none."""
    chosen = os.environ.get("TEST_DEVICE")
    if chosen:
        return chosen
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without `-m gpu` they are collected, and not selected; nor what is CUDA's own elsewhere."""
    wanted = "gpu" in (config.getoption("markexpr") or "")
    is_cuda = (accelerator() or "cuda").startswith("cuda")
    left_out = [
        item
        for item in items
        if item.get_closest_marker("gpu")
        and not (wanted and (is_cuda or "cuda" not in item.fixturenames))
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture(scope="session")
def device() -> str:
    found = accelerator()
    if found is None:
        pytest.fail("There is no accelerator here: neither torch.cuda nor torch.mps is available.")
    return found


@pytest.fixture
def cuda(device: str) -> str:
    """For tests of what CUDA alone has; not selected on other devices."""
    return device


@pytest.fixture
def stream(cuda: str) -> torch.cuda.Stream:
    return torch.cuda.Stream(cuda)
