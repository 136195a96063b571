"""The examples of the page on the views run, in their order, and its pictures are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "views.md"


@pytest.mark.demo
def test_the_examples_of_the_page_on_the_views_run() -> None:
    namespace: dict = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 11
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}, example {number}", "exec"), namespace)
    view = namespace["view"]
    assert (view.first.title, view.second.title) == ("20", "24")
    assert namespace["second"].limits == [-10, 10]
    assert Path(namespace["page"]).stat().st_size < 2_000_000
    assert [guesses[0][0] for guesses in namespace["strip"].clean][-1] == " Paris"


def test_the_pictures_of_the_page_are_there_and_small() -> None:
    pictures = re.findall(r"\(images/([\w-]+\.png)\)", PAGE.read_text())
    assert len(pictures) >= 8
    for name in pictures:
        for theme in ("light", "dark"):
            file = PAGE.parent / "images" / name.replace("light", theme)
            assert 2_000 < file.stat().st_size < 150_000
