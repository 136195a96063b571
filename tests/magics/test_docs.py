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
