"""Pages opened in a browser, offline, and when something is to be seen on them."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATIENCE = 30_000  # milliseconds that a page has to draw something

# Resolves, once something is drawn, to the time since the page was asked for: a canvas with more
# than one colour, a drawing of many parts, an image, or rows of a tree; also inside shadow roots.
PAINTED = """patience => new Promise(done => {
    const all = (root, found = []) => {
        for (const each of root.querySelectorAll('*')) {
            found.push(each);
            if (each.shadowRoot) all(each.shadowRoot, found);
        }
        return found;
    };
    const several = canvas => {
        if (canvas.width < 20 || canvas.height < 20) return false;
        const wide = Math.min(canvas.width, 400), high = Math.min(canvas.height, 400);
        const image = canvas.getContext('2d')?.getImageData(0, 0, wide, high);
        return image && new Set(new Uint32Array(image.data.buffer)).size > 3;
    };
    const drawn = each => each.tagName === 'CANVAS' ? several(each)
        : each.tagName === 'svg' ? each.querySelectorAll('rect, path, image, text').length > 20
        : each.tagName === 'IMG' ? each.complete && each.naturalWidth > 20
        : each.getAttribute('role') === 'treeitem';
    const look = () => {
        if (all(document).some(drawn)) requestAnimationFrame(() => done(performance.now()));
        else if (performance.now() > patience) done(null);
        else setTimeout(look, 5);
    };
    look();
})"""


@contextlib.contextmanager
def browsing() -> Iterator[Any]:
    """A browser without a network."""
    from playwright.sync_api import sync_playwright

    from tests.browser.lab import ARGUMENTS, CHROMIUM

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def opened(browser: Any, path: Path) -> tuple[Any, float | None]:
    """The page, and the milliseconds until something is drawn on it; `None` for never."""
    page = browser.new_page()
    page.route("http*://**", lambda route: route.abort())
    page.set_default_timeout(PATIENCE + 30_000)
    page.goto(path.as_uri(), wait_until="commit")
    return page, page.evaluate(PAINTED, PATIENCE)


def drawn(browser: Any, path: Path, rounds: int = 5) -> float | None:
    """Median milliseconds until something is drawn; once, of a page that takes seconds."""
    times: list[float] = []
    while len(times) < rounds:
        page, ready = opened(browser, path)
        page.close()
        if ready is None or ready > 5000:
            return ready
        times.append(ready)
    return statistics.median(times)


def blank(browser: Any, folder: Path) -> float:
    """Milliseconds that a page takes which is nothing but one small drawing."""
    path = folder / "blank.html"
    lines = "".join(f'<rect x="{k}" width="1" height="9"/>' for k in range(30))
    path.write_text(f"<!doctype html><title>blank</title><svg>{lines}</svg>")
    return drawn(browser, path) or 0.0
