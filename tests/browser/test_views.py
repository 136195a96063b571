"""Every view, in a real JupyterLab, on the demo model."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.lab import TWO_FRAMES, Notebook

AXE = Path(__file__).parents[2] / "widgets" / "node_modules" / "axe-core" / "axe.min.js"


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """The condition's value once it is true; its last one when the time is over."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return value


def view(notebook: Notebook, name: str) -> Any:
    found = notebook.page.get_by_label(name, exact=True).first
    found.scroll_into_view_if_needed()
    return found


@pytest.fixture
def opened(notebook: Notebook) -> Iterator[Notebook]:
    """With everything unfolded that can be."""
    notebook.evaluate(
        "result.open_tensors = [0, 1]; result.tree_open = True; result.selection.token = 3\n"
        "tree.selection.module = 'model.layers.3.mlp.down_proj'; tree.query = 'mlp'\n"
        "heat.cell = [3, 2, 1]; steps.selection.step = 1; grid.cell = [1, 2]\n"
    )
    statistics = view(notebook, "tensor heat").get_by_role("button", name="statistics")
    statistics.click()
    expect(view(notebook, "comparison block 23")).to_be_visible()
    yield notebook
    statistics.click()
    notebook.evaluate(
        "result.open_tensors = []; result.tree_open = False; result.selection.token = -1\n"
        "tree.selection.module = tree.query = ''; heat.cell = []; grid.cell = []\n"
    )


