"""Points that are generations give what transformers' `generate` gives with hand-written hooks."""

from __future__ import annotations

import contextlib

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.errors import BadInputError, GenerationEndedError, WrongValueError
from tests.hooks import hook_count, hooked_block

IDS = torch.tensor([[1, 2, 3, 4, 5]])
OTHER = torch.tensor([[9, 8, 7, 6, 5]])
LONGER = torch.tensor([[4, 3, 2, 1, 6, 7, 8]])
NEW = 6
POINTS = [(block, scale) for block in (0, 2) for scale in (0.0, 3.0, -8.0)]


@pytest.fixture(params=["llama", "gpt2", "mamba"])
def model(request, tiny):
    made = LanguageModel(tiny(request.param))
    yield made
    assert hook_count(made.module) == 0


def direction(model):
    return torch.randn(model.module.config.hidden_size, generator=torch.Generator().manual_seed(1))


def steered(model):
    """At each step the last token of a block's output is moved; how often that was."""
    way = direction(model)

    def change(block, scale, tracer):
        count = 0
        for _ in tracer.steps:
            model.layers[block].output[:, -1] += scale * way
            count += 1
        return tracer.result, count

    return change


def by_hooks(model, ids, block, scale, **options):
    """The same by a hook, and one call of `generate` for each point."""
    way = direction(model)

    def move(hidden):
        hidden = hidden.clone()
        hidden[:, -1] += scale * way
        return hidden

    options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, **options}
    with torch.no_grad(), hooked_block(model.layers[block].module, move):
        return model.module.generate(ids, attention_mask=torch.ones_like(ids), **options)


def ends_at(model, monkeypatch):
    """An end of the text that some points come to, and others not, or later."""
    texts = [by_hooks(model, IDS, *point, eos_token_id=None)[0, 5:].tolist() for point in POINTS]
    for token in dict.fromkeys(token for text in texts for token in text):
        lengths = {text.index(token) if token in text else NEW for text in texts}
        if len(lengths) > 1 and lengths != {NEW}:
            monkeypatch.setattr(model.module.generation_config, "eos_token_id", token)
            return token
    pytest.skip("all texts are alike")


@pytest.mark.parametrize("batch", [None, 4, 1])
def test_texts_are_those_of_hooks(model, batch):
    found = model.sweep(
        IDS, steered(model), POINTS, new_tokens=NEW, batch_size=batch, progress=False
    )
    expected = [by_hooks(model, IDS, *point) for point in POINTS]
    assert len({tuple(each[0].tolist()) for each in expected}) > 1
    for (ids, count), wanted in zip(found, expected, strict=True):
        assert torch.equal(ids, wanted) and count == NEW


def test_rows_share_forwards(model):
    ran = []
    handle = model.module.register_forward_pre_hook(lambda m, args: ran.append(1))
    model.sweep(IDS, steered(model), POINTS, new_tokens=NEW, progress=False)
    handle.remove()
    assert len(ran) == NEW  # and not as many for each point


def test_a_text_that_ends_ends_its_own_steps_alone(model, monkeypatch):
    token = ends_at(model, monkeypatch)
    found = model.sweep(IDS, steered(model), POINTS, new_tokens=NEW, progress=False)
    for point, (ids, count) in zip(POINTS, found, strict=True):
        wanted = by_hooks(model, IDS, *point, eos_token_id=token)
        assert torch.equal(ids, wanted) and count == wanted.shape[1] - 5
    assert len({count for _, count in found}) > 1


def test_what_is_read_behind_the_end_of_a_text_is_an_error(model, monkeypatch):
    ends_at(model, monkeypatch)

    def last(block, scale, tracer):
        for _ in tracer.steps:
            model.layers[block].output[:, -1] += scale * direction(model)
        tracer.next(NEW - 1)
        return model.layers[0].output.shape

    found = model.sweep(IDS, last, POINTS, new_tokens=NEW, keep_going=True, progress=False)
    assert any(isinstance(each, GenerationEndedError) for each in found)


def test_several_prompts_and_references_that_are_only_read(model):
    def patch(text, block, tracer, clean):
        for _ in tracer.steps:
            model.layers[block].output[:, -1] = clean.layers[block].output[:, -1]
        return tracer.result

    prompts, points = [IDS, LONGER], [(0, 1), (1, 1), (0, 2), (1, 0)]
    found = model.sweep(
        prompts, patch, points, prompt_of=[which for which, _ in points], new_tokens=3,
        references={"clean": OTHER}, progress=False,
    )  # fmt: skip
    for (which, block), ids in zip(points, found, strict=True):
        kept = []
        with torch.no_grad(), hooked_block(model.layers[block].module, kept.append):
            model.module(OTHER, use_cache=False)
        there = kept[0].clone()

        def put(hidden, there=there):
            hidden = hidden.clone()
            hidden[:, -1] = there[:, -1]
            return hidden

        with torch.no_grad(), hooked_block(model.layers[block].module, put):
            wanted = model.module.generate(
                prompts[which], attention_mask=torch.ones_like(prompts[which]),
                max_new_tokens=3, do_sample=False, pad_token_id=0,
            )  # fmt: skip
        assert torch.equal(ids, wanted)


