"""Attention and the lens live, still, as figures and as the console does, beside matplotlib's own
pictures of the same numbers: sheets to be looked at, which `python -m tests.browser.thirty` writes.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnsight_magic import LanguageModel, analyses, terminal
from nnsight_magic.views.live.view import View
from nnsight_magic.views.still.style import whole
from tests.architectures import models
from tests.browser.thirty import LIVE_WIDTH, live

PROMPT = "The Eiffel Tower is in the city of"
LONG = 500  # tokens


def found() -> dict[str, Any]:
    """Attention of a sentence, of repeated tokens, of a long prompt, with sinks; and lenses."""
    model = LanguageModel("demo", dispatch=True)
    module, inputs = models.build("gpt_oss")
    return {
        "sentence": analyses.attention(model, PROMPT),
        "induction": analyses.attention(model, induction=True),
        "one block": analyses.attention(model, PROMPT, layers=[18]),
        "long": analyses.attention(model, torch.arange(1000, 1000 + LONG)[None]),
        "sinks": analyses.attention(LanguageModel(module), inputs),
        "lens": analyses.lens(model, PROMPT, " Paris"),
        "attention's lens": analyses.lens(model, PROMPT, of="attn"),
    }


def view_of(name: str, each: Any) -> View:
    """As it is looked at: a token selected, and of repeated tokens the mean of three heads."""
    view = each.view(settled=True) if "lens" in name else each.view()
    view.selection.token = min(7, len(each.tokens) - 1)
    if name == "induction":
        view.selection.token = 33
        view.chosen = [list(head[:2]) for head in each.ranked()[:3]]
    return view


def plain(name: str, each: Any) -> Any:
    """matplotlib's own picture of the numbers: the head that is large, or the answer's ranks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    if "lens" in name:
        numbers = each.entropy if each.rank is None else np.log10(1 + each.rank)
        axes.set_title(numbers.attrs.get("title", "rank, log10(1 + rank)"))
        shown = axes.imshow(numbers.values, aspect="auto", interpolation="nearest")
    else:
        layer, head, _ = each.ranked()[0]
        axes.set_title(f"head {layer}.{head}")
        values = each.block(layer).sel(head=head).values
        shown = axes.imshow(values, vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(shown)
    return figure


def figures(name: str, each: Any) -> Iterator[Any]:
    """What `.figure()` makes."""
    yield each.figure()
    if "lens" not in name:
        layer, head, _ = each.ranked()[0]
        yield each.figure(layer=layer, head=head)
        if len(each.tokens) < LONG:
            yield each.figure(layer=layer)


@contextmanager
def _in_a_terminal() -> Iterator[None]:
    before = terminal.in_terminal, terminal.width
    os.environ |= {"COLORTERM": "truecolor", "TERM": "xterm-256color"}
    terminal.in_terminal, terminal.width = (lambda: True), (lambda: 100)
    try:
        yield
    finally:
        terminal.in_terminal, terminal.width = before


def console(each: Any) -> str:
    """What a terminal shows, as HTML."""
    from rich.console import Console
    from rich.text import Text

    with _in_a_terminal():
        text = each.text()
    written = Console(width=110, record=True, file=io.StringIO(), color_system="truecolor")
    written.print(Text.from_ansi(text))
    style = "font: 10px/10px monospace; margin: 4px 0"
    return written.export_html(
        inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>'
    )


def sheets(browser: Any, folder: Path) -> None:
    """A sheet for each, light and dark."""
    all_found = found()
    views = {name: view_of(name, each) for name, each in all_found.items()}
    for dark in (False, True):
        with live(browser, list(views.values()), dark, width=LIVE_WIDTH) as page:
            page.wait_for_timeout(1500)  # until links and tiles have come
            pictures = {
                name: page.locator(f"#view{place}").screenshot() for place, name in enumerate(views)
            }
        for name, each in all_found.items():
            path = folder / f"{name.replace(' ', '-')}-{'dark' if dark else 'light'}.png"
            _sheet(browser, (name, each), views[name], pictures, dark, path)
            print(path)


def _sheet(
    browser: Any,
    one: tuple[str, Any],
    view: View,
    pictures: Mapping[str, bytes],
    dark: bool,
    path: Path,
) -> None:
    name, each = one
    drawn = [*figures(name, each), plain(name, each)]
    images = "<br>".join(_image(figure) for figure in drawn)
    cells = [_embedded(pictures[name]), whole(view.still()), images, console(each)]
    ground = "background: #111; color: #ddd; color-scheme: dark" if dark else "background: #fff"
    page = browser.new_page(viewport={"width": 3000, "height": 900})
    page.set_content(
        f"<style>body {{ margin: 8px; {ground} }} td {{ vertical-align: top; padding: 8px }}"
        f"</style><body data-jp-theme-light='{str(not dark).lower()}'>"
        f"<table><tr><td>{'<td>'.join(cells)}</table>"
    )
    page.screenshot(path=path, full_page=True)
    page.close()


def _image(figure: Any) -> str:
    file = io.BytesIO()
    figure.savefig(file)
    return _embedded(file.getvalue())


def _embedded(png: bytes) -> str:
    return f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}">'
