"""Settings of the process that change numbers: every trace runs, and values are kept apart."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.engine.insides.torch_insides import _PRECISIONS

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
BACKENDS = torch.backends
PRECISIONS = [
    ("fp32_precision", BACKENDS),
    ("fp32_precision", BACKENDS.cuda.matmul),
    ("fp32_precision", BACKENDS.cudnn),
    ("fp32_precision", BACKENDS.mkldnn),
    ("fp32_precision", getattr(BACKENDS.mkldnn, "matmul", None)),
    ("fp32_precision", getattr(BACKENDS.cudnn, "rnn", None)),
]
SWITCHES = [
    ("allow_tf32", BACKENDS.cuda.matmul),
    ("allow_bf16_reduced_precision_reduction", BACKENDS.cuda.matmul),
    ("allow_tf32", BACKENDS.cudnn),
    ("deterministic", BACKENDS.cudnn),
    ("enabled", BACKENDS.mkldnn),
]


@pytest.fixture(autouse=True)
def precision_as_before():
    read = getattr(torch._C, "_get_fp32_precision_getter", None)
    before = {each: read(*each) for each in _PRECISIONS} if read is not None else {}
    yield
    for (backend, part), value in before.items():
        torch._C._set_fp32_precision_setter(backend, part, value)


def last(model):
    with model.trace(IDS) as tracer:
        hidden = model.layers[-1].output
    return hidden.value, tracer.report.blocks_skipped


def outcome_under(tiny, where, name, value):
    """What a trace gives and leaves out under a setting, and a plain forward beside it."""
    hf = tiny("llama")
    model, before = LanguageModel(hf), getattr(where, name)
    last(model)
    assert last(model)[1] == 3
    setattr(where, name, value)
    try:
        found, skipped = last(model)
        assert last(model)[1] == 3  # what was run under it is remembered too
        model.generate(IDS, max_new_tokens=2, do_sample=False).sequences  # noqa: B018
        with torch.no_grad():
            expected = hf(IDS, output_hidden_states=True).logits
        with model.trace(IDS):
            logits = model.logits
        assert torch.equal(logits.value, expected)
    finally:
        setattr(where, name, before)
    assert found.shape == (1, 6, 32)
    return skipped


@pytest.mark.parametrize("value", ["tf32", "bf16", "ieee"])
@pytest.mark.parametrize(("name", "where"), PRECISIONS)
def test_precision_in_the_new_spelling_raises_nowhere_and_is_part_of_the_key(
    tiny, name, where, value
):
    if not hasattr(where, name):  # before torch 2.9
        return
    try:
        setattr(where, name, value)
    except RuntimeError:  # not every backend has every precision
        return
    if getattr(where, name) != value:  # torch 2.9 warns then, and leaves it as it was
        return
    setattr(where, name, "none")  # whatever stood there: a change is looked for
    assert outcome_under(tiny, where, name, value) == 0


@pytest.mark.parametrize(("name", "where"), SWITCHES)
def test_a_switch_is_part_of_the_key(tiny, name, where):
    assert outcome_under(tiny, where, name, not getattr(where, name)) == 0


def test_another_default_dtype_is_part_of_the_key(tiny):
    model = LanguageModel(tiny("llama"))
    last(model)
    torch.set_default_dtype(torch.float64)
    try:
        assert last(model)[1] == 0
    finally:
        torch.set_default_dtype(torch.float32)
    assert last(model)[1] == 3
