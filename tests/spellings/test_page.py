"""Every line of the page for users of nnsight runs, or is refused in the words that it quotes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from nnsight_magic import LanguageModel, NnsightError
from tests import tiny as tiny_models
from tests.spellings.corpus import PAGE, run, with_models
from tests.spellings.reference import same

TEXT = PAGE.read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
OTHERS = {"Rules", "Refused in words", "What to know beside"}


def rows(section: str) -> list[tuple[str, str]]:
    """The rows of a section's table: what nnsight writes, and the other column."""
    return re.findall(r"^\| `(.+?)` \| (.+?) \|$", SECTIONS[section], re.MULTILINE)


LINES = [(section, *row) for section in SECTIONS if section not in OTHERS for row in rows(section)]


@pytest.fixture(scope="module")
def executed(folders, tiny_tokenizer):
    """What a line leaves behind, behind the page's head and on a new model."""
    head: dict[str, Any] = {}
    run(with_models(BLOCKS[0], folders), "<the page's head>", head)

    def execute(code: str) -> dict[str, Any]:
        model = LanguageModel(tiny_models.build("gpt2"), tiny_tokenizer)
        namespace = {**head, "model": model}
        run(with_models(code, folders), "<a line of the page>", namespace)
        return {name: value for name, value in namespace.items() if name not in head}

    return execute


def in_its_block(code: str, section: str) -> str:
    """A line in the block that its section speaks of."""
    block = re.search(r"^Inside `(with .+?:)`", SECTIONS[section], re.MULTILINE)
    if block is None:
        return code
    after = "\n    result = model.output.logits" if section == "In a trace" else ""
    return f"{block[1]}\n    {code}{after}\n"


@pytest.mark.parametrize(("section", "theirs", "ours"), LINES)
def test_both_spellings_run_and_give_the_same(section, theirs, ours, executed):
    found = executed(in_its_block(theirs, section))
    if not ours.startswith("`"):
        assert re.match(r"\*(as it stands|nothing)", ours)
        return
    other = executed(in_its_block(ours.strip("`"), section))
    shared = found.keys() & other.keys()
    assert shared or "=" not in ours or section == "Around a trace"
    for name in shared:
        if isinstance(other[name], torch.Tensor | list | int):
            same(found[name], other[name])
        else:
            assert isinstance(found[name], type(other[name]))


@pytest.mark.parametrize(("theirs", "says"), rows("Refused in words"))
def test_what_is_refused_says_what_to_write(theirs, says, executed):
    with pytest.raises(NnsightError) as error:
        executed(theirs)
    assert says.strip("`") in str(error.value)


def test_the_blocks_of_the_page_run_in_their_order(folders):
    namespace: dict[str, Any] = {}
    for number, block in enumerate(BLOCKS):
        run(with_models(block, folders), f"<block {number} of the page>", namespace)
    assert len(BLOCKS) == 2


def test_the_page_has_what_it_promises_and_is_linked_to():
    assert len(LINES) >= 40 and len(rows("Rules")) >= 15 and len(rows("Refused in words")) >= 9
    for page in ("README.md", "docs/python.md"):
        assert PAGE.name in (PAGE.parents[1] / page).read_text(encoding="utf-8")
