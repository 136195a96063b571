"""What all still views share: their style and how they write numbers.

Colours come from the notebook's theme with fallbacks that follow the browser's own setting, so the
same markup reads well in JupyterLab, on GitHub and in a page of nbconvert's. Attributes rather than
rules carry what must survive where styles are taken out.
"""

from __future__ import annotations

import base64
from html import escape

STYLE = """<style>
.nnv-still .nnv-s { color: var(--jp-ui-font-color1, CanvasText); color-scheme: light dark;
  font: 13px/1.5 var(--jp-ui-font-family, system-ui, sans-serif); padding: 2px 1px }
.nnv-still .nnv-s code, .nnv-still .nnv-s .m { font-family: var(--jp-code-font-family, ui-monospace,
  monospace); font-size: 12px; background: none; color: inherit; padding: 0 }
.nnv-still .nnv-s .d { color: var(--jp-ui-font-color2, GrayText) }
.nnv-still .nnv-s img { display: block; margin: 4px 0; image-rendering: pixelated; max-width: 100% }
.nnv-still .nnv-s table { border-collapse: collapse; border: 0; margin: 2px 0; font-size: 12px;
  color: inherit }
.nnv-still .nnv-s tr, .nnv-still .nnv-s td, .nnv-still .nnv-s th { border: 0; background: none;
  text-align: left; padding: 1px 12px 1px 0; font-weight: 400; white-space: nowrap }
.nnv-still .nnv-s td.n { text-align: right; font-variant-numeric: tabular-nums }
.nnv-still .nnv-s .t { border-radius: 2px; white-space: pre-wrap; padding: 1px }
</style>"""


def frame(body: str) -> str:
    """The style and the body of one still view."""
    return f'{STYLE}<div class="nnv-s">{body}</div>'


def image(png: bytes, width: int, height: int, words: str) -> str:
    """An inline picture of the given size on the page."""
    data = base64.b64encode(png).decode()
    return (
        f'<img width="{width}" height="{height}" alt="{escape(words, quote=True)}" '
        f'style="width:{width}px;height:{height}px" src="data:image/png;base64,{data}">'
    )


def number(value: float) -> str:
    """Four significant digits: `-0.1235`, `1.2e-05`."""
    return f"{value:.4g}"


def size_text(count: float) -> str:
    """Bytes as a person reads them: `54.0 KB`."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def count_text(count: float) -> str:
    """134515008 as `134.5 M`."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= 10 * size or (count >= size and unit != "K"):
            return f"{count / size:.1f} {unit}"
    return f"{count:,.0f}"
