"""Every example of docs/language.md runs as it stands, on the demo model."""

import re
from pathlib import Path

import pytest
import torch

from nnsight_magic import LanguageModel

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "language.md"
EXAMPLES = [
    block
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    if block.startswith("%%")
]


@pytest.mark.demo
def test_the_readme_s_cell_leaves_plain_tensors(bare, demo_model, demo_tokenizer):
    bare.ns["model"] = LanguageModel(demo_model, demo_tokenizer)
    text = README.read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(%%trace.*?)```", text, re.DOTALL)
    result = bare.run(example.rstrip())
    assert type(bare.ns["resid"]) is type(bare.ns["probs"]) is torch.Tensor
    assert "·Paris" in str(result)
    assert "without" in str(result)


@pytest.mark.demo
@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_of_the_language_page_runs(bare, example, demo_model, demo_tokenizer):
    bare.ns["model"] = LanguageModel(demo_model, demo_tokenizer)
    result = bare.run(example.rstrip())
    if example.startswith("%%edit"):
        assert len(bare.ns["model"].edits) == 1
    else:
        assert [each.name for each in result.saved]


SWEEPS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "sweeps.md").read_text(), re.DOTALL)


@pytest.mark.demo
def test_the_python_of_the_page_on_sweeps_runs():
    (example,) = (block for block in SWEEPS if block.startswith("from nnsight_magic"))
    namespace: dict = {}
    exec(compile(example, "sweeps.md", "exec"), namespace)
    assert namespace["effect"].dims == ("layer", "position")
    assert namespace["effect"].max() > namespace["effect"].baseline


def test_the_cells_of_the_page_on_sweeps_are_those_that_the_tests_compare_with_hooks():
    from tests.magics.test_sweeps import HEADS, PATCH

    patch, heads, _ = (block for block in SWEEPS if block.startswith("%%sweep"))
    named = {"a": '" Paris"', "b": '" Rome"'}
    assert PATCH.format(**named).strip() in patch
    assert HEADS.format(**named).strip() in heads


@pytest.mark.demo
def test_the_texts_of_the_page_on_sweeps_are_as_long_as_they_are_said_to_be(
    bare, demo_model, demo_tokenizer
):
    bare.ns["model"] = LanguageModel(demo_model, demo_tokenizer)
    bare.ns["direction"] = torch.randn(576, generator=torch.Generator().manual_seed(0))
    *_, texts = (block for block in SWEEPS if block.startswith("%%sweep"))
    bare.run(texts.rstrip())
    text = bare.ns["text"]
    assert text.sel(layer=5, strength=0.0).item() == text.baseline.item()
    assert text.baseline.item().startswith(" Paris")
    assert bare.ns["top"].dims == ("layer", "strength", "step")


@pytest.mark.demo
def test_the_page_to_start_from_runs_and_says_what_comes_out(bare, demo_model, demo_tokenizer):
    bare.ns["model"] = LanguageModel(demo_model, demo_tokenizer)
    cells = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "start.md").read_text(encoding="utf-8"), re.DOTALL
    )
    read, change, prompts = (each.rstrip() for each in cells if each.startswith("%%"))
    bare.run(read)
    assert tuple(bare.ns["resid"].shape) == (1, 9, 576)
    assert float(bare.ns["probs"].max()) == pytest.approx(0.656, abs=5e-4)
    paris = int(bare.ns["probs"].argmax())
    bare.run(change)
    assert float(bare.ns["probs"][paris]) == pytest.approx(0.417, abs=5e-4)
    bare.run(prompts)
    assert bare.ns["probs"].shape == (49152,)
    (lines,) = (each for each in cells if each.startswith("%lens"))
    for line in lines.splitlines():
        assert bare.run(line) is not None
