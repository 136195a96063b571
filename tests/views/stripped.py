"""What a page leaves of a still view that takes styles out of what it shows, as GitHub does."""

from __future__ import annotations

import re
from html import unescape

import bleach

# What GitHub keeps: the lists that its html-pipeline has been published with.
_TAGS = """h1 h2 h3 h4 h5 h6 br b i strong em a pre code img tt div ins del sup sub p ol ul table
thead tbody tfoot blockquote dl dt dd kbd q samp var hr ruby rt rp li tr td th s strike summary
details caption figure figcaption abbr bdo cite dfn mark small span time wbr"""
_EVERYWHERE = """abbr align alt axis border cellpadding cellspacing char charoff clear color colspan
compact datetime dir headers height hspace id label lang nowrap open rowspan rules scope size span
start summary tabindex title type valign value width itemprop aria-describedby aria-hidden
aria-label aria-labelledby"""
TAGS = frozenset(_TAGS.split())
ATTRIBUTES = {"*": _EVERYWHERE.split(), "a": ["href"], "img": ["src", "longdesc"]}


def words(html: str) -> str:
    """What can be read on such a page; what only points at something is none of it.

    >>> words("<span style='display:none'>&#9608; is</span> <b title='t'>seen</b>")
    '█ is seen'
    """
    return unescape(re.sub(r"<[^>]*>", "", stripped(html)))


def stripped(html: str) -> str:
    """Without styles, their rules, classes and data; pictures within the page stay.

    >>> stripped("<style>.a{color:red}</style><b class='a' style='color:red' title='t'>x</b>")
    '<b title="t">x</b>'
    """
    without = re.sub(r"<(style|script)\b.*?</\1>", "", html, flags=re.S)
    return bleach.clean(without, TAGS, ATTRIBUTES, protocols=["http", "https", "data"], strip=True)
