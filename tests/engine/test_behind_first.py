"""Edits of all tokens but each row's first: under padding, with and without a cache, in sweeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.engine.editing.behind_first import BEHIND_FIRST
from nnsight_magic.errors import EditError
from tests import tiny
from tests.architectures import models

TOKENS = tiny.tokenizer()
SHORT, LONG = "Hello world", "The Eiffel Tower is in the city of"
DECODERS = ["llama", "gpt2", "gpt_neox", "mixtral", "mamba", "gemma2", "opt", "bloom", "qwen2"]


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel(tiny.build("llama"), TOKENS)


def vector(seed: int = 0, size: int = tiny.HIDDEN) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def hooked(block: Any, added: torch.Tensor, first: int = 1) -> Any:
    """A hand-written hook that adds to all tokens of a single row from `first` on, and to each
    that a cache hands over alone."""
    seen = {"tokens": 0}

    def hook(_module: Any, _args: Any, output: Any) -> Any:
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        start = max(0, first - seen["tokens"])
        seen["tokens"] += hidden.shape[1]
        hidden[:, start:] += added
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    return block.register_forward_hook(hook)


@pytest.mark.parametrize("name", [each for each in DECODERS if each in models.CASES])
def test_each_row_of_a_batch_is_what_a_hook_gives_for_it_alone(name: str) -> None:
    module, _ = models.build(name)
    model = LanguageModel(module, TOKENS)
    added = vector(size=model.hidden_size)
    model.edit("steer", model.layers[1], at=BEHIND_FIRST, add=added)
    rows = [[3, 4, 5], [6, 7, 8, 9, 10, 11, 12]]
    ids = torch.tensor([[0] * 4 + rows[0], rows[1]])
    mask = torch.tensor([[0] * 4 + [1] * 3, [1] * 7])
    given = {"input_ids": ids, "attention_mask": mask}
    if name == "gpt2":  # which counts positions from the first column, padding or not
        given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    with model.trace(given):
        both = model.logits[:, -1].save()
    for row, own in enumerate(rows):
        ids = torch.tensor([own])
        handle = hooked(model.layers[1].module, added)
        with torch.no_grad():
            alone = module(ids).logits[0, -1]
        handle.remove()
        torch.testing.assert_close(both[row], alone, atol=3e-4, rtol=3e-4)
        with torch.no_grad():
            plain = module(ids).logits[0, -1]
        assert (plain - alone).abs().max() > 1e-2  # else nothing was tested


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("text", [SHORT, LONG, [3]])
def test_a_generation_has_it_at_each_new_token(
    model: LanguageModel, cache: bool, text: Any
) -> None:
    added = 3 * vector()
    ids = (
        torch.tensor([text])
        if isinstance(text, list)
        else TOKENS(text, return_tensors="pt").input_ids
    )
    with torch.no_grad():
        plain = model.module.generate(ids, max_new_tokens=8, do_sample=False)
        handle = hooked(model.layers[1].module, added)  # with a cache: each token comes by once
        wanted = model.module.generate(ids, max_new_tokens=8, do_sample=False, use_cache=True)
        handle.remove()
    model.edit("steer", model.layers[1], at=BEHIND_FIRST, add=added)
    found = model.generate(ids, max_new_tokens=8, do_sample=False, use_cache=cache)
    assert found.sequences.tolist() == wanted.tolist()
    assert found.sequences.tolist() != plain.tolist()


def test_a_batch_of_prompts_generates_what_each_generates_alone(model: LanguageModel) -> None:
    model.edit("steer", model.layers[1], at=BEHIND_FIRST, add=3 * vector())
    both = model.generate([SHORT, LONG], max_new_tokens=6, do_sample=False).sequences
    for row, text in enumerate((SHORT, LONG)):
        alone = model.generate(text, max_new_tokens=6, do_sample=False).sequences
        assert both[row, -6:].tolist() == alone[0, -6:].tolist()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_first_tokens_are_left_as_they_are(model: LanguageModel, side: str) -> None:
    ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    if side == "left":
        ids[1], mask[1] = torch.tensor([0, 8, 9]), torch.tensor([0, 1, 1])
    given = {"input_ids": ids, "attention_mask": mask}
    with model.trace(given):
        plain = model.layers[1].output.save()
    model.edit("steer", model.layers[1], at=BEHIND_FIRST, add=1)
    with model.trace(given):
        hidden = model.layers[1].output.save()
    added = (hidden.value - plain.value).mean(-1)
    row = [0, 0, 1] if side == "left" else [0, 1, 0]
    torch.testing.assert_close(added, torch.tensor([[0.0, 1, 1], row]), atol=1e-4, rtol=0)


def test_a_filled_cache_moves_no_first_token(model: LanguageModel) -> None:
    """What is handed over behind a cache has no first token."""
    ids = TOKENS(LONG, return_tensors="pt").input_ids
    with torch.no_grad():
        cache = model.module(ids[:, :4], use_cache=True).past_key_values
    model.edit("steer", model.layers[2], at=BEHIND_FIRST, set=0)
    with model.trace(input_ids=ids[:, 4:], past_key_values=cache):
        hidden = model.layers[2].output.save()
    assert bool((hidden == 0).all())


def test_a_sweep_and_invokes_have_it_in_each_run(model: LanguageModel) -> None:
    model.edit("steer", model.layers[1], at=BEHIND_FIRST, add=vector())

    def written(layer: int) -> torch.Tensor:
        model.layers[layer].mlp.output[:, -1] = 0
        return model.logits[0, -1]

    swept = model.sweep(LONG, written, [0, 1, 2])
    for layer in range(3):
        with model.trace(LONG):
            model.layers[layer].mlp.output[:, -1] = 0
            alone = model.logits[0, -1].save()
        torch.testing.assert_close(swept[layer], alone.value, atol=2e-4, rtol=2e-4)
    with model.trace() as tracer:
        with tracer.invoke(SHORT):
            one = model.logits[0, -1].save()
        with tracer.invoke(LONG):
            two = model.logits[0, -1].save()
    for text, found in ((SHORT, one), (LONG, two)):
        with model.trace(text):
            alone = model.logits[0, -1].save()
        torch.testing.assert_close(found.value, alone.value, atol=2e-4, rtol=2e-4)


def test_a_block_writes_it_and_files_and_copies_keep_it(
    model: LanguageModel, tmp_path: Any
) -> None:
    with model.edit("steer"):
        model.layers[1].output[BEHIND_FIRST] += vector()
    assert "layers.1.output[BEHIND_FIRST] += tensor" in str(model.edits["steer"])
    with model.trace(LONG):
        wanted = model.logits.save()
    model.edits.save(tmp_path / "edits.safetensors")
    model.clear_edits()
    model.edits.load(tmp_path / "edits.safetensors")
    with model.trace(LONG):
        again = model.logits.save()
    assert torch.equal(again.value, wanted.value)
    model.edits["steer"].enabled = False
    with model.trace(LONG):
        off = model.logits.save()
    with torch.no_grad():
        plain = model.module(**TOKENS(LONG, return_tensors="pt")).logits
    torch.testing.assert_close(off.value, plain)


def test_a_value_without_tokens_is_refused_in_words(model: LanguageModel) -> None:
    with model.edit("odd"):
        model.layers[1].mlp.down_proj.output[BEHIND_FIRST] += torch.zeros(3)
    with pytest.raises(EditError, match="does not fit what stands there"), model.trace(LONG):
        model.logits.save()
