"""Defaults of the magics' options from JupyterLab's settings page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from traitlets import TraitError

from nnsight_magic.errors import BadInputError

# Those that the page has; `model` and `overwritten` are a notebook's own business.
KNOWN = ("new_tokens", "compare", "view", "quiet", "chat", "full", "fresh", "grad")


class PageDefaults:
    """What the page has set in one kernel.

    `%config NNsightMagic.quiet = True` in the notebook goes before: a setting is changed only while
    it is what the class says, or what the page had made of it.
    """

    def __init__(self, magics: Any) -> None:
        self._magics = magics
        self._made: dict[str, Any] = {}

    def take(self, given: Mapping[str, Any]) -> list[str]:
        """Takes all that the page has set, and takes back what it has no longer.

        Returns:
            The names of the settings that are the page's now.

        Raises:
            BadInputError: for a setting that there is not, or a value of another kind; nothing is
                changed then.
        """
        traits = self._magics.traits(config=True)
        for name, value in given.items():
            if name not in KNOWN:
                raise BadInputError(f"there is no setting {str(name)[:40]!r} for a page to set")
            if type(value) is not type(traits[name].default_value):
                raise BadInputError(f"{name} cannot be {value!r:.40}")
        for name in KNOWN:
            default = traits[name].default_value
            if getattr(self._magics, name) != self._made.get(name, default):
                continue  # the notebook's own
            try:
                setattr(self._magics, name, given.get(name, default))
            except TraitError as error:
                raise BadInputError(f"{name}: {error}") from None
            self._made[name] = getattr(self._magics, name)
        return [name for name in KNOWN if self._made.get(name) == given.get(name, ...)]
