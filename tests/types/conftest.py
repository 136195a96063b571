"""The checker runs once for all tests that ask for what it found."""

from __future__ import annotations

import pytest

from tests.types.checker import Findings, check


@pytest.fixture(scope="session")
def found() -> Findings:
    return check()