def test_a_tree_opens_and_is_walked_by_keys(notebook: Notebook) -> None:
    tree = view(notebook, "modules of SmolLM2")
    rows = tree.get_by_role("tree")
    expect(rows).to_contain_text("layers × 30")
    rows.focus()
    keys = notebook.page.keyboard
    for key in ("Home", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight"):
        keys.press(key)
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        keys.press(key)
    assert until(lambda: notebook.evaluate("print(tree.selection.module)").strip()) == (
        "model.layers.0.self_attn"
    )
    active = rows.get_attribute("aria-activedescendant")
    item = notebook.page.locator(f"#{active}")
    expect(item).to_have_attribute("aria-selected", "true")
    expect(item).to_have_attribute("aria-level", "5")


def test_a_module_is_found_and_its_line_copied(notebook: Notebook) -> None:
    tree = view(notebook, "modules of SmolLM2")
    tree.get_by_label("search the modules").fill("19mlpdown")
    first = tree.get_by_role("treeitem").first
    expect(first).to_contain_text("model.layers.19.mlp.down_proj")
    first.click()
    expect(tree.get_by_label("module model.layers.19.mlp.down_proj")).to_contain_text("weight")
    tree.get_by_role("button", name="h = layers[19].mlp.down_proj.output").click()
    expect(tree).to_contain_text("copied: h = layers[19].mlp.down_proj.output")
    copied = notebook.page.evaluate("() => navigator.clipboard.readText()")
    assert copied == "h = layers[19].mlp.down_proj.output"
    tree.get_by_role("button", name="save at next run").click()
    wanted = until(lambda: notebook.evaluate("print(*tree.wanted)").strip())
    assert wanted == "model.layers.19.mlp.down_proj"
    tree.get_by_label("search the modules").fill("")


def test_the_source_of_a_module_is_shown(notebook: Notebook) -> None:
    notebook.evaluate("tree.selection.module = 'model.layers.3.mlp'")
    details = view(notebook, "module model.layers.3.mlp")
    expect(details.locator("pre")).to_contain_text("def forward(self, x)")


def test_a_tree_of_100_000_modules_opens_and_scrolls(notebook: Notebook) -> None:
    tree = view(notebook, "modules of huge")
    expect(tree).to_contain_text("100,601 modules")
    notebook.evaluate(
        "huge_tree.expanded = [''] + [f'part{k}' for k in range(400)]"
        " + [f'part{k}.0…{49 + k}' for k in range(400)]"
    )
    rows = tree.get_by_role("tree")
    end = "rows => { rows.scrollTop = rows.scrollHeight; return rows.scrollHeight; }"
    assert until(lambda: rows.evaluate(end) > 2_400_000)
    expect(rows.get_by_role("treeitem").last).to_contain_text("[449]")
    assert rows.get_by_role("treeitem").count() < 60
    rows.focus()
    for key in ("Home", "ArrowDown", "End"):
        notebook.page.keyboard.press(key)
    expect(rows.locator(".nnv-active")).to_contain_text("[449]")
    tree.get_by_label("search the modules").fill("part399.200")
    expect(tree.get_by_role("treeitem").first).to_contain_text("part399.200")
    assert tree.get_by_role("treeitem").count() < 60
    tree.get_by_label("search the modules").fill("")
    notebook.evaluate("huge_tree.expanded = ['']")


@pytest.mark.parametrize("width", [1280, 900, 700])
def test_nothing_sticks_out_of_a_narrow_notebook(opened: Notebook, width: int) -> None:
    """The side bars take 400 of these pixels."""
    page = opened.page
    page.set_viewport_size({"width": width, "height": 1000})
    script = """root => {
        const right = root.getBoundingClientRect().right + 1;
        const scrolls = e => e && e !== root
            && (getComputedStyle(e).overflowX !== 'visible' || scrolls(e.parentElement));
        return [...root.querySelectorAll('*')].filter(e => {
            const box = e.getBoundingClientRect();
            return box.width && box.right > right && !scrolls(e.parentElement);
        }).map(e => e.outerHTML.slice(0, 90) + e.closest("section").ariaLabel);
    }"""
    roots = page.locator(".jp-OutputArea .nnv")
    outside = []
    for k in range(roots.count()):
        roots.nth(k).scroll_into_view_if_needed()
        until(lambda k=k: not roots.nth(k).evaluate(script), 20)  # laid out in its new width
        outside += roots.nth(k).evaluate(script)
    page.set_viewport_size({"width": 1280, "height": 1000})
    assert outside == []


def test_a_tensor_is_sliced_hovered_and_read_exactly(notebook: Notebook) -> None:
    heat = view(notebook, "tensor heat")
    slider = heat.get_by_role("slider", name="place on head")
    slider.focus()
    for _ in range(5):
        notebook.page.keyboard.press("ArrowRight")
    assert until(lambda: notebook.evaluate("print(heat.index[0])").strip() == "5")
    canvas = heat.get_by_role("img").first
    canvas.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        notebook.page.keyboard.press(key)
    readout = heat.locator("output.nnv-readout")
    expect(readout).to_contain_text("[5, 2, 1]")
    expect(readout).to_contain_text(str(5 * 4096 + 2 * 64 + 1))
    box = canvas.bounding_box()
    notebook.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(readout).to_contain_text(re.compile(r"\[5, \d\d, \d\d\]"))


def test_a_tensor_is_zoomed_to_its_own_pixels(notebook: Notebook) -> None:
    big = view(notebook, "tensor big")
    notebook.evaluate("big.window = [696, 704, 1496, 1504]")
    canvas = big.get_by_role("img").first
    # The one NaN is a square of its own colour, exactly where it is.
    script = """canvas => {
        const context = canvas.getContext('2d');
        const ratio = canvas.width / canvas.clientWidth;
        const image = context.getImageData(0, 0, canvas.width, canvas.height).data;
        let [count, top] = [0, 1e9];
        for (let k = 0; k < image.length; k += 4) {
            if (image[k] !== 217 || image[k + 1] !== 70 || image[k + 2] !== 176) continue;
            count++;
            top = Math.min(top, Math.floor(k / 4 / canvas.width));
        }
        return [count, top / ratio];
    }"""
    # 400 pixels for eight values, once the tile has come.
    found = until(lambda: (found := canvas.evaluate(script))[0] == 50 * 50 and found)
    assert found == [50 * 50, 6 + 4 * 50]
    big.get_by_role("button", name="show everything").click()
    assert until(lambda: notebook.evaluate("print(big.window)").strip() == "[]")


def test_a_heat_map_that_is_filled_is_drawn_anew(notebook: Notebook) -> None:
    canvas = view(notebook, "tensor heat").get_by_role("img").first
    picture = "canvas => canvas.toDataURL()"
    before = canvas.evaluate(picture)
    notebook.evaluate("was = heat.array.tensor; heat.refill(torch.randn(was.shape))")
    assert until(lambda: canvas.evaluate(picture) != before)
    notebook.evaluate("heat.refill(was)")
    assert until(lambda: canvas.evaluate(picture) == before)


def test_statistics_of_a_large_tensor_are_exact_when_they_are_looked_at(notebook: Notebook) -> None:
    big = view(notebook, "tensor big")
    big.get_by_role("button", name="statistics").click()
    row = big.get_by_role("row", name="NaN")
    expect(row).to_contain_text("1")
    big.get_by_role("button", name="statistics").click()


def test_a_tensor_is_exported(notebook: Notebook) -> None:
    heat = view(notebook, "tensor heat")
    for item, ending in (("numbers (.npy)", "heat.npy"), ("picture (SVG)", "heat.svg")):
        heat.get_by_role("button", name="export").click()
        with notebook.page.expect_download() as download:
            heat.get_by_role("menuitem", name=item).click()
        assert download.value.suggested_filename == ending


def test_limits_are_typed_and_nonsense_is_put_back(notebook: Notebook) -> None:
    heat = view(notebook, "tensor heat")
    upper = heat.get_by_label("upper end of the colour scale")
    upper.fill("5000")
    upper.press("Enter")
    upper.blur()
    assert until(lambda: "5000" in notebook.evaluate("print(heat.limits)"))
    upper.fill("many")
    upper.blur()
    expect(upper).to_have_value("5000")
    heat.get_by_role("button", name="full range").click()
    assert until(lambda: notebook.evaluate("print(heat.limits)").strip() == "[0.0, 98303.0]")
    heat.get_by_role("button", name="automatic limits").click()
    assert until(lambda: notebook.evaluate("print(heat.limits)").strip() == "[]")


def test_tokens_are_shown_as_they_are(notebook: Notebook) -> None:
    strip = notebook.page.get_by_role("listbox").first
    strip.scroll_into_view_if_needed()
    texts = strip.get_by_role("option").all_inner_texts()
    assert texts == ["<s>", "<b>x</b>", "·</script>", "⏎", "·ok"]
    assert strip.locator("b, s, script").count() == 0


def test_a_token_selected_in_one_view_is_marked_in_the_others(notebook: Notebook) -> None:
    result = view(notebook, "run 1")
    result.get_by_role("button", name="resid").click()
    strip = result.get_by_role("listbox", name="tokens").get_by_role("option")
    strip.nth(3).click()
    assert until(lambda: notebook.evaluate("print(result.selection.token)").strip() == "3")
    expect(result.get_by_label("tokens ", exact=True).first).to_contain_text("after token 3")
    notebook.evaluate("result.selection.token = 5")
    expect(strip.nth(5)).to_have_attribute("aria-selected", "true")


def test_a_head_or_step_is_the_same_in_all_views_of_a_selection(notebook: Notebook) -> None:
    heat = view(notebook, "tensor heat")
    heat.get_by_role("slider", name="place on head").fill("7")
    assert until(lambda: notebook.evaluate("print(heat.selection.head)").strip() == "7")
    notebook.evaluate("heat.selection.head = 11")
    assert until(lambda: notebook.evaluate("print(heat.index[0])").strip() == "11")
    expect(heat.get_by_role("slider", name="place on head")).to_have_value("11")


def test_probabilities_stand_with_and_without_the_writes(notebook: Notebook) -> None:
    result = view(notebook, "run 1")
    result.get_by_role("listbox", name="tokens").get_by_role("option").last.hover()
    table = result.get_by_role("table").first
    expect(table).to_contain_text("with writes")
    expect(table).to_contain_text("·Paris")
    expect(result).to_contain_text("KL")


def test_a_comparison_moves_all_three(notebook: Notebook) -> None:
    result = view(notebook, "run 1")
    result.get_by_role("button", name="block 23").click()
    compared = view(notebook, "comparison block 23")
    expect(compared.locator("canvas.nnv-heat")).to_have_count(3)
    compared.get_by_role("button", name="zoom in").click()
    window = until(lambda: notebook.evaluate("print(*result.tensors[1].first.window)").strip())
    assert window
    result.get_by_role("button", name="block 23").click()


def test_a_module_selected_in_the_tree_selects_its_tensors(notebook: Notebook) -> None:
    result = view(notebook, "run 1")
    notebook.evaluate("result.selection.module = 'model.layers.19'")
    expect(result.get_by_role("button", name="resid")).to_have_class(re.compile("nnv-selected"))
    notebook.evaluate("result.selection.module = ''")


def test_steps_are_scrubbed_and_clicked(notebook: Notebook) -> None:
    steps = view(notebook, "generation ")
    steps.get_by_role("slider").fill("0")
    expect(steps).to_contain_text("new token 1 of 3 (step 0)")
    expect(steps.get_by_role("table")).to_contain_text("66.0%")
    steps.get_by_role("button", name="·France").click()
    assert until(lambda: notebook.evaluate("print(steps.selection.step)").strip() == "2")


def test_the_grid_is_walked_by_keys(notebook: Notebook) -> None:
    grid = view(notebook, "token grid lens")
    grid.get_by_role("region").focus()
    for key in ("ArrowUp", "ArrowLeft"):
        notebook.page.keyboard.press(key)
    rows, columns = 5, notebook.evaluate("print(len(tokens))").strip()
    expected = f"[{rows - 2}, {int(columns) - 2}]"
    assert until(lambda: notebook.evaluate("print(grid.cell)").strip() == expected)


def test_no_key_reaches_the_notebook(notebook: Notebook) -> None:
    cells = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
    count = notebook.page.evaluate(cells)
    root = notebook.page.locator(".jp-OutputArea .nnv")
    focusable = root.locator("button:visible, [tabindex='0']:visible, input:visible")
    kinds = {}
    for k in range(focusable.count()):
        element = focusable.nth(k)
        kind = element.evaluate("e => e.tagName + (e.getAttribute('role') ?? '') + e.className")
        kinds.setdefault(kind, element)
    assert len(kinds) >= 10
    for element in kinds.values():
        element.focus()
        for key in ("d", "d", "x", "a", "b", "m"):
            notebook.page.keyboard.press(key)
    assert notebook.page.evaluate(cells) == count
    for kind in ("search the modules",):
        notebook.page.get_by_label(kind).first.fill("")


def test_a_view_answers_while_a_cell_runs_and_the_cell_goes_on(
    notebook: Notebook, tmp_path: Path
) -> None:
    heat = view(notebook, "tensor heat")
    run = """() => {
        const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
        const code = 'total = 0\\nwhile not released.exists():\\n    time.sleep(.01); total += 1';
        window.busy = kernel.requestExecute({code}).done.then(() => { window.busy = null; });
    }"""
    notebook.evaluate(f"from pathlib import Path\nreleased = Path({str(tmp_path / 'released')!r})")
    notebook.page.evaluate(run)
    canvas = heat.get_by_role("img").first
    canvas.focus()
    notebook.page.keyboard.press("Home")
    notebook.page.keyboard.press("ArrowDown")
    # An exact value, which only the kernel knows, while the cell is still running.
    expect(heat.locator("output.nnv-readout b")).not_to_contain_text("≈")
    assert notebook.page.evaluate("() => window.busy !== null")
    (tmp_path / "released").touch()
    notebook.page.evaluate("() => window.busy")
    assert int(notebook.evaluate("print(total)")) > 0


def test_a_running_generation_is_stopped_by_its_button(notebook: Notebook) -> None:
    code = """
from IPython.display import display
live = StepsView(tokens, title="live", running=True)
display(live)
k = 0
while not live.stopped:
    k += 1
    live.add(Step(f" t{k}", 0.5, [(f" t{k}", 0.5)]))
    time.sleep(0.02)
live.finish()
"""
    notebook.run_new_cell(code)
    live = notebook.page.get_by_label("generation live")
    expect(live).to_contain_text("t3")
    live.get_by_role("button", name="stop").click()
    expect(live).to_contain_text("new token")
    notebook.await_idle()
    made = int(notebook.evaluate("print(len(live.all_steps))"))
    assert made > 3


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_nobody_is_shut_out(opened: Notebook, theme: str) -> None:
    notebook = opened
    notebook.theme(theme)
    notebook.page.add_script_tag(path=str(AXE))
    roots = notebook.page.locator(".jp-OutputArea .nnv")
    assert roots.count() >= 7
    trouble = []
    for k in range(roots.count()):
        roots.nth(k).scroll_into_view_if_needed()
        notebook.page.evaluate(TWO_FRAMES)  # until it is drawn
        found = roots.nth(k).evaluate(
            """async root => (await axe.run(root)).violations.map(v => v.id + ': '
                + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + ' '
                + (n.any[0]?.message ?? '')).join(' | '))"""
        )
        trouble += found
    notebook.theme("JupyterLab Light")
    assert not trouble, "\n".join(trouble)


def test_nonsense_from_the_kernel_does_no_harm(notebook: Notebook) -> None:
    notebook.evaluate(
        "for each in (None, 'x', {'re': 99}, {'re': 'x'}, [1]): heat.send(each)\n"
        "heat.window = [9, 1, -5, 10**9]\nheat.limits = [1.0]\nheat.cell = [1]\n"
        "tree.selection.module = 'no.such.module'\nhostile.selection.token = 10**6\n"
        "steps.selection.step = 999\ngrid.cell = [99, 99]\n"
    )
    expect(view(notebook, "tensor heat").get_by_role("img").first).to_be_visible()
    expect(view(notebook, "module no.such.module")).to_contain_text("no module")
    expect(view(notebook, "generation ")).to_contain_text("new token 3 of 3 (step 2)")
    notebook.evaluate(
        "heat.window = []; heat.limits = []; heat.cell = []; tree.selection.module = ''"
    )


def test_a_deleted_tensor_leaves_its_picture_and_says_so(notebook: Notebook) -> None:
    notebook.evaluate("big.release()")
    big = view(notebook, "tensor big")
    big.get_by_role("button", name="zoom in").click()
    expect(big).to_contain_text("the tensor was deleted")
    expect(big.get_by_role("img").first).to_be_visible()


def test_the_live_view_stands_in_place_of_its_still_twin(notebook: Notebook) -> None:
    twins = notebook.page.locator(".nnv-still")
    assert twins.count() >= 7
    for k in range(twins.count()):
        expect(twins.nth(k)).to_be_hidden()


def test_the_console_is_quiet_and_nothing_leaves_the_machine(notebook: Notebook) -> None:
    assert notebook.errors == []
    assert notebook.page.abroad == []
