"""What JupyterLab has beside the panel: the status bar, settings, keys, the quickstart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import new_page
from tests.browser.lab import Lab, Notebook

CELLS = ["%load_ext nnsight_magic", "%model demo"]


@pytest.fixture(scope="module")
def opened(lab: Lab, browser: Any, demo_cached: None) -> Iterator[Notebook]:
    page = new_page(browser)
    lab.notebook("beside.ipynb", CELLS)
    notebook = Notebook(page).open(lab.address("beside.ipynb"))
    notebook.run_all()
    yield notebook
    page.context.close()


def test_the_status_bar_has_the_model_and_a_stop_while_it_runs(opened: Notebook) -> None:
    page = opened.page
    status = page.locator(".nnm-status")
    expect(status).to_have_text("model · cpu · 538 MB")
    opened.run_new_cell('%%generate "Once" -n 2000\npass')
    stop = status.get_by_role("button")
    expect(stop).to_have_attribute("title", 'Stop: %%generate "Once" -n 2000')
    expect(page.locator(".jp-Notebook-cell").last).to_contain_text("new token")
    stop.click()
    expect(stop).to_have_count(0)
    expect(page.locator(".jp-Notebook-cell").last).to_contain_text("KeyboardInterrupt")


def test_no_key_of_ours_was_another_s(opened: Notebook) -> None:
    bindings = opened.page.evaluate(
        "() => window.jupyterapp.commands.keyBindings.map(each => [each.command, each.keys])"
    )
    ours = [keys for name, keys in bindings if name.startswith("nnsight-magic:")]
    others = [keys for name, keys in bindings if not name.startswith("nnsight-magic:")]
    assert len(ours) == 5
    assert [keys for keys in ours if keys[0] in {first for first, *_ in others}] == []


def test_settings_are_the_kernel_s_defaults_and_what_a_notebook_sets_goes_before(
    opened: Notebook,
) -> None:
    page = opened.page
    save = "text => window.jupyterapp.serviceManager.settings.save('nnsight-magic:plugin', text)"
    asked = "m = get_ipython().magics_manager.registry['NNsightMagic']; print(m.new_tokens, m.view)"
    opened.evaluate("get_ipython().run_line_magic('config', 'NNsightMagic.view = False')")
    page.evaluate(save, json.dumps({"new_tokens": 7, "view": True}))
    opened.open(page.url)  # another page of this kernel, which reads what is stored
    expect(page.locator(".nnm-status")).to_have_text("model · cpu · 538 MB")
    page.wait_for_function(
        """async code => {
            const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            let said = '';
            const future = kernel.requestExecute({code, store_history: false});
            future.onIOPub = m => { if (m.header.msg_type === 'stream') said += m.content.text; };
            await future.done;
            return said.trim() === '7 False';
        }""",
        arg=asked,
    )
    page.evaluate(save, "{}")


def test_the_launcher_s_card_opens_a_copy_of_the_quickstart(opened: Notebook, lab: Lab) -> None:
    page = opened.page
    page.evaluate("() => window.jupyterapp.commands.execute('launcher:create')")
    page.locator(".jp-LauncherCard").filter(has_text="Look Inside a Model").click()
    tab = page.locator(".lm-TabBar-tabLabel", has_text="nnsight_magic quickstart.ipynb")
    expect(tab.first).to_be_visible()
    assert (lab.folder / "nnsight_magic quickstart.ipynb").exists()
    stored = json.loads((lab.folder / "nnsight_magic quickstart.ipynb").read_text())
    assert all(not each["outputs"] for each in stored["cells"] if each["cell_type"] == "code")
    assert page.abroad == []
