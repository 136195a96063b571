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


# By hand, from the source of each: the module that is given the stream between the halves, and
# those that give what attention and the MLP add.
BY_HAND = {
    "gpt2": ("ln_2", "attn", "mlp"),
    "gpt_neo": ("ln_2", "attn", "mlp"),
    **dict.fromkeys(
        ("llama", "mixtral", "gpt_oss", "mistral", "qwen3", "qwen2_moe", "qwen3_moe", "qwen3_next",
         "stablelm", "starcoder2", "phi3", "half", "lora"),
        ("post_attention_layernorm", "self_attn", "mlp"),
    ),
    "granite": ("post_attention_layernorm", "self_attn", "mlp"),
    "llama4": ("post_attention_layernorm", "self_attn", "feed_forward"),
    "jetmoe": ("post_attention_layernorm", "self_attention", "mlp"),
    "bloom": ("post_attention_layernorm", "self_attention.dense", "mlp.dense_4h_to_h"),
    "modernbert": ("mlp_norm", "attn", "mlp"),
    **dict.fromkeys(("bamba", "jamba"), ("pre_ff_layernorm", "self_attn", "feed_forward")),
    "lfm2": ("ffn_norm", "self_attn", "feed_forward"),
    **dict.fromkeys(
        ("gemma2", "gemma3"),
        ("pre_feedforward_layernorm", "post_attention_layernorm", "post_feedforward_layernorm"),
    ),
    "olmo2": ("mlp", "post_attention_layernorm", "post_feedforward_layernorm"),
    "glm4": ("post_attention_layernorm", "post_self_attn_layernorm", "post_mlp_layernorm"),
    **dict.fromkeys(("codegen", "gptj"), (None, "attn", "mlp")),
    "gpt_neox": (None, "attention", "mlp"),
    "falcon": (None, "self_attention", "mlp"),
    **dict.fromkeys(("cohere", "phi"), (None, "self_attn", "mlp")),
}  # fmt: skip
TIMES = {"granite": 0.5}  # its residual multiplier
SEQUENTIAL = [name for name, (middle, *_) in BY_HAND.items() if middle]
PARALLEL = [name for name in BY_HAND if name not in SEQUENTIAL]


def by_hooks(model, inputs, name, change=None):
    """What stands at these places of block 1; `change(added)` is what attention adds instead."""
    middle, attention, mlp = BY_HAND[name]
    block, seen, hooks = model.layers[1].module, {}, []

    def adds(which):
        def hook(module, args, output):
            # JetMoe's and Qwen's MLPs of experts give a tuple, or a flat list of tokens.
            seen[which] = hidden(output).reshape(seen["shape"]).clone() * TIMES.get(name, 1)
            if which == "attn" and change is not None:
                new = change(seen[which]) / TIMES.get(name, 1)
                return (new, *output[1:]) if isinstance(output, tuple) else new
            return None

        return hook

    def shape(module, args):
        seen["shape"] = args[0].shape

    hooks.append(block.register_forward_pre_hook(shape))
    for which, path in (("attn", attention), ("mlp", mlp)):
        hooks.append(block.get_submodule(path).register_forward_hook(adds(which)))
    if middle:
        hooks.append(
            block.get_submodule(middle).register_forward_pre_hook(
                lambda module, args: seen.update(middle=args[0].reshape(seen["shape"]).clone())
            )
        )
    try:
        seen["final"] = reference.final(reference.run(model.module, inputs))
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def close(one, other):
    rounding = 1e-4 if other.dtype == torch.float32 else 2e-2
    return float((one - other).abs().max() / other.abs().max()) <= rounding


@pytest.mark.parametrize("name", BY_HAND)
def test_what_the_halves_add_makes_up_the_block(name, built):
    model, inputs = built(name)
    seen = by_hooks(model, inputs, name)
    with model.trace(inputs, resume=False):
        block = model.layers[1]
        pre = block.resid_pre
        attention = block.attn.added
        middle = block.resid_mid if name in SEQUENTIAL else None
        mlp = block.mlp.added
        post = block.resid_post
    assert torch.equal(attention, seen["attn"])
    assert torch.equal(mlp, seen["mlp"])
    if middle is None:
        assert close(pre + attention + mlp, post)
    else:
        assert torch.equal(middle, seen["middle"])
        assert close(pre + attention, middle)
        assert close(middle + mlp, post)
    assert attention.where == "layers[1].attn.added"
    assert hook_count(model.module) == 0


