"""What an answer is, and what is measured of it."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.errors import BadInputError, TokenTextError

LOGITS = torch.tensor([[[0.0, 1.0, 2.0, 4.0], [3.0, 1.0, 0.0, 2.0]]])


@pytest.fixture(scope="module")
def model():
    from tests import tiny

    return LanguageModel(tiny.build("llama"), tiny.tokenizer())


def test_an_answer_alone_is_measured_by_its_log_probability(model):
    metric = analyses.metric_of(model, 3)
    assert metric.words == "log-probability of ''" or "log-probability" in metric.words
    expected = 2.0 - torch.tensor([3.0, 1.0, 0.0, 2.0]).exp().sum().log()
    assert torch.allclose(metric(LOGITS), expected[None])


def test_beside_another_answer_it_is_the_difference_of_their_logits(model):
    assert analyses.metric_of(model, 0, 3)(LOGITS).tolist() == [1.0]


def test_a_probability_is_asked_for(model):
    metric = analyses.metric_of(model, 3, probability=True)
    assert torch.allclose(metric(LOGITS), LOGITS[:, -1].softmax(-1)[:, 3])


def test_of_several_tokens_the_log_probabilities_are_summed_as_if_each_had_been_said(model):
    metric = analyses.metric_of(model, [2, 1])
    assert metric.forced == (2,)
    shares = LOGITS[0].log_softmax(-1)
    assert torch.allclose(metric(LOGITS), (shares[0, 2] + shares[1, 1])[None])


def test_any_function_of_the_logits_is_a_metric(model):
    metric = analyses.metric_of(model, lambda logits: logits[..., -1, 0] * 2)
    assert metric(LOGITS).tolist() == [6.0]
    with pytest.raises(BadInputError, match=r"shape \(1, 4\).*expected \(1,\)"):
        analyses.metric_of(model, lambda logits: logits[..., -1, :])(LOGITS)


def test_a_text_is_read_as_it_stands_its_blank_included(model):
    encode = model.tokenizer.encode
    assert analyses.metric_of(model, " Paris").answer == tuple(encode(" Paris"))
    assert analyses.metric_of(model, "The").answer == tuple(encode("The"))


@pytest.mark.parametrize(
    ("answer", "versus", "error", "words"),
    [
        (None, None, BadInputError, "no answer"),
        ("", None, TokenTextError, "empty text is no token"),
        (320, None, TokenTextError, "320 is no token: the vocabulary has the ids 0 to 319"),
        (-1, None, TokenTextError, "-1 is no token"),
        ([], None, TokenTextError, "no token"),
        ([1.5], None, BadInputError, "found 1.5"),
        ("zebra quux", 3, TokenTextError, r"'zebra quux' is \d+ tokens: '"),
        (3, 3, BadInputError, "always 0"),
        (len, 3, BadInputError, "leave out versus"),
    ],
)
def test_what_makes_no_metric_is_refused_in_words(model, answer, versus, error, words):
    with pytest.raises(error, match=words):
        analyses.metric_of(model, answer, versus)


def test_without_a_tokenizer_ids_are_asked_for():
    from tests import tiny

    bare = LanguageModel(tiny.build("llama"))
    assert analyses.metric_of(bare, 7).words == "log-probability of <7>"
    with pytest.raises(BadInputError, match="no tokenizer"):
        analyses.metric_of(bare, " Paris")
