"""Texts that come from elsewhere (prompts, tokens, module names), made safe to show.

A control character that reaches a terminal or a page does what it says: ESC recolours or clears
the screen, U+202E turns the rest of a line round, NUL ends a text for some readers. So whatever
shows a text of the user's or the model's shows signs in the place of such characters.
"""

from __future__ import annotations

import html
import re

JOINER = "\u200d"  # of emoji; unprintable by itself, and a sign where one stands in its place
_LINES = ("\n", "\t")
_PRINTABLE = re.compile(r"[\x20-\x7e\n\t]*")


def printable(text: str) -> str:
    """The text with `\\x1b` and the like as they are written in Python; lines stay lines.

    >>> printable("a\\x1b[2Jb\\u202ec")
    'a\\\\x1b[2Jb\\\\x202ec'
    """
    if _PRINTABLE.fullmatch(text):
        return text
    return "".join(c if c in _LINES else sign(c) for c in text)


def sign(character: str) -> str:
    """A character, or what is shown in its place where it is none that one sees."""
    if character.isprintable() or character == JOINER:
        return character
    return f"\\x{ord(character):02x}"


def escape(text: str, quote: bool = True) -> str:
    """The text for a page: no character of it acts, and none is taken for HTML.

    >>> escape("<b>\\x1b")
    '&lt;b&gt;\\\\x1b'
    """
    return html.escape(printable(text), quote)
