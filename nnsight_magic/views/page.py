"""One self-contained page with a view in it, interactive over what the view stored."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import ipywidgets

from nnsight_magic.printable import escape
from nnsight_magic.views import bundle
from nnsight_magic.views.data.labels import Labels
from nnsight_magic.views.data.wire import packed_json
from nnsight_magic.views.still.style import whole, writable

STORED_ON_PAGE = 1 << 20  # values of all tensors of a page together
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>:root {{ color-scheme: light dark }} body {{ margin: 16px auto; max-width: 1100px;
padding: 0 12px; background: Canvas; color: CanvasText }}</style></head>
<body><main id="view"></main><noscript>{still}</noscript>
<script type="application/json" id="state">{state}</script>
<script type="module">{code}</script></body></html>
"""
LEFT_OUT = {"_esm", "_css", "_code", "layout", "tabbable", "tooltip", "comm"}


class Stateful(Protocol):
    """A widget, as far as a page needs to know of it."""

    @property
    def model_id(self) -> str: ...
    def get_state(self) -> dict[str, Any]: ...


class Shown(Stateful, Protocol):
    """A view of a page."""

    @property
    def page_title(self) -> str: ...
    def still(self) -> str: ...


@runtime_checkable
class Storing(Protocol):
    """A view that can store more of its tensor on a page than in a notebook."""

    @property
    def model_id(self) -> str: ...
    @property
    def labels(self) -> Labels: ...
    def stored_in(self, budget: int) -> dict[str, Any]: ...
    def axes_with_words(self) -> list[dict[str, Any]]: ...


def models_of(view: Stateful, values: int = 0) -> dict[str, dict[str, Any]]:
    """The state of a view and of all it refers to, by model id; bytes as `{"bytes": base64}`.

    With `values`, so many values of its tensors together instead of what a notebook stores.
    """
    found: dict[str, dict[str, Any]] = {}
    tensors: list[Storing] = []
    waiting: list[Stateful] = [view]
    while waiting:
        each = waiting.pop()
        if each.model_id in found:
            continue
        state = {}
        for name, value in each.get_state().items():
            if name in LEFT_OUT or name.startswith("_"):
                continue
            waiting += _widgets(getattr(each, name))
            state[name] = _plain(value)
        found[each.model_id] = state
        if isinstance(each, Storing):
            tensors.append(each)
    for each in tensors if values else ():
        more = each.stored_in(values // len(tensors)) | {"axes": each.axes_with_words()}
        found[each.model_id] |= {name: _plain(value) for name, value in more.items()}
    if values:
        _spell(tensors, found)
    return found


def _spell(tensors: list[Storing], found: dict[str, dict[str, Any]]) -> None:
    """The texts of vocabularies, which a kernel tells one by one; each of them once."""
    known: list[tuple[Any, str]] = []
    for each in tensors:
        texts = each.labels.vocabulary
        if texts is None:
            continue
        same = next((first for other, first in known if other == texts), None)
        if same is None:
            known.append((texts, each.model_id))
        words = each.labels.spelled_all() if same is None else None
        found[each.model_id]["spelled"] = same or _plain(packed_json(words))


def _widgets(value: Any) -> list[ipywidgets.Widget]:
    if isinstance(value, ipywidgets.Widget):
        return [value]
    return (
        [each for each in value if isinstance(each, ipywidgets.Widget)]
        if isinstance(value, list)
        else []
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | memoryview | bytearray):
        return {"bytes": base64.b64encode(value).decode()}
    return value


def page(view: Shown) -> str:
    """The page's text."""
    models = models_of(view, STORED_ON_PAGE)
    state = json.dumps({"root": view.model_id, "models": models}, separators=(",", ":"))
    return PAGE.format(
        title=escape(view.page_title),
        still=whole(view.still()),
        state=state.replace("<", "\\u003c"),
        code=bundle.source("page.js").replace("</script", "<\\/script"),
    )


def save_page(view: Shown, path: Any) -> None:
    """Writes the page to `path`."""
    Path(path).write_text(writable(page(view)), encoding="utf-8")
