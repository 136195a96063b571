"""`output_hidden_states` and `output_attentions`: what is written stands in them, in every trace.

Since transformers 5 they are noted by hooks that the first such forward leaves on the model.
Before, what most models note is what a module's own forward gives: a hook's write, ours or any
other, is not in there, and a trace gives what the model gives.
"""

from __future__ import annotations

import importlib.util

import pytest
import torch

from nnsight_magic import LanguageModel
from tests import tiny
from tests.hooks import hook_count

NOTED_BY_HOOKS = importlib.util.find_spec("transformers.utils.output_capturing") is not None
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
ARCHITECTURES = ["gpt2", "llama", "gpt_neox", "mixtral", "t5", "bert"]


def inputs_of(architecture):
    return {"input_ids": IDS, **({"decoder_input_ids": IDS} if architecture == "t5" else {})}


def by_hook(module, value_of, run):
    """A plain forward with a hook of one's own, before those of transformers."""

    def act(module, args, out):
        if not isinstance(out, tuple):
            return value_of(out)
        return (value_of(out[0]), *out[1:])

    handle = module.register_forward_hook(act, prepend=True)
    try:
        with torch.no_grad():
            return run()
    finally:
        handle.remove()


def tensors_in(output, name):
    found = getattr(output, name, None)
    return found if found is not None else getattr(output, f"decoder_{name}")


def halved(value):
    return value * 0.5


@pytest.mark.parametrize(
    ("architecture", "place"),
    [
        (architecture, place)
        for architecture in ARCHITECTURES
        for place in ("output", "attn.output", "mlp.output")
        if (architecture, place) != ("bert", "mlp.output")  # it has no module for that
    ],
)
def test_what_is_written_is_in_the_hidden_states_of_every_trace(architecture, place):
    hf = tiny.build(architecture)
    hf.set_attn_implementation("eager")
    model, inputs = LanguageModel(hf), inputs_of(architecture)
    asked = {"output_hidden_states": True, "output_attentions": True}
    handle = model.layers[1]
    for part in place.split(".")[:-1]:
        handle = getattr(handle, part)
    expected = None
    for number in range(3):
        with model.trace(inputs, **asked):
            value = handle.output
            value = value if isinstance(value, torch.Tensor) else value[0]
            value *= 0.5
            result = model.output
            found = {n: tensors_in(result, n) for n in ("hidden_states", "attentions")}
        if number == 0:  # the hooks of transformers are there from now on
            expected = by_hook(handle.module, halved, lambda: hf(**inputs, **asked))
        for name, mine in found.items():
            theirs = tensors_in(expected, name)
            assert len(mine) == len(theirs)
            for one, other in zip(mine, theirs, strict=True):
                assert torch.equal(one, other), (number, name)
        assert torch.equal(result.logits, expected.logits)


def test_what_is_written_into_attentions_is_in_them():
    hf = tiny.build("llama")
    hf.set_attn_implementation("eager")
    model = LanguageModel(hf)
    for _ in range(3):
        with model.trace(IDS, output_attentions=True, output_hidden_states=True):
            model.layers[1].output = 0
            model.layers[2].attn.output[1] = 0.25
            result = model.output
        assert bool((result.attentions[2] == 0.25).all()) is NOTED_BY_HOOKS
        assert bool((result.hidden_states[2] == 0).all()) is NOTED_BY_HOOKS
        assert not bool((result.attentions[1] == 0.25).any())


def test_a_write_behind_a_forward_that_was_run_again_is_in_them():
    hf = tiny.build("llama")
    model = LanguageModel(hf)
    for _ in range(2):
        with model.trace(IDS, output_hidden_states=True):
            model.layers[0].mlp.output  # noqa: B018
            model.layers[0].attn.output  # noqa: B018
            model.layers[1].output = 0
            result = model.output
        assert bool((result.hidden_states[2] == 0).all()) is NOTED_BY_HOOKS


def test_a_generation_has_its_writes_in_the_hidden_states_of_every_step():
    hf = tiny.build("llama")
    model = LanguageModel(hf)
    options = {"max_new_tokens": 3, "do_sample": False, "return_dict_in_generate": True}
    for _ in range(2):
        with model.generate(IDS, output_hidden_states=True, **options) as tracer:
            for _step in tracer.steps:
                model.layers[1].output = 0
            result = tracer.result
        for states in result.hidden_states[:3]:
            assert bool((states[2] == 0).all()) is NOTED_BY_HOOKS
            assert not bool((states[1] == 0).all())


def test_the_hooks_on_the_model_stand_as_they_stood():
    hf = tiny.build("llama")
    model, block = LanguageModel(hf), hf.model.layers[1]
    before = block.register_forward_hook(lambda module, args, out: None)
    with torch.no_grad():
        hf(IDS, output_hidden_states=True)
    after = block.register_forward_hook(lambda module, args, out: None)
    hooks, count = [*block._forward_hooks.values()], hook_count(hf)
    for _ in range(2):
        with model.trace(IDS, output_hidden_states=True):
            hidden = model.layers[1].output
            again = model.layers[0].output
            result = model.output
        assert torch.equal(hidden, result.hidden_states[2])
        assert torch.equal(again, result.hidden_states[1])
        with pytest.raises(ZeroDivisionError), model.trace(IDS, output_hidden_states=True):
            model.layers[1].output / (1 // 0)
    assert [*block._forward_hooks.values()] == hooks
    assert hook_count(hf) == count
    before.remove()
    after.remove()
