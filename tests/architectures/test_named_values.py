"""`resid_pre`, `resid_mid`, `resid_post`, `added` and `neurons` in every architecture.

What they are is compared with hand-written hooks, and what they are together with the model's own
arithmetic: the parts sum up to the block's output.
"""

from __future__ import annotations

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.errors import NoSuchModuleError, NoTraceError
from tests.architectures import models, reference
from tests.hooks import hook_count, hooked_block

SEVERAL_STREAMS = ("gemma3n",)
NO_BLOCKS = ("vit", "clip")
ALBERT = ("albert",)  # one block that is called three times, not a list of them
TEXT = [name for name in models.CASES if name not in (*SEVERAL_STREAMS, *NO_BLOCKS, *ALBERT)]


@pytest.fixture(scope="module")
def built():
    """`built("gpt2")`: a model, its inputs; the same one for all tests."""
    known = {}

    def get(name):
        if name not in known:
            module, inputs = models.build(name)
            known[name] = LanguageModel(module), inputs
        return known[name]

    return get


def hidden(output):
    return output[0] if isinstance(output, tuple | list) else output


def seen_by_hooks(model, inputs, index=1):
    """What a block is given and what it gives, by plain hooks."""
    seen = {}
    block = model.layers[index].module

    def before(module, args, kwargs):
        seen.setdefault("pre", (args[0] if args else next(iter(kwargs.values()))).clone())

    def behind(module, args, output):
        seen.setdefault("post", hidden(output).clone())

    hooks = [
        block.register_forward_pre_hook(before, with_kwargs=True),
        block.register_forward_hook(behind),
    ]
    try:
        seen["final"] = reference.final(reference.run(model.module, inputs))
    finally:
        for hook in hooks:
            hook.remove()
    return seen


@pytest.mark.parametrize("name", TEXT)
def test_the_stream_before_and_behind_a_block_is_what_hooks_see_there(name, built):
    model, inputs = built(name)
    seen = seen_by_hooks(model, inputs)
    with model.trace(inputs, resume=False):
        pre = model.layers[1].resid_pre
        post = model.layers[1].resid_post
    assert torch.equal(pre, seen["pre"])
    assert torch.equal(post, seen["post"])
    assert (pre.where, post.where) == ("layers[1].resid_pre", "layers[1].resid_post")
    assert hook_count(model.module) == 0


@pytest.mark.parametrize("name", TEXT)
def test_to_write_the_stream_back_changes_no_bit_and_a_write_is_that_of_a_hook(name, built):
    model, inputs = built(name)
    block = model.layers[0].module
    plain = reference.final(reference.run(model.module, inputs))
    with model.trace(inputs, resume=False):
        model.layers[0].resid_pre = model.layers[0].resid_pre
        model.layers[0].resid_post = model.layers[0].resid_post
        same = reference.final(model.output).value
    assert torch.equal(same, plain)

    def change(value):
        value = value.clone()
        value[:, 2] = 0
        return value

    with hooked_block(block, change):
        expected = reference.final(reference.run(model.module, inputs))
    with model.trace(inputs, resume=False):
        model.layers[0].resid_post[:, 2] = 0
        written = reference.final(model.output).value
    assert torch.equal(written, expected)
    assert not torch.equal(written, plain)


def test_an_index_is_the_tensor_s_own_also_in_an_edit(built):
    model, _ = built("gpt2")
    two = {"input_ids": torch.cat([models.IDS, models.IDS + 1])}
    with model.edit() as edited:
        model.layers[1].resid_post[0] = 0
    with edited.trace(two):
        first, second = edited.layers[1].resid_post
    assert float(first.abs().max()) == 0 < float(second.abs().max())
    with model.trace(two):
        assert model.layers[1].resid_post[0].shape == (6, 32)
        assert model.layers[1].output[0].shape == (2, 6, 32)


def test_what_has_no_such_stream_says_so(built):
    model, inputs = built("gemma3n")
    with pytest.raises(NoSuchModuleError, match="several streams"), model.trace(inputs):
        _ = model.layers[0].resid_pre
    model, _ = built("gpt2")
    with pytest.raises(NoSuchModuleError, match=r"layers\[0\].attn.* is no decoder block"):
        _ = model.layers[0].attn.resid_pre
    with pytest.raises(NoTraceError, match=r"layers\[0\].resid_post has a value only while"):
        _ = model.layers[0].resid_post