def test_a_reference_is_not_written(model):
    def wrong(block, tracer, clean):
        clean.layers[block].output[:] = 0

    with pytest.raises(WrongValueError, match="of a prompt that the sweep only reads"):
        model.sweep(
            IDS, wrong, [0], new_tokens=2, references={"clean": OTHER}, progress=False
        )  # fmt: skip


def test_writes_are_left_out_of_the_baseline(model):
    for batch in (None, 1):
        found = model.sweep(
            IDS, steered(model), POINTS, new_tokens=NEW, writes=False, batch_size=batch,
            progress=False,
        )  # fmt: skip
        plain = by_hooks(model, IDS, 0, 0.0)
        assert all(torch.equal(ids, plain) for ids, _ in found)


def test_a_point_that_looks_back_is_run_alone(model):
    def twice(block, scale, tracer):
        for _ in tracer.steps:
            model.layers[2].output  # noqa: B018
            model.layers[0].output  # noqa: B018
            break
        return tracer.result

    found = model.sweep(IDS, twice, POINTS[:2], new_tokens=NEW, progress=False)
    plain = by_hooks(model, IDS, 0, 0.0)
    assert all(torch.equal(ids, plain) for ids in found)


def test_sampled_texts_are_those_of_each_point_alone(model):
    options = {"do_sample": True, "temperature": 2.0, "top_k": 0}
    torch.manual_seed(3)
    found = model.sweep(IDS, steered(model), POINTS, new_tokens=NEW, progress=False, **options)
    for point, (ids, _) in zip(POINTS, found, strict=True):
        torch.manual_seed(3)
        assert torch.equal(ids, by_hooks(model, IDS, *point, **options))


def test_beams_are_those_of_each_point_alone(tiny):
    model = LanguageModel(tiny("llama"))
    found = model.sweep(
        IDS, steered(model), POINTS[:3], new_tokens=3, num_beams=2, progress=False
    )  # fmt: skip
    for point, (ids, _) in zip(POINTS, found, strict=False):
        assert torch.equal(ids, by_hooks(model, IDS, *point, num_beams=2, max_new_tokens=3))


def test_edits_in_force_are_carried_out(tiny):
    model = LanguageModel(tiny("llama"))
    with model.edit("halve"):
        model.layers[1].output[:] *= 0.5
    found = model.sweep(IDS, steered(model), POINTS[:2], new_tokens=3, progress=False)
    for point, (ids, _) in zip(POINTS, found, strict=False):
        with hooked_block(model.layers[1].module, lambda hidden: hidden * 0.5):
            assert torch.equal(ids, by_hooks(model, IDS, *point, max_new_tokens=3))


@pytest.mark.parametrize("keep_going", [True, False])
def test_an_error_is_of_its_point(model, keep_going):
    def fail(block, tracer):
        for step in tracer.steps:
            model.layers[block].output[:, -1] *= 1
            if block == 1 and step == 2:
                raise ValueError("no")
        return tracer.result

    def run():
        return model.sweep(
            IDS, fail, range(3), new_tokens=4, batch_size=2, keep_going=keep_going, progress=False
        )

    if keep_going:
        plain = by_hooks(model, IDS, 0, 0.0, max_new_tokens=4)
        first, second, third = run()
        assert isinstance(second, ValueError)
        assert torch.equal(first, plain) and torch.equal(third, plain)
        return
    with pytest.raises(ValueError, match="no") as raised:
        run()
    assert raised.value.point == 1 and raised.value.point_name == "(1)"


def test_an_interrupt_keeps_the_batches_before(model):
    def stop(block, tracer):
        if block == 2:
            raise KeyboardInterrupt
        return tracer.result

    with pytest.raises(KeyboardInterrupt) as raised:
        model.sweep(IDS, stop, range(3), new_tokens=2, batch_size=2, progress=False)
    assert sorted(raised.value.finished) == [0, 1]


def test_what_cannot_be_is_said(model):
    with pytest.raises(BadInputError, match="no gradients"):
        model.sweep(IDS, steered(model), POINTS, new_tokens=2, grad=True, progress=False)
    with pytest.raises(BadInputError, match="nothing to generate"):
        model.sweep(IDS, steered(model), POINTS, new_tokens=0, progress=False)


def test_nothing_of_a_sweep_is_left(model):
    with contextlib.suppress(ValueError):
        model.sweep(IDS, lambda k, tracer: 1 / 0 if k else 0, [0, 1], new_tokens=2, progress=False,
                    keep_going=True)  # fmt: skip
    with model.trace(IDS):
        again = model.layers[0].output.clone()
    with torch.no_grad():
        kept = []
        with hooked_block(model.layers[0].module, kept.append):
            model.module(IDS, use_cache=False)
    assert torch.allclose(again.value if hasattr(again, "value") else again, kept[0], atol=1e-5)
