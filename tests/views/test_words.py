"""Numbers and texts read the same in Python and in the browser; a number is rounded once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnsight_magic.printable import printable
from nnsight_magic.views.data import words

FIXTURES = Path(__file__).parents[2] / "widgets" / "test" / "fixtures" / "words.json"
SHOWN = {
    "number": lambda value: words.number(float(value)),
    "percent": words.percent,
    "bytes": words.size_text,
    "count": words.count_text,
    "visible": words.visible,
    "printable": printable,
}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [(name, *row) for name, rows in json.loads(FIXTURES.read_text()).items() for row in rows],
)
def test_python_shows_what_the_browser_shows(name, value, text):
    assert SHOWN[name](value) == text


@given(st.floats(0, 1))
def test_a_probability_reads_the_same_from_the_number_and_from_what_a_view_stores(p):
    assert words.percent(words.share(p)) == words.percent(p)


@given(st.floats(-1e308, 1e308))
def test_a_number_is_shown_within_half_a_unit_of_its_last_digit(value):
    shown = float(words.number(value))
    assert abs(shown - value) <= max(abs(value) * 0.00501, 1e-300)
    if 1e-3 <= abs(value) < 1e5:
        assert abs(shown - value) <= abs(value) * 0.000501


@given(st.text(st.characters()))
def test_nothing_that_is_shown_acts_on_the_terminal_or_the_page(text):
    for shown in (words.visible(text), printable(text)):
        assert all(c.isprintable() or c in "\n\t\u200d" for c in shown)
