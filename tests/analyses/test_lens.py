"""The logit lens: its rows are what the model says if a block is the last."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.errors import BadInputError, TokenTextError
from tests.architectures import models
from tests.architectures.reference import first, replaced, run

PROMPT = "The Eiffel Tower is in the city of"
# Without logits by token, or with one block for several layers.
NONE = ("vit", "clip", "whisper", "quantised", "albert")
TEXT = [name for name in models.CASES if name not in NONE]


def logits_with(module, inputs, hidden):
    """The logits where a hand-written hook puts `hidden` behind the last block."""
    block = LanguageModel(module).layers[-1].module

    def put(_module, _args, output):
        path, _ = first(output)
        return replaced(output, path, hidden)

    handle = block.register_forward_hook(put)
    try:
        return run(module, inputs).logits
    finally:
        handle.remove()


def hidden_of(module, inputs):
    """What goes into the first block and comes out of each, by hand-written hooks."""
    blocks = [block.module for block in LanguageModel(module).layers]
    seen, handles = [], []

    def enter(_module, args, kwargs):
        seen.append((args[0] if args else next(iter(kwargs.values()))).clone())

    handles.append(blocks[0].register_forward_pre_hook(enter, with_kwargs=True))
    handles += [
        block.register_forward_hook(lambda _m, _a, out: seen.append(first(out)[1].clone()))
        for block in blocks
    ]
    logits = run(module, inputs).logits
    for handle in handles:
        handle.remove()
    return seen, logits


@pytest.mark.parametrize("name", TEXT)
def test_each_row_is_what_a_hook_behind_the_last_block_gives_and_the_last_is_the_logits(name):
    module, inputs = models.build(name)
    found = analyses.lens(LanguageModel(module), inputs, 7, top=3)
    hidden, logits = hidden_of(module, inputs)
    assert found.token.sizes["row"] == len(hidden)
    for row, each in enumerate(hidden):
        expected = logits_with(module, inputs, each)[0].float()
        assert_row(found, row, expected)
    assert_row(found, -1, logits[0].float())


def assert_row(found, row, logits):
    """`logits` is `(tokens, vocabulary)`."""
    shares = logits.log_softmax(-1)
    size = float(shares.abs().max())
    close = {"rtol": 1e-5, "atol": 1e-5 * max(1.0, size)}
    np.testing.assert_allclose(found.logprob.values[row], shares[:, 7].numpy(), **close)
    best = shares.topk(3).values.exp().numpy()
    np.testing.assert_allclose(found.probability.values[row], best, rtol=1e-4, atol=1e-5)
    entropy = -(shares.exp() * shares).sum(-1)
    np.testing.assert_allclose(found.entropy.values[row], entropy.numpy(), rtol=1e-4, atol=1e-4)
    rank = (logits > logits[:, 7, None]).sum(-1)
    assert np.abs(found.rank.values[row] - rank.numpy()).max() <= 1


@pytest.fixture(scope="module")
def found(wrapped):
    return analyses.lens(wrapped, PROMPT, " Paris")


@pytest.mark.demo
def test_ranks_and_log_probabilities_are_those_of_transformer_lens(demo, bridge, found):
    paris = demo.tokenizer.encode(" Paris")[0]
    ids = demo.tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        _, cache = bridge.run_with_cache(ids)
        names = ["blocks.0.hook_resid_pre", *(f"blocks.{k}.hook_resid_post" for k in range(30))]
        for row, name in list(enumerate(names))[::5]:
            logits = bridge.unembed(bridge.ln_final(cache[name]))[0]
            shares = logits.log_softmax(-1)
            expected = shares[:, paris].numpy()
            np.testing.assert_allclose(found.logprob.values[row], expected, rtol=1e-3, atol=1e-3)
            ranks = (logits > logits[:, paris, None]).sum(-1).numpy()
            # Where two logits are nearer than rounding, either may stand first.
            near = ((logits - logits[:, paris, None]).abs() < 1e-3).sum(-1).numpy() - 1
            assert (np.abs(found.rank.values[row] - ranks) <= near).all()
            assert found.token.values[row, :, 0].tolist() == logits.argmax(-1).tolist()


@pytest.mark.demo
def test_the_capital_is_settled_two_blocks_before_the_end(demo, found):
    row = int(found.settled.sel(position=8))
    assert found.rows[row] == "28"
    assert found.token.values[row:, 8, 0].tolist() == [demo.tokenizer.encode(" Paris")[0]] * 2
    assert found.token.values[row - 1, 8, 0] != demo.tokenizer.encode(" Paris")[0]
    assert "after ' of' ' Paris' is the likeliest from row 28 on" in found.text()


@pytest.fixture(scope="module")
def model():
    from tests import tiny

    return LanguageModel(tiny.build("llama"), tiny.tokenizer())


def test_axes_and_attributes_say_what_was_looked_at(model):
    found = analyses.lens(model, "Hello world", " Paris", top=2)
    assert found.token.dims == ("row", "position", "place")
    assert found.rows == ["input", "0", "1", "2"]
    assert "".join(found.tokens) == "Hello world"
    assert found.rank.attrs["prompt"] == "Hello world"
    assert set(found.dataset().data_vars) == {
        *("token", "probability", "entropy", "settled", "rank", "logprob")
    }


def test_edits_in_force_hold_and_are_said(model):
    plain = analyses.lens(model, "Hello world", 7)
    assert not plain.notices
    model.edit("silence", model.layers[1].mlp, at=..., set=0)
    edited = analyses.lens(model, "Hello world", 7)
    model.clear_edits()
    assert "silence" in edited.notices[0]
    assert np.array_equal(edited.logprob.values[0], plain.logprob.values[0])
    assert not np.allclose(edited.logprob.values[-1], plain.logprob.values[-1])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"of": "banana"}, BadInputError, "no lens of 'banana'"),
        ({"answer": "zebra quux"}, TokenTextError, "the lens is about one"),
        ({"prompt": ["one", "two"]}, BadInputError, "one prompt; found 2"),
        ({"prompt": torch.ones(2, 3, dtype=torch.long)}, BadInputError, "one prompt; found 2"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_in_words(model, arguments, error, words):
    with pytest.raises(error, match=words):
        analyses.lens(model, **{"prompt": "Hello", **arguments})


def test_a_block_that_is_called_for_several_layers_is_refused():
    module, inputs = models.build("albert")
    with pytest.raises(BadInputError, match="3 layers and 1 blocks"):
        analyses.lens(LanguageModel(module), inputs)


def test_a_model_without_logits_by_token_is_refused(tiny):
    from tests.architectures.models import pixels

    with pytest.raises(BadInputError, match="prediction after each of its tokens"):
        analyses.lens(LanguageModel(tiny("vit")), pixels())


def test_a_figure_has_the_tokens_in_its_cells(model):
    found = analyses.lens(model, "Hello world", 7)
    written = [each.get_text() for each in found.figure().axes[0].texts]
    assert len(written) == found.rank.size
    with pytest.raises(BadInputError, match="rank and logprob need an answer"):
        analyses.lens(model, "Hello world").figure("rank")


@pytest.mark.demo
@pytest.mark.parametrize(("of", "hook"), [("attn", "hook_attn_out"), ("mlp", "hook_mlp_out")])
def test_what_a_half_adds_reads_as_in_transformer_lens(demo, bridge, of, hook):
    found = analyses.lens(demo, "The Eiffel Tower", " Paris", of=of)
    paris = demo.tokenizer.encode(" Paris")[0]
    ids = demo.tokenizer("The Eiffel Tower", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        _, cache = bridge.run_with_cache(ids, names_filter=lambda name: name.endswith(hook))
        for block in (0, 17, 29):
            logits = bridge.unembed(bridge.ln_final(cache[f"blocks.{block}.{hook}"]))[0]
            expected = logits.log_softmax(-1)[:, paris].numpy()
            own = found.logprob.sel(row=str(block)).values
            np.testing.assert_allclose(own, expected, rtol=1e-3, atol=1e-3)
            assert found.token.sel(row=str(block), place=0).values.tolist() == (
                logits.argmax(-1).tolist()
            )


def test_what_a_half_adds_is_refused_in_words_where_there_is_no_such_half():
    module, inputs = models.build("mamba")
    with pytest.raises((BadInputError, AttributeError), match=r"attn|attention"):
        analyses.lens(LanguageModel(module), inputs, of="attn")
