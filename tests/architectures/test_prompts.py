"""In every architecture: what is one prompt's of a value of a batch, and what is nobody's alone."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.engine.running.inputs import with_positions
from nnsight_magic.engine.sweeping.axes import PromptBatch
from nnsight_magic.errors import NnsightError, WrongValueError
from nnsight_magic.language.rows import Row
from nnsight_magic.language.tokens import PromptRow
from tests import tiny
from tests.architectures import families, models

NAMES = ("clean", "corrupt")
TEXT = [*families.FAMILIES, "gpt2", "llama", "gpt_neox", "mixtral", "mamba", "t5", "jamba"]
# Of different length, and as many tokens as some of the models have heads or experts.
PROMPTS = {
    "input_ids": torch.tensor([[5, 6, 7, 8], [1, 9, 10, 6]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]]),
}


def padded(module):
    """The prompts with their positions, which a forward does not tell from a mask."""
    return with_positions(PROMPTS, module)


def handles(model):
    """One module of each class, in a block and outside."""
    seen, found = set(), []
    for path, module in model.module.named_modules():
        inside = model.names.block_index(path) is not None
        key = (type(module), path.rpartition(".")[2], inside)
        if path and key not in seen and not isinstance(module, torch.nn.ModuleList):
            seen.add(key)
            found.append(model._handles.at(path))
    return found


def named(model, tracer):
    rows = [PromptRow(k, k, 4, ("t",) * (4 - k), name) for k, name in enumerate(NAMES)]
    batch = PromptBatch(len(rows), rows[0].width)
    return [Row(model, row, batch, {}, tracer) for row in rows]


def zero(value):
    """Zero the first tensor in a value; whether there was one."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            value[:] = 0
        return value.is_floating_point()
    return any(zero(value[k]) for k in range(len(value))) if isinstance(value, tuple) else False


@pytest.mark.parametrize("name", TEXT)
def test_a_prompts_write_leaves_the_other_prompts_logits(name):
    module, _ = models.build(name)
    model = LanguageModel(module.eval(), tiny.tokenizer())
    try:
        with model.trace(PROMPTS):
            whole = model.logits.value
    except (NnsightError, RuntimeError, IndexError, ValueError, TypeError) as error:
        pytest.fail(f"no batch runs: {error}")
    written = 0
    for handle in handles(model):
        try:
            with model.trace(PROMPTS) as tracer:
                _clean, corrupt = named(model, tracer)
                if not zero(corrupt[handle.path].output):
                    continue
                logits = model.logits.value
        except NnsightError:  # it is refused, in words
            continue
        written += 1
        changed = (logits[0] - whole[0]).abs().max()
        assert changed <= 1e-4 * whole.abs().max(), handle.path
    assert written > 3


@pytest.mark.parametrize("name", ["mixtral", "opt", "llama4", "xglm", "bloom", "mamba"])
def test_what_a_prompt_reads_is_what_it_gives_alone(name):
    module, _ = models.build(name)
    model = LanguageModel(module.eval(), tiny.tokenizer())
    seen = 0
    for handle in handles(model):
        alone = {"input_ids": PROMPTS["input_ids"][1:, 1:]}
        try:
            with model.trace(alone):
                expected = model[handle.path].output
            with model.trace(padded(module)) as tracer:
                value = named(model, tracer)[1][handle.path].output
        except NnsightError:
            continue
        if isinstance(value, torch.Tensor) and isinstance(expected, torch.Tensor):
            assert value.shape == expected.shape, handle.path
            torch.testing.assert_close(value.value, expected.value, atol=2e-4, rtol=2e-3)
            seen += 1
    assert seen > 4


def test_as_many_tokens_as_heads_are_told_apart():
    """Four tokens and four heads, in the inputs of the attention function itself."""
    module = tiny.build("llama")
    heads = module.config.num_attention_heads
    assert heads == PROMPTS["input_ids"].shape[1]
    model = LanguageModel(module, tiny.tokenizer())

    def query(attn):
        return attn.ops.scaled_dot_product_attention.inputs[0][0]

    with model.trace({"input_ids": PROMPTS["input_ids"][1:, 1:]}):
        expected = query(model.layers[1].attn).value
    with model.trace(padded(module)) as tracer:
        value = query(named(model, tracer)[1].layers[1].attn)
        assert value.shape == expected.shape == (1, heads, 3, module.config.head_dim)
        torch.testing.assert_close(value.value, expected, atol=1e-4, rtol=1e-3)


def test_what_all_prompts_have_in_common_is_read_and_not_written_by_one():
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    unpadded = {"input_ids": PROMPTS["input_ids"]}
    with model.trace(unpadded) as tracer:
        corrupt = named(model, tracer)[1]
        cosine = corrupt.model.rotary_emb.output[0]
        assert cosine.shape[0] == 1
        with pytest.raises(WrongValueError, match="one value for all prompts"):
            cosine[:] = 0
