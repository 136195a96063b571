"""A generation's texts with the writes and without: below each other, in line, marked."""

import random

import pytest

from nnsight_magic.results.as_html import html as result_html
from nnsight_magic.results.as_text import plain_text
from nnsight_magic.results.as_view import view_of
from nnsight_magic.views.data.two_texts import two_texts
from nnsight_magic.views.data.words import visible
from nnsight_magic.views.still.two_texts import html, lines

TOKENS = [" a", "b", " long er", "\n", "", "<b>", " \u4f60", "\x1b[2J", "|", "  "]
GENERATE = "for step in steps:\n    layers[1].mlp.output[:] = {}"


def pairs():
    for seed in range(40):
        chance = random.Random(seed)
        first = chance.choices(TOKENS, k=chance.randrange(30))
        second = list(first)
        for _ in range(chance.randrange(6)):
            at = chance.randrange(len(second) + 1)
            second[at : at + chance.randrange(3)] = chance.choices(TOKENS, k=chance.randrange(3))
        yield first, second


def test_both_texts_are_there_whole_and_what_is_the_same_is_in_line():
    for first, second in pairs():
        columns = two_texts(first, second).columns
        assert [above for above, _ in columns if above is not None] == first
        assert [below for _, below in columns if below is not None] == second
        assert (None, None) not in columns
        if first == second:
            assert all(above == below for above, below in columns)


@pytest.mark.parametrize("width", [40, 100])
def test_lines_of_a_terminal_stand_in_line(width):
    for first, second in pairs():
        texts = two_texts(first, second)
        shown = list(lines(texts, width))
        assert all(len(line) <= width for three in shown for line in three)
        assert "\x1b" not in str(shown)
        marked = sum(len(marks.split()) for _, _, marks in shown)
        assert (marked > 0) == (first != second)


def test_a_page_has_both_with_marks():
    for first, second in pairs():
        texts = two_texts(first, second)
        shown = html(texts)
        differing = [each for column in texts.columns if column[0] != column[1] for each in column]
        assert shown.count("box-shadow") == sum(each is not None for each in differing)
        assert "<b>" not in shown
        assert "\x1b" not in shown


def test_a_generation_shows_its_texts_in_line_everywhere(shell, cell):
    result = shell.run(cell(GENERATE.format("5.0"), "-n 6 --do_sample False", "generate"))
    (prompt,) = result.prompts
    model = shell.ns["model"]
    inputs = model.tokenizer(prompt.text, return_tensors="pt")
    ids = model.module.generate(**inputs, max_new_tokens=6, do_sample=False)
    begin = inputs["input_ids"].shape[1]
    clean = [model.tokenizer.decode([each]) for each in ids[0, begin:].tolist()]
    assert len(prompt.generated_clean) == len(clean)
    assert prompt.generated != prompt.generated_clean, "the write changes nothing"
    view = view_of(result.record)
    (live,) = view.texts
    assert [b for _, b in live["columns"] if b is not None] == list(prompt.generated_clean)
    assert [a for a, _ in live["columns"] if a is not None] == list(prompt.generated)
    for page in (view.still(), result_html(result.record)):
        assert page.count("with the writes") == 1
        assert "box-shadow" in page
    text = plain_text(result.record).split("\n")
    above = next(k for k, line in enumerate(text) if line.startswith("with the writes"))
    assert text[above].endswith("|")
    assert text[above + 1].startswith("without the writes")
    assert "^" in text[above + 2]
    assert visible(prompt.generated[0]) in text[above]
    assert visible(prompt.generated_clean[0]) in text[above + 1]


def test_where_nothing_differs_there_is_one_text(shell, cell):
    body = "layers[1].mlp.output[:, -1] *= 1"
    result = shell.run(cell(body, "-n 3 --do_sample False", "generate"))
    assert view_of(result.record).texts == []
    assert "the same without the writes" in plain_text(result.record)
    assert "with the writes" not in plain_text(result.record)


@pytest.mark.parametrize("magic", ["trace", "generate"])
def test_a_view_takes_what_has_no_axis_of_tokens(shell, cell, magic):
    body = "p = logits[:, -1].softmax(-1)\nh = layers[1].output\nn = h.norm()\nhs = [h, h]"
    line = "-n 3" if magic == "generate" else ""
    result = shell.run(cell(body, line, magic))
    assert [each.title for each in view_of(result.record).tensors] == ["p", "h", "n", "hs"]
