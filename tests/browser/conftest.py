"""One JupyterLab, one browser and one demo notebook for the whole ring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import ARGUMENTS, CHROMIUM, Lab, Notebook, serving


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here drives a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with serving(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # the longest that what should come is waited for
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=ARGUMENTS
        )
        yield running
        running.close()


def new_page(browser: Any) -> Any:
    """A page; what leaves this machine is refused and remembered in `page.abroad`."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 1000},
        permissions=["clipboard-read", "clipboard-write"],
        accept_downloads=True,
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.abroad = []

    def guard(route: Any) -> None:
        url = route.request.url
        if url.startswith(("http://127.0.0.1", "blob:", "data:", "file:")):
            route.continue_()
        else:
            page.abroad.append(url)
            route.abort()

    page.route("**/*", guard)
    return page


@pytest.fixture(scope="package")
def page(browser: Any) -> Iterator[Any]:
    """The page that the demo notebook is open in."""
    page = new_page(browser)
    yield page
    page.context.close()


@pytest.fixture(scope="package")
def demo_cached() -> None:
    """Converted before a notebook wants it."""
    from nnsight_magic.loading.load import open_source

    open_source("demo").weights()


@pytest.fixture(scope="package")
def notebook(lab: Lab, page: Any, demo_cached: None) -> Notebook:
    """The notebook of `cells.py`, run in JupyterLab."""
    from tests.browser.cells import CELLS

    lab.notebook("views.ipynb", CELLS)
    opened = Notebook(page).open(lab.address("views.ipynb"))
    opened.run_all()
    return opened
