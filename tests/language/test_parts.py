"""Attention's steps and a norm's scale in cells: read, written, refused, completed."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.errors import CellError
from nnsight_magic.language.complete import complete
from tests.language.test_run import CLEAN, CORRUPT, PROMPT, Notebook

STEPS = ("q", "k", "v", "q_rot", "k_rot", "scores", "pattern", "z", "result")


@pytest.fixture
def notebook(model):
    return Notebook(model)


def test_each_step_is_read_and_its_name_is_where_it_comes_from(notebook):
    notebook.trace("\n".join(f"{name} = layers[1].attn.{name}" for name in STEPS))
    touched = [touch.where for touch in notebook.outcome.report.touches]
    assert touched == [f"layers[1].attn.{name}" for name in STEPS]
    assert all(notebook.namespace[name].ndim == 4 for name in STEPS)


def test_a_query_is_written_by_token_and_head(notebook, model):
    found = notebook.trace("layers[1].attn.q[:, 4, 2] = 0\na = logits")
    handle = model.layers[1].attn.q_proj.module.register_forward_hook(_without_query)
    with torch.no_grad():
        expected = model.module(**model.tokenizer(PROMPT, return_tensors="pt")).logits
    handle.remove()
    assert torch.equal(found["a"], expected)
    touch = notebook.outcome.report.touches[0]
    assert (touch.where, touch.wrote) == ("layers[1].attn.q", True)


def _without_query(module, args, output):
    output = output.clone()
    output.view(*output.shape[:2], 4, -1)[:, 4, 2] = 0
    return output


@pytest.mark.parametrize("name", STEPS)
def test_each_step_of_a_prompt_is_its_own(notebook, model, name):
    prompts = [CLEAN, CORRUPT + " and more"]
    source = f"a = clean.layers[1].attn.{name}\nb = corrupt.layers[1].attn.{name}"
    found = notebook.trace(source, prompts, ("clean", "corrupt"))
    for each, prompt in zip("ab", prompts, strict=True):
        with model.trace(prompt):
            expected = getattr(model.layers[1].attn, name)
        assert found[each].shape == expected.shape
        seen = expected > -1e9 if name == "scores" else torch.ones_like(expected, dtype=bool)
        assert torch.allclose(found[each][seen], expected[seen], atol=1e-4)


@pytest.mark.parametrize("write", ["q[:, :, 2] = 0", "k[:, 2] = 0", "heads[1].result = 0"])
def test_a_step_of_one_prompt_is_written_for_it_alone(notebook, model, write):
    source = f"corrupt.layers[1].attn.{write}\na = clean.logits\nb = corrupt.logits"
    found = notebook.trace(source, [CLEAN, CORRUPT], ("clean", "corrupt"))
    with model.trace(CLEAN):
        assert torch.allclose(found["a"], model.logits, atol=1e-4)
    alone = Notebook(model).trace(f"layers[1].attn.{write}\nc = logits", CORRUPT)
    assert torch.allclose(found["b"], alone["c"], atol=1e-4)


def test_what_a_module_has_not_is_told_on_its_line_before_anything_runs(notebook, tiny):
    for name in ("q", "z", "scores", "q_rot", "result"):
        with pytest.raises(CellError, match=r"(?s)line 2.*no attention module") as error:
            notebook.trace(f"h = layers[0].mlp.{name}")
        assert notebook.outcome is None
        assert "^" in str(error.value)
    with pytest.raises(CellError, match="no norm of tokens"):
        notebook.trace("h = layers[0].attn.scale")
    gpt2 = Notebook(LanguageModel(tiny("gpt2"), notebook.model.tokenizer))
    with pytest.raises(CellError, match=r"has no rotary embedding.*layers\[0\].attn.q"):
        gpt2.trace("h = layers[0].attn.q_rot")
    mamba = Notebook(LanguageModel(tiny("mamba"), notebook.model.tokenizer))
    with pytest.raises(CellError, match="has no 'attn'"):
        mamba.trace("h = layers[0].attn.q")


def test_the_scale_of_the_last_norm_and_of_a_block_s(notebook, model):
    found = notebook.trace("a = layers[0].input_layernorm.scale\nnorm.scale *= 2\nb = logits")
    with model.trace(PROMPT):
        given = model.layers[0].input
        model.norm.output *= 2
        assert torch.allclose(found["b"], model.logits, atol=1e-4)
    expected = (given.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    assert torch.allclose(found["a"], expected, rtol=1e-4)


def test_steps_of_a_generation_are_collected(notebook):
    found = notebook.generate(
        "for step in steps:\n    q = layers[1].attn.q[:, -1]\n    k = layers[1].attn.k_rot", new=3
    )
    assert found["q"].shape[0] == 3
    tokens = [each.shape[1] for each in found["k"]]
    assert tokens == [tokens[0], tokens[0] + 1, tokens[0] + 2]  # those of all tokens so far


def test_a_generation_is_changed_by_a_key_that_is_written_at_its_step(notebook, model):
    found = notebook.generate(
        "for step in steps:\n"
        "    if step.index == 0:\n"
        "        layers[1].attn.v[:, 2] = 0\n"
        "    s = logits[:, -1]",
        new=3,
    )
    handle = model.layers[1].attn.v_proj.module.register_forward_hook(_without_value)
    ids = model.tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        out = model.module.generate(
            ids, max_new_tokens=3, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
    handle.remove()
    assert torch.allclose(found["s"], torch.stack(out.logits), atol=1e-5)


def _without_value(module, args, output):
    if output.shape[1] == 1:
        return output
    output = output.clone()
    output[:, 2] = 0
    return output


def test_completion_offers_what_a_module_has(model, tiny):
    def offered(path, of=model):
        found = complete(f"x = {path}.", of)
        return {each.text for each in found.candidates}

    assert {*STEPS, "heads"} <= offered("layers[0].attn")
    assert not {"q", "z", "scale", "scores"} & offered("layers[0].mlp")
    assert "scale" in offered("norm")
    gpt2 = LanguageModel(tiny("gpt2"), model.tokenizer)
    assert "q" in offered("layers[0].attn", gpt2)
    assert "q_rot" not in offered("layers[0].attn", gpt2)
