"""The configuration of the part of a model that reads text."""

from __future__ import annotations

from typing import Any


def text_config(root: Any) -> Any:
    """A model's configuration; of one that sees or hears too, that of its text part."""
    config: Any = getattr(root, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config
