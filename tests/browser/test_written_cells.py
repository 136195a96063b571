"""Cells that are being written: names coloured, mistakes underlined, modules explained."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import new_page
from tests.browser.lab import Lab, Notebook

CELLS = [
    "%load_ext nnsight_magic\n%model demo",
    '%%trace "The Eiffel Tower"\nh = layers[20].output',
]


@pytest.fixture(scope="module")
def writing(lab: Lab, browser: Any, demo_cached: None) -> Iterator[Notebook]:
    page = new_page(browser)
    lab.notebook("writing.ipynb", CELLS)
    notebook = Notebook(page).open(lab.address("writing.ipynb"))
    notebook.run_all()
    yield notebook
    page.context.close()


def last_cell(page: Any) -> Any:
    return page.locator(".jp-Cell .cm-content").last


def pictured(page: Any, name: str) -> None:
    """A picture in the folder that SHOTS names, to be looked at."""
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def test_names_are_coloured_and_a_misspelt_path_is_underlined_while_it_is_typed(
    writing: Notebook,
) -> None:
    page = writing.page
    cell = last_cell(page)
    expect(cell.locator(".nnm-name")).to_have_text(["layers"])
    expect(cell.locator(".nnm-wrong")).to_have_count(0)
    cell.click()
    page.keyboard.press("Control+End")
    page.keyboard.type("\ng = layers[2].mpl.output\nlayer[0]")
    expect(cell.locator(".nnm-wrong")).to_have_text(["mpl", "layer"])
    expect(cell.locator(".nnm-name")).to_have_text(["layers", "layers"])
    cell.locator(".nnm-wrong").first.hover()
    expect(page.locator(".nnm-about")).to_contain_text("did you mean 'mlp'?")
    pictured(page, "wrong")
    took = page.evaluate("() => performance.getEntriesByName('nnsight-magic:check').pop().duration")
    print(f"from the pause in typing to the underline: {took:.0f} ms")
    assert writing.evaluate("print('g' in globals())").strip() == "False"
    assert writing.errors == []


def test_hover_and_shift_tab_say_what_a_question_mark_says(writing: Notebook) -> None:
    page = writing.page
    cell = last_cell(page)
    page.mouse.move(0, 0)
    expect(page.locator(".nnm-about")).to_have_count(0)
    cell.locator(".nnm-name").first.hover()
    expect(page.locator(".nnm-about")).to_contain_text("layers: ModuleList")
    page.mouse.move(0, 0)
    page.evaluate(
        """() => {
            const cell = window.jupyterapp.shell.currentWidget.content.activeCell;
            cell.model.sharedModel.setSource('%%trace "The Eiffel Tower"\\nh = layers[20].mlp');
        }"""
    )
    page.keyboard.press("Control+End")
    page.keyboard.press("Shift+Tab")
    tooltip = page.locator(".jp-Tooltip")
    expect(tooltip).to_contain_text("layers[20].mlp: LlamaMLP")
    expect(tooltip).to_contain_text("gate_proj.weight")
    expect(tooltip).to_contain_text("forward: (x)")
    pictured(page, "shift-tab")
    assert writing.errors == []


def test_a_mistake_is_underlined_while_a_cell_runs(writing: Notebook, lab: Lab) -> None:
    page = writing.page
    cell = last_cell(page)
    page.evaluate(
        """() => {
            const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            window.busy = true;
            const waits = "import os, time\\nwhile not os.path.exists('written'): time.sleep(0.05)";
            kernel.requestExecute({code: waits}).done.then(() => { window.busy = false; });
        }"""
    )
    cell.click()
    page.keyboard.press("Control+End")
    page.keyboard.press("Shift+Home")
    page.keyboard.type("h = layers[99].output")
    expect(cell.locator(".nnm-wrong")).to_have_text(["99"])
    assert page.evaluate("() => window.busy")
    (lab.folder / "written").touch()  # which ends the cell
    page.wait_for_function("() => !window.busy")
    assert writing.errors == []
