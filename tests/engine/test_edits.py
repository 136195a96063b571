"""Edits that stay: recorded, carried out in every trace, switched, removed, stored."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

from nnsight_magic import LanguageModel
from nnsight_magic.errors import EditError
from tests.hooks import hooked, hooked_block

IDS = torch.tensor([[1, 2, 3, 4, 5]])
VECTOR = torch.linspace(-1, 1, 32)


@pytest.fixture(params=["gpt2", "llama"])
def hf(request, tiny):
    return tiny(request.param)


def forward(hf):
    with torch.no_grad():
        return hf(IDS, use_cache=False).logits


def logits(model):
    with model.trace(IDS):
        found = model.output.logits
    return found.value


def mlp(hf, index):
    blocks = hf.transformer.h if hasattr(hf, "transformer") else hf.model.layers
    return blocks[index].mlp


def block(hf, index):
    return (hf.transformer.h if hasattr(hf, "transformer") else hf.model.layers)[index]


def zeroed(out):
    out = out.clone()
    out[:, -1] = 0
    return out


def test_a_write_recorded_in_a_block_is_carried_out_in_every_later_trace(model, hf):
    with model.edit(inplace=True) as edited:
        model.layers[1].mlp.output[:, -1] = 0
    with hooked(mlp(hf, 1), zeroed):
        expected = forward(hf)
    for _ in range(3):
        assert torch.equal(logits(model), expected)
    edited.remove()
    assert torch.equal(logits(model), forward(hf))


def test_the_block_may_write_by_way_of_the_edit_itself(model, hf):
    with model.edit("steer") as edited:
        edited.layers[1].output[0][:, 1:] += VECTOR
        edited.layers[2].mlp.output *= 0.5
    with (
        hooked_block(block(hf, 1), lambda out: torch.cat([out[:, :1], out[:, 1:] + VECTOR], 1)),
        hooked(mlp(hf, 2), lambda out: out * 0.5),
    ):
        expected = forward(hf)
    assert torch.equal(logits(model), expected)


def test_subtraction_division_and_tuples_and_inputs(model, hf):
    with model.edit(inplace=True):
        model.layers[0].attn.output[0][:, 2] -= 1
        model.layers[1].mlp.input[:] /= 2
        model.layers[2].output = VECTOR
    with (
        hooked_block(block(hf, 2), lambda out: torch.zeros_like(out) + VECTOR),
    ):
        expected = forward(hf)
    assert torch.equal(logits(model), expected)
    with model.trace(IDS):
        attention = model.layers[0].attn.output[0]
        given = model.layers[1].mlp.input
    model.edits.clear()
    with model.trace(IDS):
        before = model.layers[0].attn.output[0]
        before[:, 2] -= 1
        plain = model.layers[1].mlp.input
    assert torch.equal(attention, before)
    assert torch.equal(given, plain / 2)


def test_one_write_without_a_block(model, hf):
    edit = model.edit("off", model.layers[1].mlp, at=(slice(None), -1), set=0)
    with hooked(mlp(hf, 1), zeroed):
        expected = forward(hf)
    assert torch.equal(logits(model), expected)
    assert model.edits["off"] is edit
    assert repr(model.edits).startswith("off: ")
    assert repr(model.edits).endswith("mlp.output[:, -1] = 0")


def test_an_edit_is_switched_off_and_on(model, hf):
    edit = model.edit("half", model.layers[0], scale=0.5)
    changed = logits(model)
    edit.enabled = False
    assert torch.equal(logits(model), forward(hf))
    edit.enabled = True
    assert torch.equal(logits(model), changed)
    assert not torch.equal(changed, forward(hf))


def test_what_is_remembered_from_before_an_edit_is_not_used_with_it(model, hf):
    for _ in range(2):
        with model.trace(IDS):
            model.layers[2].output.save()
    with model.edit("half") as edited:
        model.layers[0].output *= 0.5
    with hooked_block(block(hf, 0), lambda out: out * 0.5):
        expected = forward(hf)
    for _ in range(2):
        with model.trace(IDS) as tracer:
            model.layers[2].output.save()
            found = model.output.logits
        assert torch.equal(found, expected)
        assert tracer.report.blocks_skipped == 0
    edited.remove()
    assert torch.equal(logits(model), forward(hf))


def test_a_trace_reads_and_writes_on_top_of_an_edit(model, hf):
    model.edit("off", model.layers[1].mlp, set=0)
    with model.trace(IDS):
        later = model.layers[2].output
        seen = model.layers[1].mlp.output  # read by a second forward
    assert seen.abs().sum() == 0
    with model.trace(IDS):
        model.layers[1].mlp.output += 1
        found = model.layers[2].output
        changed = model.output.logits
    with hooked(mlp(hf, 1), torch.ones_like):
        expected = forward(hf)
    assert not torch.equal(found, later)
    assert torch.equal(changed, expected)


def test_the_report_says_which_edits_were_in_force(model):
    model.edit("first", model.layers[0], scale=2)
    model.edit("second", model.layers[1], scale=2).enabled = False
    with model.trace(IDS) as tracer:
        model.output.logits.save()
    assert tracer.report.notices == ["Edits in force: first."]


def test_an_edit_acts_at_every_step_of_a_generation(model, hf):
    def steered(out):
        return out + 2 * VECTOR

    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    with hooked_block(block(hf, 1), steered):
        expected = hf.generate(IDS, attention_mask=torch.ones_like(IDS), **options)
    model.edit("steer", model.layers[1], add=2 * VECTOR)
    assert torch.equal(model.generate(IDS, **options).sequences, expected)


def test_an_edit_acts_at_chosen_steps(model):
    model.edit("late", model.layers[1].mlp, set=0, steps=[1])
    sums = []
    with model.generate(IDS, max_new_tokens=3, do_sample=False) as tracer:
        for _ in tracer.steps:
            sums.append(float(model.layers[1].mlp.output.abs().sum()))  # noqa: PERF401
    assert [value == 0 for value in sums] == [False, True, False]


def test_edits_are_saved_and_loaded_without_pickle(model, hf, tmp_path):
    path = tmp_path / "edits.safetensors"
    model.edit("steer", model.layers[1], at=(slice(None), slice(1, None)), add=VECTOR, steps=[0, 1])
    with model.edit("off"):
        model.layers[2].mlp.output[..., [0, 3]] = 0
    model.edits["off"].enabled = False
    shown = repr(model.edits)
    model.edits.save(path)
    other = LanguageModel(hf)
    loaded = other.edits.load(path)
    assert [edit.name for edit in loaded] == ["steer", "off"]
    assert repr(other.edits) == shown
    other.edits["off"].enabled = model.edits["off"].enabled = True
    assert torch.equal(logits(other), logits(model))
    assert not torch.equal(logits(other), forward(hf))
    with safe_open(path, "pt") as file:
        assert len(json.loads(file.metadata()["edits"])) == 2


def test_edits_of_another_model_are_refused_when_they_are_loaded(tiny, tmp_path):
    gpt2, llama = LanguageModel(tiny("gpt2")), LanguageModel(tiny("llama"))
    gpt2.edit("off", gpt2.transformer.h[0], set=0)
    gpt2.edits.save(tmp_path / "edits.safetensors")
    with pytest.raises(EditError, match="no module of this model"):
        llama.edits.load(tmp_path / "edits.safetensors")
    assert len(llama.edits) == 0


def test_a_file_of_something_else_is_refused(model, tmp_path):
    from safetensors.torch import save_file

    save_file({"x": VECTOR}, tmp_path / "x.safetensors")
    with pytest.raises(EditError, match="holds no edits"):
        model.edits.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "use",
    [
        lambda h: h.mean(),
        lambda h: h * 0,
        lambda h: 1 - h[:, -1],
        lambda h: -h,
        lambda h: torch.relu(h),
        lambda h: torch.zeros(8) + h,
        lambda h: list(h),
        lambda h: 1 if h > 0 else 0,
    ],
)
def test_a_value_of_the_model_is_not_known_in_an_edit(model, use):
    with pytest.raises(EditError, match="has no value in an edit block"), model.edit():
        use(model.layers[0].output)
    assert len(model.edits) == 0
    assert not model._turn.locked()


@pytest.mark.parametrize(
    ("long", "short"),
    [
        (lambda h: h + VECTOR, lambda h: h.__iadd__(VECTOR)),
        (lambda h: VECTOR + h, lambda h: h.__iadd__(VECTOR)),
        (lambda h: h - 1, lambda h: h.__isub__(1)),
        (lambda h: 2 * h, lambda h: h.__imul__(2)),
        (lambda h: h / 4, lambda h: h.__itruediv__(4)),
    ],
)
def test_arithmetic_that_is_written_back_is_the_write(model, long, short):
    with model.edit("long", inplace=True):
        model.layers[1].mlp.output = long(model.layers[1].mlp.output)
    found = logits(model)
    model.edits.clear()
    with model.edit("short", inplace=True):
        model.layers[1].mlp.output = short(model.layers[1].mlp.output)
    assert torch.equal(found, logits(model))
    model.edits.clear()
    with model.edit("part", inplace=True):
        model.layers[1].mlp.output[:, -1] = long(model.layers[1].mlp.output[:, -1])
    assert not torch.equal(found, logits(model))


@pytest.mark.parametrize(
    "write",
    [
        lambda model, h: setattr(model.layers[0], "output", h * 2),
        lambda model, h: setattr(model.layers[1], "output", h * 2 + 1),
        lambda model, h: setattr(model.layers[1], "output", 1 - h),
        lambda model, h: h.__setitem__((slice(None), -1), h * 2),
        lambda model, h: setattr(model.layers[1], "output", h + model.layers[0].output),
    ],
)
def test_arithmetic_that_is_written_elsewhere_is_refused(model, write):
    with pytest.raises(EditError, match="has no value in an edit block"), model.edit():
        write(model, model.layers[1].output)
    assert len(model.edits) == 0


def test_an_edit_that_does_not_fit_says_which(model, hf):
    model.edit("wide", model.layers[0], add=torch.zeros(7))
    with pytest.raises(EditError, match=r"output \+= tensor \(7,\) does not fit"):
        logits(model)
    model.edits.clear()
    assert torch.equal(logits(model), forward(hf))


def test_an_unknown_edit_is_named(model):
    with pytest.raises(EditError, match="There is no edit 'x'"):
        model.edits["x"]


def test_outside_a_trace_the_model_is_as_it_was(model, hf):
    plain = forward(hf)
    model.edit("off", model.layers[0], set=0)
    assert torch.equal(forward(hf), plain)
    logits(model)
    assert torch.equal(forward(hf), plain)


def test_an_operation_is_refused(model):
    with pytest.raises(EditError, match="operation inside a module"), model.edit():
        model.layers[0].attn.pattern[:, 1] = 0
    assert not model.edits
    with pytest.raises(EditError, match="operation inside a module"), model.edit():
        model.layers[0].attn.ops.softmax.output = 0


@pytest.mark.parametrize("rank", [1, 2])
def test_a_mask_is_the_same_index_after_it_was_stored(model, tmp_path, rank):
    mask = torch.tensor([False, True, False, False, True])
    at = (0, mask) if rank == 1 else mask[None]
    with model.trace(IDS):
        model.layers[0].output[at] = 0
        expected = model.output.logits
    index = mask.clone() if rank == 1 else mask[None].clone()
    model.edit("masked", model.layers[0], at=(0, index) if rank == 1 else index, set=0.0)
    index[:] = True  # the edit has its own
    assert torch.equal(logits(model), expected)
    model.edits.save(tmp_path / "edits.safetensors")
    model.edits.clear()
    model.edits.load(tmp_path / "edits.safetensors")
    assert torch.equal(logits(model), expected)
