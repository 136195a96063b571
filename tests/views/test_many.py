"""Lens grids and many prompts: all of it where there is room, else what is left out, in words."""

from __future__ import annotations

import html
import re

import pytest
from rich.cells import cell_len

import nnsight_magic.terminal as terminal
from nnsight_magic.errors import BadInputError
from nnsight_magic.views import GridView, TokenStrip, TokensView, tokens_view
from nnsight_magic.views.still.grid import CELLS, COLUMNS, ROWS


def grid(rows, tokens, title="lens"):
    top = [[[(f"r{r}p{p}", 0.5)] for p in range(tokens)] for r in range(rows)]
    return GridView(top, [f"t{p}" for p in range(tokens)], title=title)


@pytest.mark.parametrize("rows", [1, 2, 12, 30, 62, 100, 101, 130])
@pytest.mark.parametrize("tokens", [1, 9, 40, 41, 300])
def test_a_still_grid_has_the_answer_and_says_what_it_leaves_out(rows, tokens):
    still = grid(rows, tokens).still()
    shown = re.findall(r">r(\d+)p(\d+)<", still)
    seen_rows, seen_positions = ({int(each[k]) for each in shown} for k in (0, 1))
    assert len(shown) == len(seen_rows) * len(seen_positions) <= CELLS
    assert (max(seen_rows), max(seen_positions)) == (rows - 1, tokens - 1)
    assert len(seen_rows) == min(rows, ROWS)
    assert len(seen_positions) == min(tokens, COLUMNS, max(1, CELLS // min(rows, ROWS)))
    for count, left, what in (
        (rows, min(seen_rows), "row"),
        (tokens, min(seen_positions), "position"),
    ):
        assert (f"the first {left} {what}" in still) == (left > 0), count
    assert ("left out" in still) == ((min(seen_rows), min(seen_positions)) != (0, 0))


@pytest.mark.parametrize("tokens", [1, 9, 60])
@pytest.mark.parametrize("title", ["lens", ""])
def test_a_grid_in_words_has_every_row_and_the_last_positions(tokens, title):
    view = grid(30, tokens, title)
    text = view.text()
    assert all(len(line) <= 100 for line in text.splitlines())
    for row in range(30):
        assert f"r{row}p{tokens - 1}" in text
    assert ("left out" in text) == (tokens == 60)
    assert "GridView" in repr(view)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_grid_in_a_terminal_is_as_wide_as_the_terminal(monkeypatch, columns):
    monkeypatch.setattr(terminal, "in_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    widest = max(map(cell_len, grid(30, 60).text().splitlines()))
    assert columns - 20 < widest <= columns
    chinese = GridView([[[("中文中文中文", 0.5)]] * 30], [f"第{k}" for k in range(30)], ["0"])
    assert max(map(cell_len, chinese.text().splitlines())) <= columns


def test_many_prompts_fold_in_words_and_still():
    many = [TokenStrip(["a", "b"], name=f"prompt {k}") for k in range(200)]
    view = tokens_view(many)
    assert len(view.text().splitlines()) == 9
    assert view.text().endswith("… and 192 more prompts")
    assert "and 192 more prompts" in view.still()


def test_numbers_without_a_name_colour_the_tokens():
    strip = TokenStrip(["a", "b"], numbers=[0.25, 1.0])
    assert TokensView(strip).coloured == "number"
    assert "by'>number, 0 to 1<" in TokensView(strip).still()


NUMBERS = {"rank": [[5, 0], [0, 0]], "entropy": [[1.5, 2.0], [0.25, float("nan")]]}


def test_a_grid_with_an_answer_marks_it_and_has_numbers_beside_every_row():
    top = [[[("a", 0.5)], [("b", 0.5)]]] * 2
    view = GridView(
        top, ["x", " y"], ["input", "0"], numbers=NUMBERS, answer="' b'", settled=[1, 0]
    )
    still = html.unescape(view.still())
    assert still.count("<u><b>") == 3
    assert "underlined: ' b' is the likeliest token" in still
    assert "rank, entropy: after token 1 ·y" in still
    assert still.count("┬") == 3  # one in each column, and the legend
    view.cell = [0, 0]
    assert "<td class='n'>5</td><td class='n'>1.5</td>" in view.still()
    first, second = view.text().splitlines()[1:3]
    assert first.split() == ["input", "a", "┬b", "0", "2"]
    assert second.split() == ["0", "┬a", "b", "0", "–"]


def test_numbers_that_do_not_fit_a_grid_are_refused():
    top = [[[("a", 0.5)]]] * 2
    with pytest.raises(BadInputError, match="rank has 1 rows for 2"):
        GridView(top, ["x"], numbers={"rank": [[1]]})
    with pytest.raises(BadInputError, match="2 entries for 1 tokens"):
        GridView(top, ["x"], numbers={"rank": [[1, 2], [1, 2]]})
    with pytest.raises(BadInputError, match="2 settled rows for 1 positions"):
        GridView(top, ["x"], settled=[0, 1])
