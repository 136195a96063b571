"""What the magics show in JupyterLab: a trace's result, and a generation that is stopped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import new_page
from tests.browser.lab import Lab, Notebook
from tests.browser.test_views import until

CELLS = [
    "%load_ext nnsight_magic",
    "%model demo",
    '%%trace "The Eiffel Tower is in the city of"\n'
    "resid = layers[20].output\n"
    "layers[22].mlp.output[:, -1] = 0\n"
    "probs = logits[:, -1].softmax(-1)",
]


@pytest.fixture(scope="module")
def shown(lab: Lab, browser: Any, demo_cached: None) -> Iterator[Notebook]:
    page = new_page(browser)
    lab.notebook("cells.ipynb", CELLS)
    notebook = Notebook(page).open(lab.address("cells.ipynb"))
    notebook.run_all()
    yield notebook
    page.context.close()


def test_a_trace_shows_its_result(shown: Notebook) -> None:
    result = shown.page.get_by_label("run 1", exact=True)
    expect(result).to_contain_text("layers[22].mlp.output")
    expect(result.get_by_role("table").first).to_contain_text("·Paris")
    result.get_by_role("button", name="resid").click()
    heat = result.get_by_label("tensor resid", exact=True)
    heat.get_by_role("img").first.hover()
    expect(heat.locator("output.nnv-readout")).to_contain_text("[0, ")
    result.get_by_role("button", name="modules").click()
    tree = result.get_by_role("tree")
    expect(tree).to_contain_text("layers × 30")
    result.get_by_label("search the modules").fill("22.mlp")
    expect(tree.get_by_role("treeitem").first).to_contain_text("written")
    box = result.bounding_box()
    result.get_by_role("button", name="modules").click()
    result.get_by_role("button", name="resid").click()
    assert until(lambda: result.bounding_box()["height"] < 420 < box["height"])


def test_what_is_asked_for_in_the_tree_is_saved_by_the_next_cell(shown: Notebook) -> None:
    tree = shown.page.get_by_label("modules of demo", exact=True).first
    tree.scroll_into_view_if_needed()
    tree.get_by_label("search the modules").fill("layers.3.mlp")
    tree.get_by_role("treeitem").first.click()
    tree.get_by_role("button", name="save at next run").click()
    expect(tree).to_contain_text("save next")
    shown.run_new_cell('%%trace "a b c"\nh = layers[1].output')
    shown.await_idle()
    expect(shown.page.get_by_label("run 2", exact=True)).to_contain_text("layers_3_mlp_output")
    # The tree that `%model` showed follows the runs.
    expect(tree.get_by_role("treeitem").first).to_contain_text("layers_3_mlp_output")
    expect(tree.get_by_role("treeitem").first).to_contain_text("(1, 3, 576)")


@pytest.mark.parametrize("typed", ["%edits --", "%%trace --", "model.layers[3].", "model."])
def test_every_row_of_the_completion_list_is_one_line(shown: Notebook, typed: str) -> None:
    page = shown.page
    shown.run_new_cell("pass")
    shown.await_idle()
    page.locator(".jp-Cell .cm-content").last.click()
    page.keyboard.press("Control+A")
    page.keyboard.type(typed)
    page.keyboard.press("Tab")
    rows = page.locator(".jp-Completer:not(.lm-mod-hidden) .jp-Completer-item")
    expect(rows.nth(1)).to_be_visible()
    heights = rows.evaluate_all(
        """rows => rows.map(row => [row.clientHeight, ...[...row.children].map(e => {
            const range = document.createRange();
            range.selectNodeContents(e);
            return range.getBoundingClientRect().height;
        })])"""
    )
    page.keyboard.press("Escape")
    page.keyboard.press("Control+A")
    page.keyboard.type("pass")
    assert len(heights) > 2
    for row, *columns in heights:
        assert max(columns) <= row, typed


def test_a_generation_streams_and_is_stopped(shown: Notebook) -> None:
    shown.run_new_cell(
        '%%generate "Once upon a time" --max-new-tokens 300\n'
        "for step in steps:\n    h = layers[10].output"
    )
    stop = shown.page.get_by_role("button", name="stop")
    expect(shown.page.get_by_text("generating …")).to_be_visible()
    expect(shown.page.locator(".nnv-scrub")).to_contain_text(
        re.compile(r"new token ([6-9]|\d\d) of")
    )
    stop.click()
    shown.await_idle()
    result = shown.page.get_by_label("run 3", exact=True)
    expect(result).to_contain_text("new tokens")
    made = int(shown.evaluate("print(len(h))"))
    assert 5 < made < 290
    result.get_by_role("slider").fill("2")
    expect(result).to_contain_text("new token 3 of")
    assert shown.errors == []
