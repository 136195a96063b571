"""Models that let a model inside write their text: its forwards are the steps.

What is right is what the models' own `generate` gives, with hooks of the test's.
"""

from __future__ import annotations

import copy

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.errors import BadInputError
from tests import composed, tiny

NEW = 4
OPTIONS = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False}


@pytest.fixture(params=composed.CASES)
def case(request):
    make, block = composed.CASES[request.param]
    module, given = make()
    return module, given, block


def plain(module, given, **options):
    """A run of the model's own; a copy of what it is given, since some of them change it."""
    with torch.no_grad():
        return module.generate(**copy.deepcopy(given), **{**OPTIONS, **options})


def hidden(value):
    return value if isinstance(value, torch.Tensor) else value[0]


def each_step(module, path, change):
    """A hook on a block that gets the number of the step."""
    count = iter(range(100))

    def hook(block, args, output):
        new = change(next(count), hidden(output))
        if new is None or isinstance(output, torch.Tensor):
            return new
        return (new, *output[1:])

    return module.get_submodule(path).register_forward_hook(hook)


def as_it_was(module):
    hooks = (each._forward_hooks or each._forward_pre_hooks for each in module.modules())
    names = ("prepare_inputs_for_generation", "forward")
    own = (
        getattr(each.__dict__.get(name), "stands_for", as_it_was)
        for each in module.modules()
        for name in names
    )
    return not any(hooks) and all(found is as_it_was for found in own)


def test_every_step_has_its_values_and_tokens_and_the_text_is_the_models_own(case):
    module, given, block = case
    states = []
    hook = each_step(module, block, lambda step, h: states.append(h.clone()))
    whole = plain(module, given)
    hook.remove()
    assert len(states) == NEW
    model = LanguageModel(module, tiny.tokenizer())
    assert torch.equal(model.generate(**given, **OPTIONS).sequences, whole)
    seen, tokens, best = [], [], []
    with model.generate(**given, **OPTIONS) as tracer:
        for step in tracer.steps:
            seen.append(hidden(model[block].output).value)
            tokens.append(step.tokens)
            best.append(model.logits[:, -1].argmax(-1))
    assert torch.equal(tracer.result, whole)
    for mine, theirs in zip(seen, states, strict=True):
        torch.testing.assert_close(mine, theirs)
    before = whole.shape[1] - NEW
    for step, ids in enumerate(tokens):
        assert torch.equal(ids, whole[:, : before + step])
    assert torch.equal(torch.stack(best, 1), whole[:, before:])
    assert as_it_was(module)


def test_steps_are_gone_back_to(case):
    module, given, block = case
    states = []
    hook = each_step(module, block, lambda step, h: states.append(h.clone()))
    whole = plain(module, given)
    hook.remove()
    model = LanguageModel(module, tiny.tokenizer())
    with model.generate(**given, **OPTIONS) as tracer:
        for index in (2, 0, 1):
            for step in tracer.iter[index]:
                torch.testing.assert_close(hidden(model[block].output).value, states[index])
                assert torch.equal(step.tokens, whole[:, : whole.shape[1] - NEW + index])
    assert torch.equal(tracer.result, whole)


def test_a_write_at_one_step_and_an_edit_at_all_do_what_a_hook_does(case):
    module, given, block = case
    model = LanguageModel(module, tiny.tokenizer())
    scores = []

    def kept(result):
        scores.append(torch.stack(result.scores))
        return result.sequences

    extra = {"return_dict_in_generate": True, "output_scores": True}
    hook = each_step(module, block, lambda step, h: 0 * h + 1 if step == 1 else None)
    once = kept(plain(module, given, **extra))
    hook.remove()
    hook = each_step(module, block, lambda step, h: 3 * h)
    always = kept(plain(module, given, **extra))
    hook.remove()
    clean = kept(plain(module, given, **extra))
    assert not torch.equal(scores[0], scores[2])
    assert not torch.equal(scores[1], scores[2])
    with model.generate(**given, **OPTIONS, **extra) as tracer:
        for step in tracer.steps:
            if step == 1:
                write_one(model[block])
    assert torch.equal(tracer.result["sequences"], once)
    torch.testing.assert_close(torch.stack([*tracer.result["scores"].value]), scores[0])
    with model.edit("triple"):
        triple(model[block])
    result = model.generate(**given, **OPTIONS, **extra).sequences
    assert torch.equal(result.sequences, always)
    torch.testing.assert_close(torch.stack(result.scores), scores[1])
    model.edits.clear()
    assert torch.equal(model.generate(**given, **OPTIONS).sequences, clean)
    assert as_it_was(module)


def write_one(handle):
    if isinstance(handle.output, torch.Tensor):
        handle.output[:] = 1
    else:
        handle.output[0][:] = 1


def triple(handle):
    if isinstance(handle.output, torch.Tensor):
        handle.output *= 3
    else:
        handle.output[0] *= 3


@pytest.mark.parametrize("make", [composed.compiled_forward, composed.compiled_blocks])
def test_a_forward_that_is_compiled_is_looked_into_and_given_back(make):
    module, given = make()
    compiled = {each: each.__dict__.get("forward") for each in module.modules()}
    states = []
    hook = each_step(module, "model.layers.1", lambda step, h: states.append(h.clone()))
    with torch.no_grad():
        logits = module(**given).logits
    hook.remove()
    model = LanguageModel(module, tiny.tokenizer())
    for _ in range(2):
        with model.trace(**given):
            state, end = model.layers[1].output, model.logits
        torch.testing.assert_close(state.value, states[0])
        torch.testing.assert_close(end.value, logits)
        with model.trace(**given):
            model.layers[1].skip(model.layers[0].output)
            skipped = model.logits
        assert not torch.equal(skipped.value, logits)
        assert all(each.__dict__.get("forward") is own for each, own in compiled.items())


class Elsewhere(composed.Talking):
    """Whose text comes from something that is no module of its own."""

    def generate(self, input_ids, **kwargs):
        return torch.cat([input_ids, input_ids[:, :1]], 1)


def test_a_generation_that_is_stopped_leaves_nothing(case):
    module, given, block = case
    model = LanguageModel(module, tiny.tokenizer())
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), model.generate(**given, **OPTIONS) as tracer:
            for _ in tracer.steps:
                model[block].output  # noqa: B018
                raise error
        assert as_it_was(module)


def test_a_generation_without_steps_says_so():
    model = LanguageModel(Elsewhere(), tiny.tokenizer())
    with pytest.raises(BadInputError, match="No step of this generation was seen"):  # noqa: SIM117
        with model.generate("The cat sat on", max_new_tokens=2) as tracer:
            for _ in tracer.steps:
                pass
