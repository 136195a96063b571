"""A write is refused only where a value that was handed out depends on it, and for that reason."""

import itertools

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.errors import AlreadyRanError, WrongValueError
from tests.hooks import hook_count, hooked_block

IDS = torch.tensor([[1, 2, 3, 4, 5]])


@pytest.fixture(params=["llama", "gpt2"])
def hf(request, tiny):
    return tiny(request.param)


def by_hand(model, path):
    """The logits where a plain hook zeroes the last position of what a module gives."""

    def zeroed(output):
        output = output.clone()
        output[:, -1] = 0
        return output

    with hooked_block(model.module.get_submodule(path), zeroed), torch.no_grad():
        return model.module(IDS, use_cache=False).logits


def test_a_write_after_a_look_at_what_runs_before_flows_on(model):
    with model.trace(IDS):
        h = model.layers[1].output
        e = model.embed.output
        h[:, -1] = 0
        logits = model.logits
    assert e.shape == h.shape
    assert torch.equal(logits, by_hand(model, model.layers[1].path))
    assert hook_count(model.module) == 0


def test_it_flows_on_to_the_end_of_a_forward_that_nobody_reads_on(model):
    with model.trace(IDS, full=True) as tracer:
        h = model.layers[1].output
        _ = model.embed.output
        h[:, -1] = 0
        h[:, 0] += 1
        logits = tracer.result.logits
    assert not torch.equal(logits, by_hand(model, model.layers[1].path))


# In the order in which the modules run.
SITES = {
    "embed": lambda m: m.embed,
    "layers[0].mlp": lambda m: m.layers[0].mlp,
    "layers[1]": lambda m: m.layers[1],
    "layers[2].mlp": lambda m: m.layers[2].mlp,
    "norm": lambda m: m.norm,
}


@pytest.mark.parametrize("order", list(itertools.permutations(SITES, 3)), ids="-".join)
def test_every_order_of_reading_three_and_writing_the_first(model, order):
    """In time, and then right, or refused for a module that does run later and was read."""
    ranks = list(SITES)
    written, *read = order
    behind = [name for name in read if ranks.index(name) > ranks.index(written)]
    reason = None
    try:
        with model.trace(IDS):
            h = SITES[written](model).output
            for name in read:
                _ = SITES[name](model).output.sum()
            h[:, -1] = 0
            logits = model.logits
    except AlreadyRanError as error:
        reason = str(error)
    if not behind:
        assert reason is None, "nothing that was handed out depends on it"
        assert torch.equal(logits, by_hand(model, SITES[written](model).path))
    else:
        assert reason is not None, "what was handed out was computed without the write"
        named = reason.split("for ")[1].split(".output")[0]
        assert named in behind
    assert hook_count(model.module) == 0


def test_items_of_a_container_are_read_again(tiny):
    model = LanguageModel(tiny("llama"))
    with pytest.raises(WrongValueError, match="Read it again before writing"), model.trace(IDS):
        out = model.layers[1].attn.output
        _ = model.embed.output
        out[0] = out[0] * 0


def test_a_write_when_the_forward_has_come_by_again_is_late(model):
    with pytest.raises(AlreadyRanError, match=r"for layers\[2\].output"), model.trace(IDS):
        h = model.layers[1].output
        _ = model.embed.output
        _ = model.layers[2].output
        h[:, -1] = 0
