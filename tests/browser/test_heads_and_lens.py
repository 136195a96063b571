"""Attention and the lens in JupyterLab: heads walked by keys, tokens linked, tiles of long prompts,
and places had as cells that give the same numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import expect

from nnsight_magic.analyses.attention_blocks import pooled
from nnsight_magic.views.data.in_blocks import InBlocks
from nnsight_magic.views.live.heads import HeadsView
from nnsight_magic.views.still.colours import scale
from tests.browser.conftest import new_page
from tests.browser.lab import TWO_FRAMES, Lab, Notebook
from tests.browser.test_views import AXE, until, view
from tests.browser.thirty import live, live_of

PROMPT = "The Eiffel Tower is in the city of"
CELLS = [
    "%load_ext nnsight_magic\nimport torch\nfrom nnsight_magic import analyses",
    "%model demo",
    f'%attention "{PROMPT}" -o found -q',
    "heads = found.view()\nheads",
    "many = analyses.attention(model, torch.arange(1000, 1500)[None])\nlong = many.view()\nlong",
    f'%lens "{PROMPT}" --answer " Paris" -o seen -q',
    "grid = seen.view(settled=True)\ngrid",
]


@pytest.fixture(scope="module")
def shown(lab: Lab, browser: Any, demo_cached: None) -> Iterator[Notebook]:
    page = new_page(browser)
    lab.notebook("heads.ipynb", CELLS)
    notebook = Notebook(page).open(lab.address("heads.ipynb"))
    notebook.run_all()
    yield notebook
    assert notebook.errors == [] and page.abroad == []
    page.context.close()


def says(notebook: Notebook, code: str, expected: str) -> None:
    """The kernel prints that, sooner or later."""
    assert until(lambda: notebook.evaluate(f"print({code})").strip() == expected), (
        notebook.evaluate(f"print({code})")
    )


def test_heads_are_walked_by_keys_and_opened_from_the_table(shown: Notebook) -> None:
    heads = view(shown, "attention heads attention")
    says(shown, "heads.at", "[16, 0]")
    small = heads.get_by_role("region", name=re.compile("^all heads"))
    small.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        shown.page.keyboard.press(key)
    says(shown, "heads.at", "[17, 2]")
    expect(heads).to_contain_text("head 17.2")
    heads.get_by_role("button", name="first", exact=True).click()
    says(shown, "heads.score", "first")
    table = heads.get_by_role("table", name="heads by their scores")
    sorted_by = table.get_by_role("columnheader").filter(has_text="↓")
    expect(sorted_by).to_have_text("first ↓")
    row = table.get_by_role("row").nth(1)
    best = row.get_by_role("button").inner_text()
    row.get_by_role("button").click()
    says(shown, "'.'.join(map(str, heads.at))", best)
    most = "found.scores.sel(score='first')"
    says(shown, f"float({most}.max() - {most}[tuple(heads.at)]) < 1e-3", "True")
    says(shown, "heads.selection.module.startswith('model.layers.')", "True")


def test_tokens_show_what_they_attend_to_of_one_head_and_of_a_mean(shown: Notebook) -> None:
    heads = view(shown, "attention heads attention")
    shown.evaluate("heads.at = [16, 0]; heads.chosen = []; heads.score = 'previous'")
    strip = heads.get_by_role("listbox", name="tokens attends to")
    strip.get_by_role("option").nth(5).hover()
    words = heads.get_by_role("group", name=re.compile("^what a token attends")).get_by_role(
        "status"
    )
    weight = shown.evaluate("print(f'{float(found.patterns[16, 0, 5, 4]):.2g}')").strip()
    expect(words).to_contain_text(f"attends to ·is {weight}")
    strip.get_by_role("option").nth(5).click()
    says(shown, "heads.selection.token", "5")
    heads.get_by_role("region", name=re.compile("^all heads")).focus()
    shown.page.keyboard.press(" ")
    for name in ("1.2", "11.1"):
        heads.get_by_role("checkbox", name=f"{name} in the mean").check()
    says(shown, "heads.chosen", "[[16, 0], [1, 2], [11, 1]]")
    expect(heads).to_contain_text("the mean of 3 chosen heads: 16.0, 1.2, 11.1")
    mean = "float(sum(found.patterns[k][5, 4] for k in [(16, 0), (1, 2), (11, 1)]) / 3)"
    expect(words).to_contain_text("·is " + shown.evaluate(f"print(f'{{{mean}:.2g}}')").strip())


def test_a_long_prompt_comes_by_tiles_and_by_the_block(shown: Notebook) -> None:
    long = shown.page.get_by_label("attention heads attention", exact=True).nth(1)
    long.scroll_into_view_if_needed()
    heat = long.get_by_label("tensor pattern", exact=True)
    canvas = heat.get_by_role("img").first
    expect(canvas).to_have_attribute("data-drawn", re.compile(r"\d"))
    shown.evaluate("long.at = [3, 4]")
    canvas.focus()
    for key in ("Home", "PageUp", *("ArrowDown",) * 3, "+", "+", "+"):
        shown.page.keyboard.press(key)
    says(shown, "long.large.window[1] - long.large.window[0] < 100", "True")
    says(shown, "long.large.cell", "[3, 4, 3, 0]")
    weight = shown.evaluate("print(str(float(many.block(3)[4, 3, 0]))[:7])").strip()
    expect(heat.locator("output.nnv-readout")).to_contain_text(weight)
    expect(canvas).to_have_attribute("data-drawn", re.compile(r"\d"))
    strip = long.get_by_role("listbox", name="tokens attends to")
    strip.get_by_role("option").nth(200).click()
    words = long.get_by_role("group", name=re.compile("^what a token attends")).get_by_role(
        "status"
    )
    most = "print(f'{float(many.block(3)[4, 200].max()):.2g}')"
    expect(words).to_contain_text(shown.evaluate(most).strip())
    assert int(shown.evaluate("print(len(long.large.codes) + len(long.small))")) < 120_000


def run_added(notebook: Notebook, number: int) -> str:
    """Runs the cell that stands at that place of the notebook; its text."""
    text = notebook.page.evaluate(
        """number => {
            const panel = window.jupyterapp.shell.currentWidget;
            panel.content.activeCellIndex = number;
            window.jupyterapp.commands.execute('notebook:run-cell');
            return panel.content.widgets[number].model.sharedModel.source;
        }""",
        number,
    )
    notebook.await_idle()
    return text


def test_a_place_of_the_lens_marks_the_other_views_and_is_a_cell_of_the_same_number(
    shown: Notebook,
) -> None:
    grid = view(shown, "token grid logit lens")
    rows = grid.get_by_role("region").get_by_role("row")
    assert rows.count() == 32  # the input, thirty blocks, and the tokens
    rows.nth(21).get_by_role("cell").nth(7).click()
    says(shown, "grid.cell", "[20, 7]")
    says(shown, "grid.selection.token, grid.selection.module", "7 model.layers.19")
    says(shown, "grid.selection.layer", "19")
    expect(grid).to_contain_text("rank of ' Paris'")
    grid.get_by_role("button", name="as a cell").click()
    expect(grid).to_contain_text("the cell stands below")
    added = run_added(shown, len(CELLS))
    assert added.startswith(f'%%trace "{PROMPT}"')
    same = (
        "int(token_here) == int(seen.token[20, 7, 0]) and int(rank_here) == int(seen.rank[20, 7])"
        " and abs(float(logprob_here) - float(seen.logprob[20, 7])) < 1e-3"
    )
    says(shown, same, "True")


def test_a_head_is_a_cell_that_gives_its_pattern(shown: Notebook) -> None:
    heads = view(shown, "attention heads attention")
    shown.evaluate("heads.at = [18, 6]")
    expect(heads).to_contain_text("head 18.6")
    heads.get_by_role("button", name="as a cell").click()
    expect(heads).to_contain_text("the cell stands below")
    assert "pattern_here = layers[18].attn.pattern[0, 6]" in run_added(shown, 4)
    close = "torch.allclose(pattern_here, torch.tensor(found.patterns[18, 6].values), atol=1e-4)"
    says(shown, close, "True")


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_nobody_is_shut_out_of_heads_and_lens(shown: Notebook, theme: str) -> None:
    shown.theme(theme)
    shown.page.add_script_tag(path=str(AXE))
    trouble = []
    for name in ("attention heads attention", "token grid logit lens"):
        view(shown, name)
        shown.page.evaluate(TWO_FRAMES)
        trouble += shown.page.get_by_label(name, exact=True).first.evaluate(
            """async root => (await axe.run(root)).violations.map(v => v.id + ': '
                + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160)).join(' | '))"""
        )
    shown.theme("JupyterLab Light")
    assert not trouble, "\n".join(trouble)


def test_one_bright_cell_of_2000_tokens_is_seen_in_the_live_picture(browser: Any) -> None:
    """Blocks are read one at a time, pooled by the greatest weight, and drawn where they stand."""
    tokens, (row, column) = 2000, (1234, 777)
    patterns = torch.zeros(2, tokens, tokens)
    patterns[1, row, column] = 1
    array = InBlocks((1, 2, tokens, tokens), lambda block: patterns)
    small = np.stack([pooled(head) for head in patterns])[None]
    words = [str(k) for k in range(tokens)]
    heads = HeadsView(small, [0], words, {"first": np.zeros((1, 2))}, array, at=[0, 1])
    with live(browser, [heads]) as page:
        pixels = live_of(page, 0).pixels.astype(int)
    dark = np.argwhere(np.abs(pixels - np.array(scale("sequential")[255])).sum(-1) < 12)
    assert len(dark)
    at = (dark.mean(0) + 0.5) / pixels.shape[:2] * tokens
    assert np.abs(at - (row, column)).max() < 2 * tokens / min(pixels.shape[:2])
