"""Models whose weights torchao has quantised: everything is as in plain transformers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from nnsight_magic import LanguageModel, analyses
from tests import tiny

# `make test` runs these with torchao on the path, where nothing else meets it.
quantization = pytest.importorskip("torchao.quantization")
CONFIGS = [
    "Int8WeightOnlyConfig",
    "Int8DynamicActivationInt8WeightConfig",
    "Float8WeightOnlyConfig",
]
IDS = torch.tensor([[1, 2, 3, 4]])


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    module = tiny.build("llama")
    quantization.quantize_(module, getattr(quantization, request.param)())
    assert type(module.model.layers[1].mlp.up_proj.weight).__module__.startswith("torchao")
    return LanguageModel(module, tiny.tokenizer())


def plain(model: Any, silenced: int | None = None) -> torch.Tensor:
    """The model's logits, by transformers and a hook alone."""
    module, handle = model.module, None
    if silenced is not None:
        mlp = module.model.layers[silenced].mlp
        handle = mlp.register_forward_hook(lambda *given: torch.zeros_like(given[-1]))
    with torch.no_grad():
        logits = module(IDS).logits
    if handle is not None:
        handle.remove()
    return logits


def traced(model: Any) -> tuple[bool, int]:
    """Whether a trace has the numbers of transformers, and how many blocks it ran."""
    with model.trace(IDS) as tracer:
        logits = model.logits.save()
    return torch.equal(logits, plain(model)), tracer.report.blocks_run


def test_it_is_traced_and_a_second_trace_runs_no_block_again(model: Any) -> None:
    assert traced(model) == (True, 3)
    assert traced(model) == (True, 0)


def test_codes_that_were_written_in_place_are_seen(model: Any) -> None:
    before = plain(model)
    assert traced(model)[0]
    model.module.model.layers[2].mlp.up_proj.weight.qdata.zero_()
    assert traced(model)[0]
    assert not torch.equal(plain(model), before)


def test_it_is_written_swept_and_edited(model: Any) -> None:
    def silence(layer: int) -> Any:
        model.layers[layer].mlp.output[:] = 0
        return model.logits

    expected = [plain(model, layer) for layer in range(3)]
    for found, by_hand in zip(model.sweep(IDS, silence, range(3)), expected, strict=True):
        torch.testing.assert_close(found, by_hand)
    with model.edit("silent"):
        model.layers[1].mlp.output[:] = 0
    with model.trace(IDS):
        edited = model.logits.save()
    torch.testing.assert_close(torch.Tensor(edited.value), expected[1])


def test_it_generates_is_copied_and_read_through_a_lens(model: Any) -> None:
    with model.generate(IDS, max_new_tokens=2) as tracer:
        ids = tracer.result.save()
    assert torch.equal(ids, model.module.generate(IDS, max_new_tokens=2, do_sample=False))
    assert torch.equal(plain(copy.deepcopy(model)), plain(model))
    last = analyses.lens(model, IDS, 7).logprob.values[-1]
    expected = plain(model)[0].log_softmax(-1)[:, 7].numpy()
    torch.testing.assert_close(torch.tensor(last), torch.tensor(expected), atol=1e-4, rtol=1e-4)
