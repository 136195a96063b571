"""What all still views share: their style, and pictures in a page.

Colours come from the notebook's theme, with fallbacks of the page's own scheme: one that declares
none is white, whatever its reader prefers. So the same markup reads well in JupyterLab, on nbviewer
and in a page of nbconvert's. Attributes rather than
rules carry what must survive where a page takes rules out, as JupyterLab does with what it does not
trust. GitHub takes every style out: there `instead` shows in words what was drawn.
"""

from __future__ import annotations

import base64

from nnsight_magic.printable import escape

STYLE = """<style>
.nnv-still .nnv-s { color: var(--jp-ui-font-color1, CanvasText);
  font: 13px/1.5 var(--jp-ui-font-family, system-ui, sans-serif); padding: 2px 1px }
body[data-jp-theme-light="true"] .nnv-still .nnv-s, body.vscode-light .nnv-still .nnv-s {
  color-scheme: light }
body[data-jp-theme-light="false"] .nnv-still .nnv-s, body.vscode-dark .nnv-still .nnv-s,
html[theme="dark"] .nnv-still .nnv-s { color-scheme: dark }
.nnv-still .nnv-s code, .nnv-still .nnv-s .m { font-family: var(--jp-code-font-family, ui-monospace,
  monospace); font-size: 12px }
.nnv-still .nnv-s code { background: none !important; color: inherit !important; padding: 0 }
.nnv-still .nnv-s .d { color: var(--jp-ui-font-color2, GrayText) }
.nnv-still .nnv-s .by::before { content: "coloured by " }
.nnv-still .nnv-s img { display: block; margin: 4px 0; image-rendering: pixelated; max-width: 100% }
.nnv-still .nnv-s table { border-collapse: collapse; border: 0; margin: 2px 0; font-size: 12px;
  color: inherit }
.nnv-still .nnv-s tr { background: none !important }
.nnv-still .nnv-s td, .nnv-still .nnv-s th { border: 0; background: none;
  text-align: left; padding: 1px 12px 1px 0; font-weight: 400; white-space: nowrap }
.nnv-still .nnv-s th { color: var(--jp-ui-font-color2, GrayText) }
.nnv-still .nnv-s td.n { text-align: right; font-variant-numeric: tabular-nums }
.nnv-still .nnv-s td.w { white-space: normal; overflow-wrap: anywhere }
.nnv-still .nnv-s .t { border-radius: 2px; white-space: pre-wrap; padding: 1px;
  display: inline-block; max-width: 100%; line-height: 18px; margin-right: 1px }
</style>"""


def frame(body: str) -> str:
    """One still view, or a part of one."""
    return f'<div class="nnv-s">{writable(body)}</div>'


def instead(words: str, tag: str = "span") -> str:
    """HTML that is seen only where a page takes styles out, and with them what these words say.

    >>> instead("████▌")
    "<span style='display:none'>████▌</span>"
    """
    return f"<{tag} style='display:none'>{words}</{tag}>" if words else ""


def writable(text: str) -> str:
    """Half of a character alone, which no file can hold, as it is written in Python."""
    return text.encode("utf-8", "backslashreplace").decode()


def whole(frames: str, twin: str = "") -> str:
    """What is displayed: the style once, and the frames; the live view of that `twin` hides it."""
    mark = f' data-nnv="{twin}"' if twin else ""
    return f'<div class="nnv-still"{mark}>{STYLE}{frames}</div>'


def image(png: bytes, width: int, height: int, words: str) -> str:
    """An inline picture of the given size on the page."""
    data = base64.b64encode(png).decode()
    return (
        f'<img width="{width}" height="{height}" alt="{escape(words, quote=True)}" '
        f'style="width:{width}px;height:auto" src="data:image/png;base64,{data}">'
    )
