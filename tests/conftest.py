"""Models for the tests: the demo model once per run, tiny random ones as many as are asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests import tiny as tiny_models

ROOT = Path(__file__).parents[1]

# Tests of tiny models. Handing out work to a second thread takes longer than their operations do,
# twenty times longer where another process wants that core.
ONE_THREAD = ("analyses", "architectures", "engine", "notebooks", "spellings")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The fast ring first: what drives a browser comes last."""
    items.sort(key=lambda item: "browser" in item.keywords)


@pytest.fixture(autouse=True, scope="module")
def threads(request: pytest.FixtureRequest) -> None:
    one = not set(ONE_THREAD).isdisjoint(request.path.relative_to(request.config.rootpath).parts)
    torch.set_num_threads(1 if one else 2)


@pytest.fixture
def tiny() -> Callable[..., nn.Module]:
    """`tiny("gpt2")`: a new transformers model with random weights, in eval mode.

    Names: gpt2, llama, gpt_neox, mixtral, mamba, t5, bert, vit.
    """
    return tiny_models.build


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """A tokenizer whose every token is in the tiny models' vocabulary; pads on the left."""
    return tiny_models.tokenizer()


@pytest.fixture(scope="session")
def tiny_gpt2_folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    """A tiny GPT-2 with its tokenizer, as `save_pretrained` writes them."""
    folder = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    tiny_models.build("gpt2").save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def demo_model() -> nn.Module:
    """The demo model as transformers gives it. Leave it as it was found."""
    from nnsight_magic.loading.load import open_source

    return open_source("demo").weights()


@pytest.fixture(scope="session")
def demo_tokenizer() -> Any:
    from nnsight_magic.loading.load import open_source

    return open_source("demo").tokenizer


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` does: a warning is an error."""
    built = tmp_path_factory.mktemp("site")
    options = ["--builder", "html", "--fail-on-warning", "--keep-going", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ROOT / "docs", built],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return built
