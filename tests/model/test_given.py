"""What users give as a model: names, modules, and what other libraries wrap them in."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from torch import nn

from nnsight_magic import LanguageModel, Model
from nnsight_magic.errors import LoadError, ModelNotFound
from tests import tiny

PROMPT = "The cat sat on"


def test_a_pipeline_is_its_model_and_its_tokenizer():
    module = tiny.llama()
    pipeline = transformers.pipeline("text-generation", model=module, tokenizer=tiny.tokenizer())
    model = LanguageModel(pipeline)
    assert model.module is module
    with model.trace(PROMPT):
        logits = model.logits.save()
    ids = pipeline.tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(logits, module(ids).logits, atol=1e-6, rtol=1e-5)


def test_a_wrapped_model_is_the_module_inside():
    module = tiny.gpt2()
    first = LanguageModel(module, tiny.tokenizer())
    second = LanguageModel(first)
    assert second.module is module
    assert second.tokenizer is first.tokenizer
    assert Model(first).module is module
    own = tiny.tokenizer()
    assert LanguageModel(first, own).tokenizer is own


class Envoy:
    """As nnsight 0.8's: the module in `_module`, the tokenizer beside it."""

    __module__ = "nnsight.intervention.envoy"

    def __init__(self, module, tokenizer=None, repo_id=""):
        self._module, self.tokenizer, self.repo_id = module, tokenizer, repo_id


def test_a_model_of_nnsight_is_the_module_inside():
    module, tokenizer = tiny.gpt2(), tiny.tokenizer()
    model = LanguageModel(Envoy(module, tokenizer))
    assert model.module is module
    assert model.tokenizer is tokenizer


def test_a_model_of_nnsight_without_weights_is_refused():
    with torch.device("meta"):
        module = nn.Linear(2, 3)
    with pytest.raises(LoadError, match=r"give the name, 'gpt2'"):
        LanguageModel(Envoy(module, repo_id="gpt2"))


class Bridge(nn.Module):
    __module__ = "transformer_lens.model_bridge"
    cfg = type("Cfg", (), {"model_name": "gpt2"})()


def test_a_model_of_transformer_lens_says_what_to_give():
    with pytest.raises(LoadError, match=r"LanguageModel\('gpt2'\)"):
        LanguageModel(Bridge())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (tiny.llama().config, "from_config"),
        ({"weight": torch.ones(1)}, "load_state_dict"),
        (nn.Linear, r"Make one: Linear"),
        (None, "Give a name or folder"),
        (3, "Give a name or folder"),
        ([tiny.gpt2()], "Give a name or folder"),
        (torch.ones(3), "Give a name or folder"),
        (tiny.tokenizer(), "Give a name or folder"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("wrapper", [LanguageModel, Model])
def test_what_is_no_model_is_told_what_to_give(given, words, wrapper):
    with pytest.raises(LoadError, match=words):
        wrapper(given)


# ── adapters ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def adapter(tmp_path):
    """A folder with a model, one with an adapter of it, and PEFT's own model."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base, folder = tmp_path / "base", tmp_path / "adapter"
    tiny.llama().save_pretrained(base)
    tiny.tokenizer().save_pretrained(base)
    module = transformers.AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"], init_lora_weights=False
    )
    peft = get_peft_model(module, config)
    peft.save_pretrained(folder)
    return folder, peft.eval()


def test_an_adapters_folder_is_its_model_with_the_adapter_on_top(adapter):
    folder, peft = adapter
    model = LanguageModel(folder)
    before = [name for name, _ in model._root.named_modules()]
    assert not model.loaded
    with model.trace(PROMPT):
        logits = model.logits.save()
    ids = model.tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(logits, peft(ids).logits, atol=1e-6, rtol=1e-5)
        with peft.disable_adapter():
            assert not torch.allclose(logits, peft(ids).logits, atol=1e-3)
    assert before == [name for name, _ in model.module.named_modules()]
    with model.trace(PROMPT):
        low_rank = model.layers[0].attn.q_proj.lora_A.default.output.save()
    assert low_rank.shape[-1] == 8


def test_an_adapter_whose_model_is_not_there_names_both(adapter):
    folder, _ = adapter
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": "./no"}))
    with pytest.raises(ModelNotFound, match=r"adapter of './no', which is not to be had"):
        LanguageModel(folder)
    for damaged in ("", "[]", "{}", '{"base_model_name_or_path": null}'):
        file.write_text(damaged)
        with pytest.raises(ModelNotFound, match="does not say of which model"):
            LanguageModel(folder)
