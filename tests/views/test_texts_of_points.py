"""Texts of points as a table: each behind its point, what differs from the baseline marked."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nnsight_magic.analyses import Along, with_axes
from nnsight_magic.views.still import texts

BASELINE = " Paris is the capital of <France>"
ROWS = [
    ("layer 1", BASELINE),
    ("layer 2", " Paris is the city of light"),
    ("layer 3", " of of\nof 'it'"),
]


def test_a_console_has_a_line_for_each_with_marks_around_what_differs():
    assert texts.text("text (layer 3)", ROWS, BASELINE, more=2).split("\n") == [
        "text (layer 3)",
        "baseline  ' Paris is the capital of <France>'",
        "layer 1   the same",
        "layer 2   ' Paris is the ‹city› of ‹light›'",
        "layer 3   ' of ‹of\\nof \\'it\\'›'",
        "… and 2 more",
    ]
    assert "‹" not in texts.text("text", ROWS, None) and "baseline" not in texts.text(
        "t", ROWS, None
    )


def test_a_page_has_a_row_for_each_and_escapes_what_a_model_writes():
    page = texts.html("text", ROWS, BASELINE)
    assert page.count("<tr") == 4 and "<France>" not in page and "&lt;France&gt;" in page
    marked = re.findall(r"underline'>([^<]*)<", page)
    assert marked == ["city", "light", "of\nof &#x27;it&#x27;"]


@given(st.text(alphabet="ab \n'x", max_size=30), st.text(alphabet="ab \n'x", max_size=30))
def test_the_pieces_are_the_text(one, other):
    pieces = texts.differing(one, other)
    assert "".join(piece for piece, _ in pieces) == one
    assert one != other or not any(differs for _, differs in pieces)


def test_a_result_of_texts_is_that_table():
    values = np.array([each for _, each in ROWS], dtype=object)
    found = with_axes(values, [Along("layer", range(3))], "text").assign_coords(baseline=BASELINE)
    lines = repr(found).split("\n")
    assert lines[1] == f"baseline  {BASELINE!r}"
    assert lines[2].split() == ["layer", "0", "the", "same"]
    assert lines[3].endswith("' Paris is the ‹city› of ‹light›'")
