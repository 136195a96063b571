"""What the axes of a tensor are called, and the words at their places."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nnsight_magic.errors import BadInputError
from nnsight_magic.views import TokenStrip, compare, show, tokens_view
from nnsight_magic.views.data.roles import PADDING, infer_axes
from nnsight_magic.views.data.seen import axes_of, drawn_by
from nnsight_magic.views.live.tokens import GridView
from nnsight_magic.views.page import page
from nnsight_magic.views.still.picture import names_of
from tests.views.test_tensor_view import ask

ROWS = [["The", " cat", " sat"], [PADDING, "A", " dog"]]


def words(view: Any) -> tuple[list[str], list[str]]:
    """What a still picture and a figure write beside rows and columns."""
    drawn = drawn_by(view.seen, (100, 100))
    assert drawn is not None
    names = names_of(view.seen, drawn, 500, 400)
    return [text for _, text in names.rows], [text for _, text in names.columns]


def ticks(view: Any) -> tuple[list[str], list[str]]:
    """The same, read off a figure."""
    axes = view.figure().axes[0]
    return tuple(
        [text.get_text() for text in labels]
        for labels in (axes.get_yticklabels(), axes.get_xticklabels())
    )


SHAPES = st.lists(st.integers(1, 24), min_size=1, max_size=4)


@given(shape=SHAPES, count=st.integers(1, 24), named=st.booleans())
@example(shape=[1, 2, 5], count=5, named=False)
@settings(max_examples=200)
def test_tokens_either_label_an_axis_of_their_number_or_are_refused(
    shape: list[int], count: int, named: bool
) -> None:
    names = ["token", *["feature"] * (len(shape) - 1)] if named else None
    fits = count in (shape[:1] if named else shape)
    try:
        axes = infer_axes(shape, names, [f" t{k}" for k in range(count)])
    except BadInputError as error:
        axes, told = [], str(error)
    if not axes:
        assert f"found {count} for a tensor of shape {tuple(shape)}, expected " in told
        assert not fits
        return
    labelled = [axis for axis in axes if axis.labels]
    assert labelled
    assert all(axis.size == count == len(axis.labels) for axis in labelled)


@pytest.mark.parametrize(
    "make",
    [
        lambda tokens: show(torch.rand(22), tokens=tokens),
        lambda tokens: show(torch.rand(1, 22, 16), tokens=tokens, sizes={"feature": 16}),
        lambda tokens: show(torch.rand(22, 22), axes=("query", "key"), tokens=tokens),
        lambda tokens: show(torch.rand(4, 22), axes=("layer", "place"), tokens=tokens),
        lambda tokens: compare(torch.rand(22), torch.rand(22), tokens=tokens),
        lambda tokens: GridView([[[("a", 0.5)]] * 22], tokens),
        lambda tokens: tokens_view(TokenStrip(tokens, top=[[("a", 0.5)]] * 22)),
        lambda tokens: tokens_view(TokenStrip(tokens, numbers={"norm": [0.5] * 22})),
    ],
)
def test_every_view_says_that_tokens_do_not_fit(make: Any) -> None:
    with pytest.raises(BadInputError) as raised:
        make([f" t{k}" for k in range(23)])
    assert "23" in str(raised.value)
    assert "22" in str(raised.value) or "called token" in str(raised.value)


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        ("abc", "found a text"),
        ([1, 2, 3], "decode each token"),
        (torch.arange(3), "decode each token"),
        ([["a", "b", "c"], ["a", "b"]], "found lists of 3, 2 tokens"),
        ([["a", "b", "c"], ["x", "y", "z"]], "those of 2 prompts"),
        ([], "found 0"),
    ],
)
def test_what_is_no_list_of_tokens_is_refused(tokens: Any, told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        show(torch.rand(3, 5), tokens=tokens)


def test_in_a_batch_the_words_are_those_of_the_row_that_is_looked_at() -> None:
    view = show(torch.rand(2, 3, 8), "resid", tokens=ROWS, sizes={"feature": 8})
    assert [axis["role"] for axis in view.axes] == ["batch", "token", "feature"]
    assert words(view)[0] == ticks(view)[0] == ["The", "·cat", "·sat"]
    view.index = [1, 0, 0]
    assert view.axes[1]["labels"] == ROWS[1]
    assert words(view)[0] == ticks(view)[0] == [PADDING, "A", "·dog"]
    view.drawn = [0, 1]  # both prompts at once
    assert ticks(view)[1] == ["0", "1", "2"]
    assert ask(view, do="text", index=[1, 2, 0])[0]["words"] == [None, " dog", None]


def test_a_pattern_has_queries_and_keys_with_the_words_of_its_row() -> None:
    view = show(torch.rand(2, 4, 3, 3), "pattern", tokens=ROWS, index=[1, 2, 0, 0])
    assert [axis["role"] for axis in view.axes] == ["batch", "head", "query", "key"]
    axes = view.figure().axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("query", "key")
    assert ticks(view) == ([PADDING, "A", "·dog"],) * 2
    assert "query ↓ key →" in view.still()
    assert ask(view, do="text", index=[0, 0, 2, 1])[0]["words"] == [None, None, " sat", " cat"]


def test_rows_of_one_prompt_need_no_batch() -> None:
    assert ticks(show(torch.rand(3, 5), tokens=[["a", "b", "c"]] * 2))[0] == ["a", "b", "c"]


def test_the_words_of_many_prompts_are_on_a_page_and_not_in_a_notebook() -> None:
    rows = [[f"t{row}.{k}" for k in range(9)] for row in range(100)]
    view = show(torch.rand(100, 9, 4), tokens=rows, sizes={"feature": 4})
    assert not view.axes[1]["rows"]
    stored = json.loads(page(view).split('id="state">')[1].split("</script>")[0])
    axis = stored["models"][view.model_id]["axes"][1]
    assert (axis["rows"], axis["along"]) == (rows, 0)
    view.index = [70, 0, 0]
    assert view.axes[1]["labels"] == rows[70]


@pytest.mark.parametrize("vocabulary", ["spelled", [f"<{k}>" for k in range(2000)]], ids=type)
def test_the_vocabulary_tells_its_tokens(vocabulary: Any) -> None:
    if isinstance(vocabulary, str):
        vocabulary = "<{}>".format
    view = show(
        torch.rand(2, 3, 2000), tokens=ROWS, vocabulary=vocabulary, sizes={"vocabulary": 2000}
    )
    assert [axis["role"] for axis in view.axes] == ["batch", "token", "vocabulary"]
    assert ask(view, do="text", index=[1, 1, 1234])[0]["words"] == [None, "A", "<1234>"]
    assert ticks(view)[1][:2] == ["0", "200"]
    view.window = [0, 3, 1230, 1240]
    assert ticks(view)[1] == [f"<{k}>" for k in range(1230, 1240)]


def test_a_vocabulary_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BadInputError, match="found 7 texts for a tensor of shape"):
        show(torch.rand(3, 8), vocabulary=list("abcdefg"))
    with pytest.raises(BadInputError, match="say its size"):
        show(torch.rand(3, 8), vocabulary=str)


def test_a_token_that_the_tokenizer_does_not_know_has_no_word() -> None:
    view = show(torch.rand(3, 8), vocabulary={0: "a"}.__getitem__, sizes={"vocabulary": 8})
    assert [ask(view, do="text", index=[0, k])[0]["words"][1] for k in (0, 7)] == ["a", None]


def test_the_lines_for_the_next_cell_have_each_prompt_s_words() -> None:
    tensor = torch.rand(2, 3, 8)
    view = show(tensor, "tensor", tokens=ROWS, sizes={"feature": 8}, index=[1, 0, 0])
    space: dict[str, Any] = {"tensor": tensor}
    lines = view.answers["lines"]({})[0]["lines"].splitlines()
    exec("\n".join(line for line in lines if "savefig" not in line), space)
    labels = space["figure"].axes[0].get_yticklabels()
    assert [each.get_text() for each in labels] == [PADDING, "A", "·dog"]


def test_a_state_from_the_page_keeps_the_words() -> None:
    view = show(torch.rand(2, 3, 8), tokens=ROWS, sizes={"feature": 8})
    view.set_state({"axes": []})
    view.index = [1, 0, 0]
    assert axes_of(view.seen)[1]["labels"] == ROWS[1]
