"""Colab has a widget manager of its own, which anywidget switches on and names: that is kept."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from nnsight_magic.views import TokenStrip, display, tokens_view

URL = "https://manager.example/"


def test_colab_is_told_of_its_manager_of_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    enabled: list[bool] = []
    colab = SimpleNamespace(
        enable_custom_widget_manager=lambda: enabled.append(True),
        _widgets=SimpleNamespace(_installed_url=URL),
    )
    monkeypatch.setitem(sys.modules, "google.colab.output", colab)
    import anywidget._util

    anywidget._util.enable_custom_widget_manager_once.cache_clear()
    published: list[Any] = []
    monkeypatch.setattr(
        "IPython.display.publish_display_data",
        lambda data, metadata=None, **_: published.append((data, metadata)),
    )
    monkeypatch.setattr(display, "in_notebook", lambda: True)
    view = tokens_view(TokenStrip(["a", "b"]))
    view._ipython_display_()
    assert enabled
    (live, metadata), (still, _) = published
    kind = "application/vnd.jupyter.widget-view+json"
    assert live[kind]["model_id"] == view.model_id
    assert metadata[kind]["colab"]["custom_widget_manager"]["url"] == URL
    assert "text/html" in still