@pytest.mark.parametrize("name", BY_HAND)
def test_what_is_written_to_added_is_what_the_block_adds(name, built):
    model, inputs = built(name)
    plain = reference.final(reference.run(model.module, inputs))
    with model.trace(inputs, resume=False):
        model.layers[1].attn.added = model.layers[1].attn.added
        if name in SEQUENTIAL:
            model.layers[1].resid_mid = model.layers[1].resid_mid
        model.layers[1].mlp.added[:] *= 1
        same = reference.final(model.output).value
    assert torch.equal(same, plain)

    def change(added):
        added = added.clone()
        added[:, 2] = 0.5
        return added

    expected = by_hooks(model, inputs, name, change)["final"]
    with model.trace(inputs, resume=False):
        model.layers[1].attn.added[:, 2] = 0.5
        written = reference.final(model.output).value
    assert torch.equal(written, expected)
    assert not torch.equal(written, plain)


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_what_is_written_between_the_halves_is_what_both_the_mlp_and_the_sum_get(name, built):
    model, inputs = built(name)
    vector = torch.linspace(-1, 1, 32).to(model.module.dtype)
    pre = seen_by_hooks(model, inputs)["pre"]

    def change(added):  # so that the stream behind attention is the vector
        added = added.clone()
        added[:, 3] = vector - pre[:, 3]
        return added

    expected = by_hooks(model, inputs, name, change)["final"]
    with model.trace(inputs, resume=False):
        model.layers[1].resid_mid[:, 3] = vector
        written = reference.final(model.output).value
    assert close(written, expected)
    assert not close(written, reference.final(reference.run(model.module, inputs)))


def test_of_mamba_the_mixer_is_all_that_adds(built):
    model, inputs = built("mamba")
    with model.trace(inputs):
        pre, added = model.layers[0].resid_pre, model.layers[0].mixer.added
        post = model.layers[0].resid_post
    assert close(pre + added, post)


@pytest.mark.parametrize("name", ["t5", "switch", "pegasus", "whisper"])
def test_attention_to_another_text_adds_too(name, built):
    model, inputs = built(name)
    blocks = {"t5": ("layer[0].SelfAttention", "layer[1].EncDecAttention", "mlp")}
    blocks["switch"] = blocks["t5"]
    parts = blocks.get(name, ("self_attn", "encoder_attn", "fc2"))
    with model.trace(inputs):
        total = model.layers[1].resid_pre
        for part in parts:
            total = total + model.layers[1][part].added
        post = model.layers[1].resid_post
    assert close(total, post)
    with pytest.raises(NoSuchModuleError, match="3 times"), model.trace(inputs):
        _ = model.layers[1].resid_mid


