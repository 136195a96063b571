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


MANY = """
from nnsight_magic.views import *
guesses = [[(f" w{k}", 0.5)] for k in range(9)]
display(GridView([guesses] * 30, [f" t{k}" for k in range(9)], title="thirty"))
display(GridView([[guesses[0]] * 60] * 90, [f" t{k}" for k in range(60)], title="large"))
display(tokens_view([TokenStrip([f" a{k}", " b"], name=f"p{k}") for k in range(200)], "many"))
TokenStrip([" a", " b", " c"], numbers=[0.0, 0.5, 1.0])
"""


def test_a_grid_is_seen_whole_or_from_its_answer_and_many_prompts_fold(notebook: Notebook) -> None:
    notebook.run_new_cell(MANY)
    notebook.await_idle()
    whole = view(notebook, "token grid thirty").locator(".nnv-grid-box")
    expect(whole.locator("tbody tr")).to_have_count(30)
    assert whole.evaluate("box => box.scrollHeight <= box.clientHeight + 1")
    large = view(notebook, "token grid large").locator(".nnv-grid-box")
    answer = large.locator("tbody tr").last.locator("td").last
    expect(answer).to_be_in_viewport()
    assert answer.evaluate(
        "cell => cell.getBoundingClientRect().right"
        " <= cell.closest('.nnv-grid-box').getBoundingClientRect().right"
    )
    many = view(notebook, "tokens many")
    expect(many.get_by_role("listbox")).to_have_count(8)
    many.get_by_role("button", name="show 192 more prompts").click()
    expect(many.get_by_role("listbox")).to_have_count(200)
    many.get_by_role("button", name="show fewer prompts").click()
    expect(many.get_by_role("listbox")).to_have_count(8)
    coloured = notebook.page.locator("section.nnv-tokens").last.get_by_role("combobox")
    expect(coloured).to_have_value("number")
