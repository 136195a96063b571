"""The words on the axes of what a cell saves and shows: its prompts' tokens, the vocabulary."""

from __future__ import annotations

import pytest

from nnsight_magic.results.as_view import view_of
from nnsight_magic.views.data.roles import PADDING
from tests.magics.conftest import PROMPT

SHORT = "A cat"


def axes_of(result, name):
    """Roles and words of the axes of a saved tensor, as its view has them."""
    tensors = {view.title: view for view in view_of(result.record).tensors}
    return {axis["role"]: axis for axis in tensors[name].axes}, tensors[name]


def tokens(shell, text):
    tokenizer = shell.ns["model"].tokenizer
    return [tokenizer.decode([i]) for i in tokenizer(text).input_ids]


def test_the_tokens_of_the_prompt_stand_on_every_axis_of_tokens(shell, cell):
    result = shell.run(cell("h = layers[0].output\np = layers[0].attn.pattern\nl = logits"))
    words = tokens(shell, PROMPT)
    axes, _ = axes_of(result, "h")
    assert list(axes["token"]["labels"]) == words
    axes, _ = axes_of(result, "p")
    assert list(axes["query"]["labels"]) == list(axes["key"]["labels"]) == words
    axes, view = axes_of(result, "l")
    assert list(axes["token"]["labels"]) == words
    assert "vocabulary" in axes
    assert view.labels.vocabulary(40) == shell.ns["model"].tokenizer.decode([40])


def test_the_axes_of_the_last_expression_are_known_too(shell, cell):
    shell.ip.kernel = object()  # there is a front end that shows views
    try:
        shell.run(cell("logits"))
    finally:
        del shell.ip.kernel
    stills = [out.data["text/html"] for out in shell.outputs if "text/html" in out.data]
    assert any("<b>logits</b>" in each and "token ↓ vocabulary →" in each for each in stills)


@pytest.mark.parametrize("row", [0, 1])
def test_in_a_batch_an_axis_has_the_tokens_of_the_row_that_is_looked_at(shell, row):
    result = shell.run(f'%%trace "{PROMPT}" "{SHORT}"\nh = layers[0].output')
    _, view = axes_of(result, "h")
    view.index = [row, 0, 0]
    axes = {axis["role"]: axis for axis in view.axes}
    words = [tokens(shell, PROMPT), tokens(shell, SHORT)]
    padded = [[PADDING] * (len(words[0]) - len(each)) + each for each in words]
    assert list(axes["token"]["labels"]) == padded[row]


def test_a_named_prompt_has_its_own_tokens(shell):
    shell.ns["both"] = {"clean": PROMPT, "short": SHORT}
    result = shell.run("%%trace -p both\na = clean.layers[0].output\nb = short.layers[0].output")
    for name, text in (("a", PROMPT), ("b", SHORT)):
        axes, _ = axes_of(result, name)
        assert list(axes["token"]["labels"]) == tokens(shell, text)


def test_a_value_without_an_axis_of_tokens_is_shown_without(shell, cell):
    result = shell.run(cell("p = logits[:, -1].softmax(-1)\nn = layers[0].output.norm()"))
    axes, _ = axes_of(result, "p")
    assert not any(axis["labels"] for role, axis in axes.items() if role != "vocabulary")