REFUSED = {
    "bert": ("resid_mid", "normalised"),
    "bart": ("attn.added", "normalised"),
    "gpt_neox": ("resid_mid", "side by side"),
    "cohere": ("resid_mid", "side by side"),
    "mamba": ("resid_mid", "adds to the residual stream once"),
    "llama": ("mlp.down_proj.added", "is no half of a block.*\n.*attn.added, .*mlp.added"),
    "gpt2": ("ln_2.added", "is no half of a block"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_architecture_has_not_is_refused_in_words(name, built):
    model, inputs = built(name)
    (*path, value), words = REFUSED[name][0].split("."), REFUSED[name][1]
    with pytest.raises(NoSuchModuleError, match=words), model.trace(inputs):
        handle = model.layers[1]
        for part in path:
            handle = getattr(handle, part)
        getattr(handle, value)
    assert hook_count(model.module) == 0
    assert not any("forward" in module.__dict__ for module in model.module.modules())


@pytest.mark.parametrize("name", ["llama", "gpt2", "granite", "bloom"])
def test_sweeps_edits_and_every_step_of_a_text_know_them(name, built):
    model, inputs = built(name)

    def change(block):
        model.layers[block].attn.added[:, 1] *= 2
        model.layers[block].resid_mid[:, 2] = 0
        model.layers[block].mlp.added[:, 3] = 1
        return model.logits.value

    in_turn = []
    for block in range(2):
        with model.trace(inputs):
            in_turn.append(change(block))
    for one, other in zip(model.sweep(inputs, change, range(2)), in_turn, strict=True):
        assert close(one, other)
    with model.edit() as edited:
        model.layers[1].resid_mid[:, 2] = 0
        model.layers[1].attn.added[:, 1] *= 2
        model.layers[1].mlp.added[:, 3] = 1
    with edited.trace(inputs):
        logits = edited.logits.value
    with model.trace(inputs):
        model.layers[1].attn.added[:, 1] *= 2
        model.layers[1].resid_mid[:, 2] = 0
        model.layers[1].mlp.added[:, 3] = 1
        expected = model.logits.value
    assert torch.equal(logits, expected)
    with model.generate(inputs["input_ids"], max_new_tokens=3, do_sample=False) as tracer:
        shapes = []
        for _ in tracer.steps:
            pre, added = model.layers[1].resid_pre, model.layers[1].attn.added
            middle = model.layers[1].resid_mid
            assert close(pre + added, middle)
            shapes.append(middle.shape[1])
    assert shapes == [6, 1, 1]


# By hand: the down projection, and the module of the activation, in a block.
NEURONS = {
    **dict.fromkeys(
        ("llama", "gemma2", "gemma3", "gemma3n", "cohere", "granite", "olmo2", "mistral", "qwen3",
         "stablelm", "half", "lora", "quantised"),
        ("mlp.down_proj", "mlp.act_fn"),
    ),
    **dict.fromkeys(("phi3", "glm4"), ("mlp.down_proj", "mlp.activation_fn")),
    **dict.fromkeys(("gpt2", "gpt_neo", "starcoder2"), ("mlp.c_proj", "mlp.act")),
    **dict.fromkeys(("codegen", "gptj"), ("mlp.fc_out", "mlp.act")),
    **dict.fromkeys(("gpt_neox", "falcon"), ("mlp.dense_4h_to_h", "mlp.act")),
    "bloom": ("mlp.dense_4h_to_h", "mlp.gelu_impl"),
    "phi": ("mlp.fc2", "mlp.activation_fn"),
    **dict.fromkeys(("bamba", "falcon_h1"), ("feed_forward.down_proj", "feed_forward.act_fn")),
    "modernbert": ("mlp.Wo", "mlp.act"),
    "t5": ("layer.2.DenseReluDense.wo", "layer.2.DenseReluDense.act"),
    "lfm2": ("feed_forward.w2", None),  # silu is a function there
}  # fmt: skip


@pytest.mark.parametrize("name", NEURONS)
def test_neurons_are_what_the_down_projection_and_the_activation_are_given(name, built):
    model, inputs = built(name)
    block, seen, change = model.layers[1].module, {}, []

    def given(which):
        def hook(module, args):
            seen.setdefault(which, args[0].clone())
            if which in change:
                new = args[0].clone()
                new[:, 2, 5] = 1
                return (new, *args[1:])
            return None

        return hook

    down, activation = NEURONS[name]
    hooks = [block.get_submodule(down).register_forward_pre_hook(given("neurons"))]
    if activation:
        hooks.append(block.get_submodule(activation).register_forward_pre_hook(given("pre")))
    else:
        hooks.append(
            block.feed_forward.w1.register_forward_hook(
                lambda module, args, output: seen.update(pre=output)
            )
        )
    plain = reference.final(reference.run(model.module, inputs))
    changed = {}
    for which in ("neurons", "pre") if activation else ("neurons",):
        change[:] = [which]
        changed[which] = reference.final(reference.run(model.module, inputs))
    for hook in hooks:
        hook.remove()
    mlp = model.layers[1].mlp
    with model.trace(inputs, resume=False):
        before = mlp.neurons_pre
        behind = mlp.neurons
        mlp.neurons = behind
        assert torch.equal(reference.final(model.output).value, plain)
    assert torch.equal(before, seen["pre"])
    assert torch.equal(behind, seen["neurons"])
    for which, expected in changed.items():
        with model.trace(inputs, resume=False):
            value = mlp.neurons if which == "neurons" else mlp.neurons_pre
            value[:, 2, 5] = 1
            written = reference.final(model.output).value
        assert torch.equal(written, expected)
        assert not torch.equal(written, plain)


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss", "qwen2_moe", "llama4", "switch", "jetmoe"])
def test_a_mixture_of_experts_has_no_neurons_of_its_own(name, built):
    model, inputs = built(name)
    with pytest.raises(NoSuchModuleError, match="mixture of experts"), model.trace(inputs):
        _ = model.layers[1].mlp.neurons
    if name == "qwen2_moe":
        with model.trace(inputs):
            shared = model.layers[1].mlp.shared_expert.neurons
        assert shared.shape == (1, 6, 16)  # although prompts and tokens are one axis there
