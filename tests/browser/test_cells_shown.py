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
    '%patch clean="The Eiffel Tower is in the city of" corrupt="The Colosseum is in the city of" '
    '-a " Paris" --versus " Rome" --site heads --layers 20-23 -q -o found\n'
    "points = found.view()\npoints",
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
    stop = shown.page.locator(".jp-OutputArea").get_by_role("button", name="stop")
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


def test_the_points_of_a_result_and_its_map_are_linked(shown: Notebook) -> None:
    points = points_of(shown)
    table = points.get_by_role("region", name="the points that stand out most")
    first = table.get_by_role("row").nth(1)
    expect(first).to_contain_text("layer 23, head 4")
    first.get_by_role("button").click()
    assert until(lambda: shown.evaluate("print(points.cell)").strip() == "[3, 4]")
    table.focus()
    shown.page.keyboard.press("ArrowDown")
    expect(table.get_by_role("row").nth(2)).to_have_class(re.compile("nnv-selected"))
    readout = points.locator("output.nnv-readout")
    words = table.get_by_role("row").nth(2).get_by_role("button").inner_text()
    layer, head = (each.split()[1] for each in words.split(", "))
    expect(readout).to_contain_text(f"[{int(layer) - 20}, {head}]")
    assert shown.evaluate("print(points.selection.layer, points.selection.head)").split() == [
        layer,
        head,
    ]
    canvas = points.get_by_role("img")
    left, top, width, height = map(float, canvas.get_attribute("data-drawn").split(","))
    place = {"x": left + 4.5 / 9 * width, "y": top + 3.5 / 4 * height}
    canvas.hover(position=place)
    expect(first).to_have_class(re.compile("nnv-active"))
    canvas.click(position=place)
    expect(first).to_have_class(re.compile("nnv-selected"))
    shown.page.mouse.move(5, 5)


def test_a_point_is_put_into_a_cell_below_that_gives_its_number(shown: Notebook) -> None:
    count = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
    before = shown.page.evaluate(count)
    points_of(shown).get_by_role("button", name="as a cell").click()
    assert until(lambda: shown.page.evaluate(count) == before + 1)
    place = CELLS.index(next(each for each in CELLS if each.startswith("%patch"))) + 1
    shown.page.evaluate(
        """place => {
            window.jupyterapp.shell.currentWidget.content.activeCellIndex = place;
            window.jupyterapp.commands.execute('notebook:run-cell');
        }""",
        place,
    )
    shown.await_idle()
    told = shown.evaluate("print(abs(float(patched_here) - float(found.sel(layer=23, head=4))))")
    assert float(told) < 2e-4


def test_a_point_is_opened(shown: Notebook) -> None:
    points = points_of(shown)
    points.get_by_role("button", name="open", exact=True).click()
    run = points.get_by_label("the run of layer 23, head 4")
    expect(run.get_by_label("layer 23, head 4", exact=True)).to_contain_text(
        "corrupt.layers[23].attn.z"
    )
    expect(run.get_by_role("button", name="pattern_here")).to_be_visible()
    expect(run.get_by_role("button", name="behind the last block")).to_be_visible()
    assert "residual_here" not in shown.evaluate("print(list(globals()))")


def test_what_a_sweep_left_out_is_hatched_and_counted(shown: Notebook) -> None:
    shown.run_new_cell(
        '%%sweep "The Eiffel Tower is in the city of"\n'
        "for layer in grid(layer=layers[20:]):\n"
        "    if layer == 22:\n"
        "        continue\n"
        "    layers[layer].mlp.output[:] = 0\n"
        '    logprob = logits[0, -1].log_softmax(-1)[" Paris"]'
    )
    shown.await_idle()
    points = shown.page.get_by_label("points logprob", exact=True)
    points.scroll_into_view_if_needed()
    expect(points).to_contain_text("9 of 10 points were run")
    expect(points).to_contain_text("1 not run")


def points_of(shown: Notebook) -> Any:
    """The view of the cell that patches."""
    points = shown.page.get_by_label(re.compile("^points change of the logit difference"))
    points.scroll_into_view_if_needed()
    return points
