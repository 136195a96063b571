"""What is left of a notebook without its kernel: reopened, exported, and as a page of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat.sign import NotebookNotary
from playwright.sync_api import expect

from tests.browser.conftest import new_page
from tests.browser.lab import TWO_FRAMES, Lab, Notebook
from tests.browser.test_views import until

CELLS = [
    """
import torch
from nnsight_magic.views import *
torch.manual_seed(0)
layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
net = torch.nn.TransformerEncoder(layer, 6)
top = [[(" <i>a</i>", 0.5), (" b", 0.2)]] * 3
strip = TokenStrip(["<s>", "<b>x</b>", " The"], top=top, kl=[0.1, 0.2, 0.3])
""",
    "tree_view(net, 'encoder')",
    "show(torch.randn(12, 64, 64), 'attention', axes=('head', 'token', 'token'))",
    "show(torch.randn(3000, 3000), 'large')",
    "tokens_view(strip)",
    "TraceView('run 1', ['demo'], tokens=tokens_view(strip), tree=tree_view(net, 'inside'),"
    " tensors=[TensorView(torch.randn(64, 64), 'resid')])",
    "compare(torch.randn(64, 64), torch.randn(64, 64), 'two')",
    "StepsView(['a', ' b'], [Step(' c', .5, [(' c', .5)]), Step(' d', .5, [(' d', .5)])])",
    "GridView([top] * 4, strip.tokens, title='lens')",
]
VIEWS = len(CELLS) - 1
BROKEN = "Error displaying widget"


@pytest.fixture(scope="module")
def with_state(lab: Lab) -> Path:
    """Run and stored with the views' state, and trusted."""
    path = lab.notebook("state.ipynb", CELLS)
    book = nbformat.read(path, 4)
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    NotebookNotary(data_dir=str(lab.folder.parent / "data")).sign(book)
    nbformat.write(book, path)
    return path


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A page of its own for each test."""
    page = new_page(browser)
    yield page
    page.context.close()


def assert_all_still(page: Any) -> None:
    """Every still twin is seen, with its pictures, and nothing else stands in its place."""
    twins = page.locator(".nnv-still")
    expect(twins).to_have_count(VIEWS)
    for k in range(VIEWS):
        expect(twins.nth(k)).to_be_visible()
    pictures = twins.locator("img")
    assert pictures.count() >= 5
    assert pictures.evaluate_all("all => all.every(each => each.naturalWidth > 0)")
    for text in ("<s>", "<b>x</b>", "·<i>a</i>"):
        expect(twins.nth(3)).to_contain_text(text)
    for k in range(page.get_by_text(BROKEN).count()):
        expect(page.get_by_text(BROKEN).nth(k)).to_be_hidden()


def assert_all_live(page: Any) -> None:
    """No still twin is seen beside the live views.

    JupyterLab draws what is far from the part that is seen when it finds the time: each is gone to,
    again if the views above it grew meanwhile and pushed it away.
    """
    twins = page.locator(".nnv-still")

    def drawn(twin: Any) -> bool:
        twin.evaluate("twin => twin.closest('.jp-Cell').scrollIntoView()")
        return twin.is_hidden()

    for k in range(twins.count()):
        assert until(partial(drawn, twins.nth(k))), f"view {k} is not live"


def test_a_saved_notebook_shows_its_still_views(lab: Lab, tab: Any) -> None:
    """Saved by JupyterLab, which stores no widget state, and opened again; trusted."""
    path = lab.notebook("saved.ipynb", CELLS)
    notebook = Notebook(tab).open(lab.address("saved.ipynb"))
    notebook.run_all()
    notebook.save()
    tab.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    book = json.loads(path.read_text())
    assert "widgets" not in book["metadata"]
    Notebook(tab).open(lab.address("saved.ipynb"))
    tab.wait_for_selector(".nnv-still")
    assert tab.locator(".jp-OutputArea .nnv").count() == 0
    assert_all_still(tab)


def test_an_untrusted_notebook_shows_them_too(lab: Lab, tab: Any, with_state: Path) -> None:
    book = nbformat.read(with_state, 4)
    book.cells.append(nbformat.v4.new_markdown_cell("Changed by somebody else."))
    nbformat.write(book, lab.folder / "untrusted.ipynb")
    Notebook(tab).open(lab.address("untrusted.ipynb"))
    tab.wait_for_selector(".nnv-still, .jp-RenderedHTML img")
    # The sanitiser takes classes of ours away or not, but neither the text nor the pictures.
    outputs = tab.locator(".jp-OutputArea-output.jp-RenderedHTML")
    expect(outputs).to_have_count(VIEWS)
    assert outputs.locator("img").count() >= 5
    expect(outputs.nth(3)).to_contain_text("<b>x</b>")
    expect(outputs.nth(0)).to_contain_text("62 modules")
    assert tab.locator(".jp-OutputArea-output pre").all_inner_texts() == [""] * VIEWS
    assert tab.get_by_text(BROKEN).count() == 0


def test_with_stored_state_the_views_go_on_over_what_was_stored(
    lab: Lab, tab: Any, with_state: Path
) -> None:
    notebook = Notebook(tab).open(lab.address("state.ipynb"))
    heat = tab.get_by_label("tensor attention", exact=True)
    canvas = heat.get_by_role("img").first
    expect(canvas).to_be_visible()
    before = canvas.evaluate("c => c.toDataURL()")
    heat.get_by_role("slider", name="place on head").fill("7")
    tab.wait_for_function(
        "before => document.querySelector('[aria-label=\"tensor attention\"] canvas')"
        ".toDataURL() !== before",
        arg=before,
    )
    canvas.hover()
    expect(heat.locator("output.nnv-readout")).to_contain_text("[7, ")
    tree = tab.get_by_label("modules of encoder", exact=True).first
    tree.get_by_label("search the modules").fill("norm2")
    expect(tree.get_by_role("treeitem")).to_have_count(6)
    tree.get_by_role("treeitem").first.click()
    expect(tree).to_contain_text("The kernel does not answer")
    steps = tab.get_by_label("generation ")
    steps.get_by_role("slider").fill("0")
    expect(steps).to_contain_text("new token 1 of 2 (step 0)")
    assert_all_live(tab)
    assert notebook.errors == []


@pytest.fixture
def saving_state(lab: Lab, tab: Any) -> Iterator[None]:
    """*Settings → Save Widget State Automatically*, chosen as a user does, and taken back."""
    lab.notebook("setting.ipynb", ["1"])
    Notebook(tab).open(lab.address("setting.ipynb"))
    tab.get_by_role("menuitem", name="Settings", exact=True).click()
    tab.get_by_role("menuitem", name="Save Widget State Automatically").click()
    settings = lab.folder.parent / "config" / "lab" / "user-settings"
    stored = settings / "@jupyter-widgets" / "jupyterlab-manager" / "plugin.jupyterlab-settings"
    assert until(stored.exists)
    yield
    stored.unlink()


@pytest.mark.usefixtures("saving_state")
def test_state_that_jupyterlab_itself_stored_shows_the_views(lab: Lab, tab: Any) -> None:
    """What it stores differs from nbclient's: a plain widget's bytes are left out."""
    path = lab.notebook("own.ipynb", CELLS)
    notebook = Notebook(tab).open(lab.address("own.ipynb"))
    notebook.run_all()
    expect(tab.locator(".jp-OutputArea .nnv")).to_have_count(VIEWS)
    notebook.save()
    tab.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    assert "widgets" in json.loads(path.read_text())["metadata"]
    reopened = Notebook(tab).open(lab.address("own.ipynb"), kernel=False)
    expect(tab.locator(".jp-OutputArea .nnv")).to_have_count(VIEWS)
    heat = tab.get_by_label("tensor attention", exact=True)
    heat.get_by_role("slider", name="place on head").fill("7")
    heat.get_by_role("img").first.hover()
    expect(heat.locator("output.nnv-readout")).to_contain_text("[7, ")
    assert tab.get_by_text("cannot be shown").count() == 0
    assert reopened.errors == []


def test_notebook_7_shows_the_same(lab: Lab, tab: Any, with_state: Path) -> None:
    tab.goto(f"{lab.url}/notebooks/state.ipynb?token={lab.token}")
    heat = tab.get_by_label("tensor attention", exact=True)
    expect(heat.get_by_role("img").first).to_be_visible(timeout=60_000)
    heat.get_by_role("slider", name="place on head").fill("7")
    heat.get_by_role("img").first.hover()
    expect(heat.locator("output.nnv-readout")).to_contain_text("[7, ")
    assert_all_live(tab)


def test_a_view_that_was_drawn_outside_the_page_hides_its_twin_once_it_comes_in(
    lab: Lab, tab: Any
) -> None:
    """JupyterLab fills cells that are far from the part that is seen, and shows them later."""
    lab.notebook("outside.ipynb", [CELLS[0], CELLS[1]])
    notebook = Notebook(tab).open(lab.address("outside.ipynb"))
    notebook.run_all()
    expect(tab.locator(".nnv-still")).to_be_hidden()
    tab.evaluate(
        """async () => {
            const { commands, shell } = window.jupyterapp;
            const { content } = shell.currentWidget;
            const { node } = content.widgets[1];
            const place = document.createElement("div");
            content.activeCellIndex = 1;
            node.replaceWith(place);
            await commands.execute("notebook:run-cell");
            const has = (part) => node.querySelector(part) !== null;
            while (!has(".nnv section") || !has(".nnv-still"))
                await new Promise((go) => setTimeout(go, 20));
            place.replaceWith(node);
        }"""
    )
    expect(tab.locator(".jp-OutputArea .nnv")).to_be_visible()
    expect(tab.locator(".nnv-still")).to_be_hidden()
    assert notebook.errors == []


def test_what_needs_the_kernel_says_that_it_is_gone(lab: Lab, tab: Any, with_state: Path) -> None:
    shutil.copy(with_state, lab.folder / "killed.ipynb")
    notebook = Notebook(tab).open(lab.address("killed.ipynb"))
    notebook.run_all()
    # JupyterLab may ask for a stored view before it has read the stored state: no concern of this.
    notebook.errors.clear()
    tab.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    large = tab.get_by_label("tensor large", exact=True)
    large.scroll_into_view_if_needed()
    large.get_by_role("button", name="zoom in").click()
    expect(large).to_contain_text("The kernel does not answer")
    expect(large.get_by_role("img").first).to_be_visible()
    large.get_by_role("button", name="statistics").click()
    expect(large.get_by_role("row", name="values")).to_contain_text("9.0 M")
    assert tab.locator(".nnv [aria-busy=true]").count() == 0
    assert notebook.errors == []


@pytest.mark.parametrize("stored", [True, False], ids=["with-state", "without-state"])
def test_an_exported_page_shows_them(
    tab: Any, tmp_path: Path, with_state: Path, stored: bool
) -> None:
    book = nbformat.read(with_state, 4)
    if not stored:
        del book.metadata["widgets"]
    path = tmp_path / "exported.html"
    path.write_text(HTMLExporter().from_notebook_node(book)[0], encoding="utf-8")
    tab.goto(path.as_uri())
    assert_all_still(tab)


def test_what_a_result_adds_to_the_file_is_bounded(lab: Lab, tmp_path: Path) -> None:
    """With all widget state, whatever the tensors' size; the views' code once a notebook."""
    large = "[TensorView(torch.randn(2000, 2000), f't{k}', stored=stored_share(20, k), selection=s)"
    cells = [
        CELLS[0] + "from nnsight_magic.views.live.trace import stored_share\ns = Selection()",
        "show(torch.randn(2, 2))",
        "show(torch.randn(4096, 4096), 'large')",
        f"TraceView('run 1', tokens=tokens_view(strip), tensors={large} for k in range(20)],"
        " selection=s)",
        "show(torch.randn(64, 128, 256), 'third')",
    ]
    sizes = []
    for count in range(2, len(cells) + 1):
        book = nbformat.read(lab.notebook("bounded.ipynb", cells[:count]), 4)
        nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
        sizes.append(len(nbformat.writes(book)))
    added = [after - before for before, after in pairwise(sizes)]
    assert max(added) < 200_000, added
    assert sizes[0] < 82_000  # of which the code of all kinds of view is 62,000


def pages() -> dict[str, tuple[Any, str]]:
    """Views of every kind, and a text that a page of them shows."""
    import torch

    from nnsight_magic import views

    top = [[(" <i>a</i>", 0.5)]] * 2
    steps = [views.Step(" c", 0.5, top[0])]
    return {
        "grid": (views.GridView([top, top], ["<s>", " b"], title="lens"), "·<i>a</i>"),
        "steps": (views.StepsView(["<s>", " b"], steps), "new token 1 of 1"),
        "compare": (views.compare(torch.eye(9), torch.ones(9, 9), "two"), "amplify"),
        "huge": (views.show(torch.randn(3000, 3000), "huge"), "(3000, 3000)"),
    }


@pytest.mark.parametrize("kind", ["grid", "steps", "compare", "huge"])
def test_every_view_makes_a_page(tab: Any, tmp_path: Path, kind: str) -> None:
    view, text = pages()[kind]
    view.save_html(tmp_path / "view.html")
    errors: list[str] = []
    tab.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto((tmp_path / "view.html").as_uri())
    expect(tab.locator(".nnv")).to_contain_text(text)
    for button in ("zoom in", "amplify the difference", "statistics"):
        found = tab.get_by_role("button", name=button)
        if found.count():
            found.first.click()
    tab.evaluate(TWO_FRAMES)  # so that what the clicks asked for is drawn
    assert errors == []


def test_a_page_of_its_own_is_interactive_offline(tab: Any, tmp_path: Path) -> None:
    import torch

    from nnsight_magic.views import TensorView, TokenStrip, TraceView, tokens_view, tree_view

    net = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 6
    )
    strip = TokenStrip(["<s>", "</script>", " The"], top=[[(" a", 0.5)]] * 3)
    view = TraceView(
        "run 1",
        tokens=tokens_view(strip),
        make_tree=lambda: tree_view(net, "encoder"),
        tensors=[TensorView(torch.randn(12, 3, 64), "resid", tokens=strip.tokens)],
    )
    path = tmp_path / "result.html"
    view.save_html(path)
    tab.context.set_offline(True)
    errors: list[str] = []
    tab.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(path.as_uri())
    expect(tab.get_by_role("listbox").get_by_role("option")).to_have_count(3)
    tab.get_by_role("button", name="resid").click()
    heat = tab.get_by_label("tensor resid", exact=True)
    heat.get_by_role("slider").first.fill("5")
    heat.get_by_role("img").first.hover()
    expect(heat.locator("output.nnv-readout")).to_contain_text("[5, ")
    tab.get_by_role("button", name="modules").click()
    tab.get_by_label("search the modules").fill("norm2")
    expect(tab.get_by_role("treeitem")).to_have_count(6)
    assert errors == []
    assert tab.abroad == []
