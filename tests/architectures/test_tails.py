"""The end of a model, sweeps and ways of running, in every architecture."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.errors import EditError, WrongValueError
from tests.architectures import models, reference
from tests.architectures.test_promises import TEXT
from tests.hooks import hook_count

WHOLE = [name for name in TEXT if name != "gemma3n"]  # whose blocks give four streams
HYBRIDS = ["qwen3_next", "granite4", "bamba", "falcon_h1", "lfm2", "zamba2", "jamba"]


def tail(module, hidden):
    """Final norm, unembedding, and what the configuration says comes behind it."""
    logits = module.lm_head(module.model.norm(hidden))
    config = module.config
    logits = logits * getattr(config, "logit_scale", 1) / getattr(config, "logits_scaling", 1)
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


@pytest.mark.parametrize("name", ["gemma2", "cohere", "granite", "llama", "qwen3", "olmo2"])
def test_a_lens_through_the_models_own_tail_has_its_scales_and_caps(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    with model.trace(inputs):
        early = model.layers[0].output
        model.layers[-1].output = early
        found = model.logits
    with torch.no_grad():
        expected = tail(module, early.value)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", WHOLE)
def test_hidden_states_of_a_block_are_by_batch_tokens_and_hidden(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    tokens = inputs.get("decoder_input_ids", inputs["input_ids"]).shape[1]
    for index in range(len(model.blocks)):
        with model.trace(inputs):
            hidden = model.layers[index].output[0]
            model.layers[index].output[:, -1] = 0
            after = model.layers[index].output[0]
        assert hidden.shape == (1, tokens, 32)
        assert bool((after[:, -1] == 0).all())
        assert torch.equal(after[:, :-1], hidden[:, :-1])


def test_blocks_of_several_streams_are_refused_in_words():
    module, inputs = models.build("gemma3n")
    model = LanguageModel(module)
    with pytest.raises(WrongValueError, match=r"4 streams.*\(4, 1, 6, 32\)"), model.trace(inputs):
        model.layers[1].output[:, -1] = 0
    with model.trace(inputs):
        assert model.layers[1]._output.shape == (4, 1, 6, 32)
    with model.edit(inplace=True):
        model.layers[1].output[:, -1] = 0
    with pytest.raises(EditError, match=r"\(4, 1, 6, 32\)"), model.trace(inputs):
        _ = model.logits
    assert hook_count(module) == 0


@pytest.mark.parametrize("name", WHOLE)
def test_a_sweep_gives_what_a_loop_of_traces_gives(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)

    def without(block, position):
        model.layers[block].output[:, position] = 0
        return reference.final(model.output).value[:, -1]

    points = [(block, position) for block in range(2) for position in (1, 3, 4)]
    expected = []
    for point in points:
        with model.trace(inputs):
            expected.append(without(*point))
    for found, one in zip(model.sweep(inputs, without, points), expected, strict=True):
        assert torch.allclose(found, one, atol=1e-4)
    assert hook_count(module) == 0


def test_a_generation_that_a_sweeps_function_returns_is_refused():
    module, inputs = models.build("llama")
    model = LanguageModel(module)

    def late(block):
        model.layers[block].output[:, -1] = 0
        return [model.generate(inputs, max_new_tokens=2)]

    with pytest.raises(WrongValueError, match="returned a generation"):
        model.sweep(inputs, late, range(2))
    assert hook_count(module) == 0


@pytest.mark.parametrize("what", ["trace", "generator", "map", "coroutine"])
def test_anything_else_that_a_sweeps_function_leaves_for_later_is_refused(what):
    module, inputs = models.build("llama")
    model = LanguageModel(module)

    def generator():
        yield model.logits

    async def coroutine():
        return model.logits

    later = {
        "trace": lambda: model.trace(inputs),
        "generator": generator,
        "map": lambda: map(str, [model.logits]),
        "coroutine": coroutine,
    }[what]

    def change(block):
        model.layers[block].output[:, -1] = 0
        return {"late": [later()]}

    with pytest.raises(WrongValueError, match=f"returned a {what}, which has not run"):
        model.sweep(inputs, change, range(2))
    assert hook_count(module) == 0
    with model.trace(inputs):
        _ = model.logits


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("when", ["before", "behind"])
def test_an_error_in_a_sweep_names_its_point_and_keeps_the_finished_ones(kind, when):
    module, inputs = models.build("llama")
    model = LanguageModel(module)

    def change(block, position):
        if when == "before" and (block, position) == (1, 3):
            raise kind("no")
        model.layers[block].output[:, position] = 0
        logits = model.logits[:, -1].value
        if (block, position) == (1, 3):
            raise kind("no")
        return logits

    points = [(0, 1), (0, 2), (1, 3), (1, 4)]
    with pytest.raises(kind) as caught:
        model.sweep(inputs, change, points, batch_size=2)
    assert caught.value.point == 2
    assert "at point 2, (1, 3)" in caught.value.__notes__[0]
    if when == "behind":
        assert set(caught.value.finished) == {0, 1}
    with model.trace(inputs):
        model.layers[0].output[:, 1] = 0
        expected = model.logits[:, -1]
    if 0 in caught.value.finished:
        assert torch.allclose(caught.value.finished[0], expected, atol=1e-4)
    assert hook_count(module) == 0


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("which", ["model", "blocks", "mlp"])
def test_a_module_that_was_compiled_in_place_is_read_and_written(name, which):
    module, inputs = models.build(name)
    plain = LanguageModel(module)
    with plain.trace(inputs):
        found = plain.layers[1].mlp.output
        plain.layers[1].mlp.output[:, -1] = 0
        expected = plain.logits
    model = LanguageModel(module)
    parts = {
        "model": [module],
        "blocks": [block.module for block in model.layers],
        "mlp": [block.mlp.module for block in model.layers],
    }[which]
    for part in parts:
        part.compile(backend="eager")
    compiled = [part._compiled_call_impl for part in parts]
    for _ in range(2):
        with model.trace(inputs):
            again = model.layers[1].mlp.output
            model.layers[1].mlp.output[:, -1] = 0
            logits = model.logits
        assert torch.equal(again, found)
        assert torch.equal(logits, expected)
        assert [part._compiled_call_impl for part in parts] == compiled
        assert hook_count(module) == 0


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3", "bart", "t5", "gemma2"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_with_checkpointing_are_those_without(name, reentrant):
    gradients = []
    for checkpointing in (False, True):
        module, inputs = models.build(name)
        module.train()
        for part in module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        module.config.attention_dropout = module.config.dropout = 0.0
        if checkpointing:
            options = {"use_reentrant": reentrant}
            module.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        on = [p for p in module.modules() if getattr(p, "gradient_checkpointing", False)]
        model = LanguageModel(module)
        torch.manual_seed(0)
        with model.trace(inputs, grad=True) as tracer:
            early = model.layers[0].output
            site = model.layers[1].attn.heads
            site[1][:] *= 0.5
            model.logits[:, -1].sum().backward()
            gradients.append(early.grad)
        told = any("checkpointing is off" in notice for notice in tracer.report.notices)
        assert told == checkpointing == bool(on)
        assert all(part.gradient_checkpointing for part in on)
    assert torch.allclose(*gradients, atol=1e-5)
    assert bool(gradients[0].any())
