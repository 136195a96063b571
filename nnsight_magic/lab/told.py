"""What the page says, checked: whatever is missing or of another kind is refused in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnsight_magic.errors import BadInputError

LONGEST = 1_000_000  # characters of a cell
MOST = 1000  # entries of a list


def text_in(asked: Mapping[str, Any], name: str) -> str:
    """The text that a message has under a name.

    Raises:
        BadInputError: if there is none, or it is longer than any cell.

    >>> text_in({"path": "layers.3"}, "path")
    'layers.3'
    """
    value = asked.get(name)
    if not isinstance(value, str) or len(value) > LONGEST:
        raise BadInputError(f"the panel's message has no text {name!r}")
    return value


def number_in(asked: Mapping[str, Any], name: str) -> int:
    """The whole number that a message has under a name.

    Raises:
        BadInputError: if there is none.

    >>> number_in({"run": 3}, "run")
    3
    """
    value = asked.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadInputError(f"the panel's message has no whole number {name!r}")
    return value


def switch_in(asked: Mapping[str, Any], name: str) -> bool:
    """The truth value that a message has under a name.

    Raises:
        BadInputError: if there is none.

    >>> switch_in({"on": False}, "on")
    False
    """
    value = asked.get(name)
    if not isinstance(value, bool):
        raise BadInputError(f"the panel's message does not say whether {name!r}")
    return value


def list_in(asked: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    """The list of texts or of whole numbers that a message has under a name.

    Raises:
        BadInputError: if there is none, it is too long, or has entries of another kind.

    >>> list_in({"numbers": [1, 2]}, "numbers", int)
    [1, 2]
    """
    value = asked.get(name)
    if not isinstance(value, list) or len(value) > MOST:
        raise BadInputError(f"the panel's message has no list {name!r}")
    if not all(type(each) is kind for each in value):
        raise BadInputError(f"the list {name!r} of the panel's message has other things in it")
    return value
