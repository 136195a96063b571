"""Tokens by their text."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnsight_magic.errors import TokenTextError
from nnsight_magic.language.tokens import ByText, PromptRow, joined, position, token_texts

TOKENS = ("The", " E", "iffel", " Tower", " is", " the", " the")
ROW = PromptRow(0, 0, len(TOKENS), TOKENS)
WORDS = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\\", max_codepoint=0x1FAFF),
    min_size=1,
)


def test_the_texts_of_the_tokens_make_up_the_prompt(tiny_tokenizer):
    text = "The Eiffel Tower is in\n the city"
    assert "".join(token_texts(tiny_tokenizer, tiny_tokenizer(text)["input_ids"])) == text


@pytest.mark.demo
@given(WORDS)
def test_parts_of_characters_are_their_bytes(demo_tokenizer, text):
    tokens = token_texts(demo_tokenizer, demo_tokenizer(text)["input_ids"])
    assert "\ufffd" not in "".join(tokens) or "\ufffd" in text
    # Its vocabulary lacks a few control characters, which it leaves out.
    assert joined(tokens) == demo_tokenizer.decode(demo_tokenizer(text)["input_ids"])


def test_sentencepiece_bytes_are_bytes():
    class Sentencepiece:
        def batch_decode(self, rows, **_):
            return ["\ufffd" for _ in rows]

        def convert_ids_to_tokens(self, ids):
            return [f"<0x{each:02X}>" for each in ids]

    assert token_texts(Sentencepiece(), "你".encode()) == [r"\xe4", r"\xbd", r"\xa0"]


def test_a_character_of_several_tokens_is_found():
    row = PromptRow(0, 0, 3, ("a", r" \xe4\xbd", r"\xa0"))
    with pytest.raises(TokenTextError, match=r"'你' is 2 tokens(?s:.*)\[:, 1:3\]"):
        position("你", row)


def test_without_a_tokenizer_tokens_are_their_ids():
    assert token_texts(None, [3, 4]) == ["<3>", "<4>"]


def test_a_text_is_found_with_or_without_its_space():
    assert position("Tower", ROW) == position(" Tower", ROW) == 3


def test_the_exact_text_comes_before_the_stripped_one():
    assert position("The", ROW) == 0
    assert position("a", PromptRow(0, 0, 2, (" a", "a"))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the", "several positions of the prompt: 5, 6"),
        ("Eiffel", "2 tokens of the prompt: ' E' at 1, 'iffel' at 2"),
        ("Towr", "did you mean 'Tower'?"),
        ("xyz", "Its tokens: 'The'"),
    ],
)
def test_a_text_that_is_no_single_token_is_explained(text, message):
    with pytest.raises(TokenTextError, match=message.replace("?", r"\?").replace("(", r"\(")):
        position(text, ROW)


def test_reads_and_writes_by_text_reach_the_tensor():
    tensor = torch.zeros(1, 7, 2)
    by_text = ByText(tensor, (ROW,))
    by_text[:, "Tower"] = 1
    assert tensor[:, 3].eq(1).all()
    assert tensor.sum() == 2
    assert by_text[:, "Tower":].shape == (1, 4, 2)
    assert by_text[:, "The":"Tower", 0].shape == (1, 3)
    assert by_text[:, ["The", "Tower"]].shape == (1, 2, 2)
    assert by_text[..., "Tower", :].eq(1).all()
    assert by_text[:, None, "Tower"].shape == (1, 1, 2)


def test_attention_patterns_take_texts_on_both_axes():
    pattern = torch.arange(49.0).reshape(1, 1, 7, 7)
    assert ByText(pattern, (ROW,))[0, 0, "Tower", "The"] == 3 * 7


def test_an_axis_that_is_not_of_tokens_is_refused():
    with pytest.raises(TokenTextError, match="axis 1 has 3 positions"):
        ByText(torch.zeros(1, 3, 2), (ROW,))[:, "Tower"]


def test_prompts_with_the_token_at_different_places_are_refused():
    rows = (PromptRow(0, 0, 3, ("a", "b", "c")), PromptRow(1, 0, 3, ("b", "a", "c")))
    with pytest.raises(TokenTextError, match="different positions of the batch"):
        ByText(torch.zeros(2, 3, 4), rows)[:, "a"]
    assert ByText(torch.zeros(2, 3, 4), rows)[:, "c"].shape == (2, 4)


def test_padding_is_counted_in():
    row = PromptRow(0, 2, 5, ("a", "b", "c"))
    tensor = torch.arange(5.0)[None]
    assert ByText(tensor, (row,))[0, "a"] == 2
