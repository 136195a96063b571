"""Views on one page of the real front end, whose questions Python answers: JupyterLab left out.

    python -m tests.browser.thirty FOLDER

draws the thirty tensors live, still, as figures and as the console does, in light and in dark,
beside matplotlib's own picture, attention and lenses likewise, and writes the sheets into the
folder, to be looked at.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nnsight_magic.printable import escape
from nnsight_magic.views import TensorView, bundle, show
from nnsight_magic.views.data.seen import cut_of, drawn_by
from nnsight_magic.views.live.view import View
from nnsight_magic.views.page import models_of
from nnsight_magic.views.still.half_blocks import text_of
from nnsight_magic.views.still.style import whole
from tests.browser.lab import ARGUMENTS, CHROMIUM
from tests.views.tensors import TENSORS

LIVE_WIDTH = 1240  # pixels of a notebook that is as wide as those in the documentation
PLACE = "http://views.example/"
PAGE = """<!doctype html><meta charset="utf-8"><title>views</title>
<style>body { margin: 8px; width: 860px; font: 13px sans-serif; background: #fff; color: #111 }
body[data-jp-theme-light="false"] { background: #111; color: #ddd; color-scheme: dark }</style>
<body data-jp-theme-light="LIGHT">PLACES
<script type="application/json" id="states">STATES</script>
<script type="module">
import views from "./views.js";
import { modelsFrom } from "./page.js";
const states = JSON.parse(document.getElementById("states").textContent);
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const answered = (model, id) => {
  const heard = [];
  const on = model.on.bind(model);
  model.on = (event, callback) =>
    event === "msg:custom" ? heard.push(callback) : on(event, callback);
  model.send = (content) =>
    window.asked(id, content).then(([reply, data]) => {
      const buffers = data.map((each) => new DataView(bytes(each).buffer));
      heard.forEach((callback) => callback(reply, buffers));
    });
};
states.forEach(({ root, models }, place) => {
  const all = modelsFrom(models);
  all.forEach(answered);
  const model = all.get(root);
  views.render({ model, el: document.getElementById(`view${place}`) });
});
</script>"""


def views_of_thirty() -> dict[str, tuple[Any, TensorView]]:
    """The tensors and their viewers, by name."""
    made = {name: (make(), options) for name, (make, options) in TENSORS.items()}
    return {
        name: (tensor, show(tensor, name, **options)) for name, (tensor, options) in made.items()
    }


@contextlib.contextmanager
def live(
    browser: Any, views: Sequence[View], dark: bool = False, *, width: int = 900
) -> Iterator[Any]:
    """A page with the views on it, in the elements `#view0` and so on, once nothing is pending.

    Each has one map; the views inside of others are answered too.
    """
    states = [{"root": view.model_id, "models": models_of(view)} for view in views]
    places = "".join(f'<div id="view{k}"></div>' for k in range(len(views)))
    text = PAGE.replace("LIGHT", json.dumps(not dark)).replace("PLACES", places)
    text = text.replace("STATES", json.dumps(states).replace("<", "\\u003c"))
    text = text.replace("width: 860px", f"width: {width - 40}px")
    files = {"": text, "views.js": bundle.source("views.js"), "page.js": bundle.source("page.js")}
    page = browser.new_page(viewport={"width": width, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    known = dict(inner for view in views for inner in _inside(view))

    def answer(model: str, content: dict[str, Any]) -> list[Any]:
        heard: list[Any] = []
        known[model].send = lambda reply, data=(): heard.append([reply, list(data)])
        known[model]._asked(None, content, [])
        reply, data = heard[0]
        return [reply, [base64.b64encode(each).decode() for each in data]]

    def serve(route: Any) -> None:
        name = route.request.url.removeprefix(PLACE)
        kind = "text/javascript" if name else "text/html"
        route.fulfill(body=files.get(name, ""), content_type=f"{kind}; charset=utf-8")

    page.expose_function("asked", answer)
    page.route("**/*", serve)
    page.goto(PLACE)
    maps = [view for view in views if any(isinstance(v, TensorView) for _, v in _inside(view))]
    page.wait_for_function(
        "n => document.querySelectorAll('canvas.nnv-heat[data-drawn]').length >= n", arg=len(maps)
    )
    yield page
    page.close()
    assert errors == []


def _inside(view: View) -> Iterator[tuple[str, View]]:
    """A view and those that it holds, by the ids of their models."""
    yield view.model_id, view
    for name in view.keys:
        inner = getattr(view, name)
        if isinstance(inner, View):
            yield from _inside(inner)


@dataclass(frozen=True)
class Live:
    """A live map: its pixels, and the ends of its scale as they are written."""

    pixels: np.ndarray
    ends: tuple[str, str]
    outside: tuple[bool, bool]


def live_of(page: Any, place: int) -> Live:
    """The map of one view as it stands on the page."""
    view = page.locator(f"#view{place}")
    canvas = view.locator("canvas.nnv-heat")
    data, plot, ratio = canvas.evaluate(
        "c => [c.toDataURL('image/png').split(',')[1], c.dataset.drawn, c.width / c.clientWidth]"
    )
    left, top, width, height = (round(float(each) * ratio) for each in plot.split(","))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))
    low, high = (
        view.get_by_label(f"{end} end of the colour scale").input_value()
        for end in ("lower", "upper")
    )
    marks = [
        view.get_by_label(f"values lie {way} this end").count() > 0 for way in ("below", "above")
    ]
    return Live(pixels[top : top + height, left : left + width, :3], (low, high), (*marks,))


# -- sheets to look at ---------------------------------------------------------------------------


def plain_figure(view: TensorView) -> str:
    """matplotlib's own picture of every value, at the same limits."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    from nnsight_magic.views.data.pooling import numbers
    from nnsight_magic.views.still.colours import scale

    drawn, place = drawn_by(view.seen, (400, 400)), cut_of(view.seen)
    values = numbers(view.array.slice(place.drawn, place.index, place.part)).astype(float)
    figure = Figure(figsize=(6, 3))
    axes = figure.subplots()
    low, high = drawn.limits
    unit = 1 if np.isfinite(high - low) else 4
    colours = ListedColormap(scale(drawn.palette) / 255)
    shown = axes.imshow(
        values / unit,
        colours,
        vmin=low / unit,
        vmax=high / unit,
        aspect="auto",
        interpolation="nearest",
    )
    figure.colorbar(shown)
    return _image(figure)


def _image(figure: Any) -> str:
    file = io.BytesIO()
    figure.savefig(file)
    return f'<img src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def console(tensor: Any) -> str:
    """The console's map as HTML."""
    from rich.console import Console

    text = text_of(tensor, 80)
    if text is None:
        return "<i>numbers</i>"
    written = Console(width=100, record=True, file=io.StringIO())
    written.print(text)
    style = "font: 8px/8px monospace; margin: 4px 0"
    return written.export_html(
        inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>'
    )


def sheets(folder: Path) -> None:
    """Five tensors a sheet: live, still, figure, plain, console."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    thirty = views_of_thirty()
    names = list(thirty)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for dark in (False, True):
            with live(browser, [view for _, view in thirty.values()], dark) as page:
                for place in range(len(names)):
                    page.locator(f"#view{place}").screenshot(path=folder / f"live{place}.png")
            for begin in range(0, len(names), 5):
                some = {name: thirty[name] for name in names[begin : begin + 5]}
                _sheet(browser, some, begin, dark, folder)
            sheets_of_grids(browser, dark, folder)
        from tests.browser import heads_sheet

        heads_sheet.sheets(browser, folder)
        browser.close()


def sheets_of_grids(browser: Any, dark: bool, folder: Path) -> None:
    """Grids of numbers as analyses give them, in the same forms."""
    from tests.browser.grids import grids

    results = grids()
    views = {name: result.view() for name, result in results.items()}
    with live(browser, list(views.values()), dark) as page:
        for place in range(len(views)):
            page.locator(f"#view{place}").screenshot(path=folder / f"grid{place}.png")
    rows = []
    for place, (name, view) in enumerate(views.items()):
        plain = plain_figure(view.map) if results[name].ndim > 1 else plain_bars(results[name])
        text = f"<pre>{escape(view.text())}</pre>"
        forms = _live_picture(folder / f"grid{place}.png"), whole(view.still())
        both = _image(view.figure()), plain, console(view.map.array.tensor) + text
        rows.append([*forms, *both])
    _page_of(browser, rows, dark, folder / f"{'dark' if dark else 'light'}-grids.png")


def plain_bars(result: Any) -> str:
    """matplotlib's own bars of a result of one axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3))
    figure.subplots().bar(
        range(len(result)), result.values, yerr=result.coords.get("standard_error")
    )
    return _image(figure)


def _live_picture(path: Path) -> str:
    return f'<img src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'


def _sheet(browser: Any, some: Mapping[str, Any], begin: int, dark: bool, folder: Path) -> None:
    rows = []
    for k, (tensor, view) in enumerate(some.values()):
        cells = [
            _live_picture(folder / f"live{begin + k}.png"),
            whole(view.still()),
            _image(view.figure()),
            plain_figure(view),
            console(tensor),
        ]
        rows.append(cells)
    _page_of(browser, rows, dark, folder / f"{'dark' if dark else 'light'}{begin // 5}.png")


def _page_of(browser: Any, cells: Sequence[Sequence[str]], dark: bool, path: Path) -> None:
    """A sheet: a row for each view, a column for each of its forms."""
    rows = [f"<tr><td>{'<td>'.join(row)}" for row in cells]
    ground = "background: #111; color: #ddd; color-scheme: dark" if dark else "background: #fff"
    page = browser.new_page(viewport={"width": 3300, "height": 800})
    page.set_content(
        f"<style>body {{ margin: 8px; {ground} }} td {{ vertical-align: top; padding: 6px; "
        "min-width: 560px }}"
        f"</style><body data-jp-theme-light='{json.dumps(not dark)}'>"
        f"<table>{''.join(rows)}</table>"
    )
    page.screenshot(path=path, full_page=True)
    page.close()
    print(path)


if __name__ == "__main__":
    sheets(Path(sys.argv[1]))
