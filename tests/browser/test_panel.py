"""JupyterLab's side panel, in a JupyterLab with a kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import new_page
from tests.browser.lab import Lab, Notebook

CELLS = [
    "%load_ext nnsight_magic",
    "%model demo",
    '%%trace "The Eiffel Tower is in the city of"\n'
    "resid = layers[20].output\n"
    "layers[22].mlp.output[:, -1] = 0",
]


@pytest.fixture(scope="module")
def shown(lab: Lab, browser: Any, demo_cached: None) -> Iterator[Notebook]:
    page = new_page(browser)
    lab.notebook("panel.ipynb", CELLS)
    notebook = Notebook(page).open(lab.address("panel.ipynb"))
    page.evaluate("() => window.jupyterapp.commands.execute('nnsight-magic:show')")
    yield notebook
    page.context.close()


def test_the_panel_says_what_to_type_and_then_shows_the_model(shown: Notebook) -> None:
    side = shown.page.get_by_role("region", name="Model", exact=True)
    expect(side).to_contain_text("%load_ext nnsight_magic")
    shown.run_all()
    expect(side).to_contain_text("134.5 M parameters")
    expect(side.get_by_role("tree")).to_contain_text("layers × 30")
    expect(side).to_contain_text("wrote layers[22].mlp.output")
    expect(side.get_by_role("button", name="drop resid")).to_be_visible()
    assert shown.errors == []
    assert shown.page.abroad == []


def test_a_module_is_put_at_the_cursor_and_read_in_a_new_cell(shown: Notebook) -> None:
    page = shown.page
    side = page.get_by_role("region", name="Model", exact=True)
    page.locator(".jp-Cell .cm-content").last.click()
    page.keyboard.press("Control+End")
    page.keyboard.type("\nx = ")
    side.get_by_role("treeitem").filter(has_text="lm_head").click()
    expect(page.locator(".jp-Cell .cm-content").last).to_contain_text("x = unembed")
    side.get_by_role("button", name="read", exact=True).click()
    expect(page.locator(".jp-Cell .cm-content").last).to_contain_text(
        "unembed_out = unembed.output"
    )
    shown.run_new_cell("pass")
    assert shown.errors == []


@pytest.mark.parametrize("kind", ["trace", "generate", "sweep"])
def test_the_menu_makes_a_cell_that_the_kernel_finds_right(shown: Notebook, kind: str) -> None:
    page = shown.page
    page.get_by_role("menuitem", name="Model", exact=True).click()
    page.get_by_role("menuitem", name=f"New {kind.title()} Cell").click()
    cell = page.locator(".jp-Cell .cm-content").last
    expect(cell).to_contain_text(f'%%{kind} "The Eiffel Tower is in the city of"')
    expect(cell.locator(".nnm-name").first).to_be_visible()  # it has been checked
    expect(cell.locator(".nnm-wrong")).to_have_count(0)
    assert shown.errors == []


def test_a_restart_empties_the_panel(shown: Notebook) -> None:
    side = shown.page.get_by_role("region", name="Model", exact=True)
    shown.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    expect(side).to_contain_text("has not loaded nnsight_magic")
    assert shown.errors == []


def test_notebook_7_has_the_panel_too(lab: Lab, browser: Any, demo_cached: None) -> None:
    page = new_page(browser)
    lab.notebook("seven.ipynb", CELLS)
    page.goto(f"{lab.url}/notebooks/seven.ipynb?token={lab.token}")
    expect(page.locator(".jp-Cell .cm-content").first).to_be_visible(timeout=60_000)
    asked = page.locator(".lm-CommandPalette-input")
    for _ in range(20):  # the keys are not known before the application is up
        page.keyboard.press("Control+Shift+C")
        with contextlib.suppress(AssertionError):
            expect(asked).to_be_visible(timeout=3_000)
            break
    asked.fill("Show the Model Panel")
    expect(page.locator(".lm-CommandPalette-item.lm-mod-active")).to_contain_text("Model Panel")
    page.keyboard.press("Enter")
    side = page.get_by_role("region", name="Model", exact=True)
    expect(side).to_contain_text("%load_ext nnsight_magic", timeout=30_000)
    page.locator(".jp-Cell .cm-content").first.click()
    for _ in CELLS:
        page.keyboard.press("Shift+Enter")
    expect(side).to_contain_text("134.5 M parameters", timeout=60_000)
    expect(side.get_by_role("tree")).to_contain_text("layers × 30")
    page.context.close()
