"""Tensors of every kind, and what is left of things that were deleted."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.cells import BAD as CELL
from tests.browser.lab import Notebook
from tests.browser.test_views import view


@pytest.fixture(scope="module", autouse=True)
def cell(notebook: Notebook) -> None:
    notebook.run_new_cell(CELL)
    notebook.await_idle()


BAD = [
    ("scalar", "3.25"),
    ("rank eight", "[0, 0, 0, 0, 0, 0, "),
    ("only NaN", "nan"),
    ("ten gigabytes", "[0, "),
    ("truth", "True"),
    ("complex", "j"),
    ("ends", "inf"),
    ("float8", "[0, "),
    ("bfloat16", "[0, "),
    ("integers", "0"),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=[name for name, _ in BAD])
def test_every_kind_of_tensor_is_read_and_every_button_works(
    notebook: Notebook, name: str, value: str
) -> None:
    shown = view(notebook, f"tensor {name}")
    canvas = shown.get_by_role("img").first
    canvas.focus()
    notebook.page.keyboard.press("Home")
    readout = shown.locator("output.nnv-readout")
    expect(readout).to_contain_text(value)
    expect(readout.locator("b")).not_to_contain_text("≈")
    for button in ("zoom in", "by norm", "statistics"):
        shown.get_by_role("button", name=button, exact=True).click()
    expect(shown.get_by_role("row", name="values")).to_be_visible()
    for way in shown.get_by_role("button", name=re.compile("^draw ")).all()[:4]:
        way.click()
    expect(canvas).to_be_visible()
    shown.get_by_role("button", name="statistics").click()


def test_a_tensor_without_values_says_so(notebook: Notebook) -> None:
    expect(view(notebook, "tensor empty")).to_contain_text("has no values")


def test_a_deleted_model_leaves_its_tree_and_says_so(notebook: Notebook) -> None:
    notebook.evaluate("del huge; import gc; gc.collect()")
    tree = view(notebook, "modules of huge")
    tree.get_by_role("treeitem").nth(1).click()
    expect(tree).to_contain_text("the model was deleted")
    notebook.evaluate("huge_tree.selection.module = ''")


def test_the_console_stays_quiet(notebook: Notebook) -> None:
    assert notebook.errors == []
