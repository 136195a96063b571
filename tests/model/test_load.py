"""From a name to a model: folders, architectures, tokenizers, and what is said when it fails."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel
from nnsight_magic.errors import LoadError, ModelNotFound, NnsightWarning
from nnsight_magic.loading.load import open_source
from tests import tiny as tiny_models

IDS = torch.tensor([[1, 2, 3, 4]])

AUTO_CLASSES = {
    "gpt2": "AutoModelForCausalLM",
    "llama": "AutoModelForCausalLM",
    "gpt_neox": "AutoModelForCausalLM",
    "mixtral": "AutoModelForCausalLM",
    "mamba": "AutoModelForCausalLM",
    "t5": "AutoModelForSeq2SeqLM",
    "bert": "AutoModelForMaskedLM",
    "vit": "AutoModelForImageClassification",
}


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in module.named_parameters()}


@pytest.fixture
def offline(monkeypatch):
    """No hub, whatever the machine."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(params=AUTO_CLASSES)
def saved(request, tmp_path):
    """(architecture, model, the folder that it was saved in)"""
    model = tiny_models.build(request.param)
    model.save_pretrained(tmp_path / "model")
    return request.param, model, tmp_path / "model"


def test_the_class_is_the_one_that_the_configuration_names(saved):
    architecture, model, folder = saved
    source = open_source(folder)
    assert source.auto_class.__name__ == AUTO_CLASSES[architecture]
    assert type(source.weights()) is type(model)


def test_the_skeleton_has_the_names_and_shapes_of_the_model_and_no_weights(saved):
    _, model, folder = saved
    skeleton = open_source(folder).skeleton()
    assert type(skeleton) is type(model)
    assert shapes(skeleton) == shapes(model)
    assert {p.device.type for p in skeleton.parameters()} == {"meta"}
    assert not skeleton.training


def test_the_weights_are_those_that_were_saved(saved):
    _, model, folder = saved
    loaded = open_source(folder).weights()
    assert not loaded.training
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(w, expected[name]) for name, w in loaded.state_dict().items())


def test_without_a_named_architecture_a_model_that_can_speak_comes_first(tmp_path):
    tiny_models.build("gpt2").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert type(open_source(tmp_path).weights()).__name__ == "GPT2LMHeadModel"


def test_a_relative_path_and_a_subfolder_work(tiny_gpt2_folder, monkeypatch):
    monkeypatch.chdir(tiny_gpt2_folder.parent)
    assert open_source("tiny-gpt2").config.model_type == "gpt2"
    assert open_source("./tiny-gpt2").config.model_type == "gpt2"
    source = open_source(tiny_gpt2_folder.parent, subfolder="tiny-gpt2")
    assert source.weights().config.n_layer == source.skeleton().config.n_layer == 3


def test_weights_stay_in_the_dtype_they_were_saved_in_unless_asked(tmp_path, tiny):
    tiny("llama").to(torch.bfloat16).save_pretrained(tmp_path)
    source = open_source(tmp_path)
    assert source.weights().dtype is torch.bfloat16
    assert source.weights(dtype="float32").dtype is torch.float32
    assert source.weights(dtype=torch.float16).dtype is torch.float16


@pytest.mark.parametrize("device_map", [None, "cpu", "auto", {"": "cpu"}])
def test_every_form_of_device_map_is_taken(tiny_gpt2_folder, device_map):
    loaded = open_source(tiny_gpt2_folder).weights(device_map=device_map)
    assert {p.device.type for p in loaded.parameters()} <= {"cpu", "cuda"}


def test_an_attention_implementation_reaches_skeleton_and_model(tiny_gpt2_folder):
    source = open_source(tiny_gpt2_folder, attn_implementation="eager")
    assert source.skeleton().config._attn_implementation == "eager"
    assert source.weights().config._attn_implementation == "eager"


# Tokenizers


def test_a_causal_model_pads_on_the_left_with_a_token_that_it_has(tmp_path, tiny, tiny_tokenizer):
    tiny("gpt2").save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    config = {k: v for k, v in json.loads(file.read_text()).items() if k != "pad_token"}
    file.write_text(json.dumps({**config, "padding_side": "right"}))
    tokenizer = open_source(tmp_path).tokenizer
    assert tokenizer.pad_token == tokenizer.eos_token == "<|endoftext|>"
    batch = tokenizer(["The Eiffel Tower is", "The"], padding=True)
    assert batch["attention_mask"][1][0] == 0
    assert batch["attention_mask"][1][-1] == 1


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert", "vit"])
def test_a_model_without_a_tokenizer_has_none(architecture, tmp_path, tiny):
    tiny(architecture).save_pretrained(tmp_path)
    assert open_source(tmp_path).tokenizer is None


@pytest.mark.parametrize("use", ["trace", "tokenizer", "module"])
def test_a_folder_that_is_gone_is_named(tmp_path, tiny, use):
    folder = tmp_path / "mine"
    tiny("llama").save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    model = LanguageModel(str(folder))
    shutil.move(folder, tmp_path / "elsewhere")
    uses = {
        "trace": lambda: model.generate("Hello", max_new_tokens=1).sequences,
        "tokenizer": lambda: model.tokenizer,
        "module": lambda: model.module,
    }
    for _ in range(2):
        with pytest.raises(LoadError, match="is gone now") as caught:
            uses[use]()
        assert str(folder) in str(caught.value)
        assert "tokenizer of" not in str(caught.value)
    shutil.move(tmp_path / "elsewhere", folder)
    uses[use]()


def test_a_broken_tokenizer_is_an_error_and_not_a_missing_one(tmp_path, tiny):
    tiny("gpt2").save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{ no json")
    source = open_source(tmp_path)
    with pytest.raises(LoadError, match=r"tokenizer of .* cannot be read"):
        _ = source.tokenizer


# What goes wrong


def message_of(error: type[Exception], *args, **kwargs) -> str:
    with pytest.raises(error) as caught:
        open_source(*args, **kwargs)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert len(caught.value.message.splitlines()) <= 15
    return caught.value.message


def test_an_unknown_name_says_where_it_was_looked_for_and_what_is_near(offline):
    message = message_of(ModelNotFound, "demmo")
    assert 'no model "demmo"' in message
    assert "/demmo" in message
    assert "HF_HUB_OFFLINE is set" in message
    assert "Did you mean: 'demo'" in message


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("gpt2-smal", "'gpt2'"),
        ("EleutherAI/pythia-70", "'EleutherAI/pythia-70m'"),
        ("smollm", "demo"),
    ],
)
def test_a_slip_of_the_pen_finds_a_well_known_name(offline, name, near):
    line = next(s for s in message_of(ModelNotFound, name).splitlines() if "Did you mean" in s)
    assert near in line


def test_a_folder_nearby_is_offered(offline, tiny_gpt2_folder, monkeypatch):
    monkeypatch.chdir(tiny_gpt2_folder.parent)
    assert "'tiny-gpt2'" in message_of(ModelNotFound, "tiny-gpt")
    assert str(tiny_gpt2_folder) in message_of(ModelNotFound, str(tiny_gpt2_folder) + "x")


def test_a_path_that_breaks_off_says_where(tmp_path):
    message = message_of(ModelNotFound, f"{tmp_path}/models/mine")
    assert f"ends at {tmp_path}, which has no models" in message


def test_a_folder_without_a_model_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    message = message_of(ModelNotFound, str(tmp_path))
    assert "no config.json" in message
    assert "notes.txt" in message


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_told_so(name):
    assert "empty" in message_of(ModelNotFound, name)


def test_a_file_of_a_model_points_to_its_folder(tiny_gpt2_folder):
    message = message_of(ModelNotFound, str(tiny_gpt2_folder / "config.json"))
    assert f'"{tiny_gpt2_folder}"' in message


def test_a_configuration_that_cannot_be_read_is_told_without_a_traceback(tmp_path):
    (tmp_path / "config.json").write_text("{ no json")
    assert "cannot be loaded" in message_of(LoadError, str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "nothing-known"}')
    assert "nothing-known" in message_of(LoadError, str(tmp_path))


def test_missing_weights_are_told(tmp_path, tiny):
    tiny("gpt2").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    source = open_source(tmp_path)
    assert shapes(source.skeleton())
    with pytest.raises(LoadError, match="cannot be loaded"):
        source.weights()


def test_an_option_that_transformers_does_not_know_is_told(tiny_gpt2_folder):
    source = open_source(tiny_gpt2_folder, atn_implementation="eager")
    with pytest.raises(LoadError, match="atn_implementation") as caught:
        source.weights()
    assert "spelling" in caught.value.message


def test_parameters_that_the_files_lack_are_warned_of(tmp_path, tiny):
    tiny("llama").model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "architectures": ["LlamaForCausalLM"]})
    )
    with pytest.warns(NnsightWarning, match=r"1 parameters; they are random now: lm_head\.weight"):
        open_source(tmp_path).weights()


# Nothing printed, nothing left changed


def settings() -> tuple:
    from transformers import modeling_gguf_pytorch_utils as reader
    from transformers.utils import logging

    return logging.get_verbosity(), logging.is_progress_bar_enabled(), reader.tqdm


def test_loading_prints_nothing_and_leaves_the_settings_of_transformers(saved, capfd):
    _, _, folder = saved
    before = settings()
    source = open_source(folder)
    source.skeleton()
    _ = source.tokenizer
    source.weights()
    assert tuple(capfd.readouterr()) == ("", "")
    assert settings() == before


def test_the_settings_are_restored_after_an_error(tmp_path):
    (tmp_path / "config.json").write_text("{ no json")
    before = settings()
    message_of(LoadError, str(tmp_path))
    assert settings() == before


@pytest.mark.parametrize("name", [".", "..", "./", "~", "a--b", "a..b", "-x", "x" * 120, ".hidden"])
def test_whatever_is_no_name_ends_in_words(offline, tmp_path, monkeypatch, name):
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.setenv("HOME", str(tmp_path))
    message = message_of(ModelNotFound, name)
    assert "save_pretrained" in message


@pytest.fixture
def with_own_code(tmp_path):
    """A folder whose model is Python code beside its configuration."""
    names = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    config = {"model_type": "own", "auto_map": names, "architectures": ["OwnModel"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "import pathlib\n"
        f"pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    return tmp_path


def test_code_that_a_model_brings_is_not_run_and_nobody_is_asked(
    with_own_code, monkeypatch, tmp_path_factory
):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on standard input"))
    message = message_of(LoadError, str(with_own_code))
    assert "trust_remote_code=True" in message
    assert "own.py" in message or ".py files" in message
    assert not (with_own_code / "ran").exists()


def test_code_that_a_model_brings_is_run_where_it_is_trusted(
    with_own_code, monkeypatch, tmp_path_factory
):
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path_factory.mktemp("code"))
    )
    source = open_source(str(with_own_code), trust_remote_code=True)
    assert type(source.config).__name__ == "OwnConfig"
    assert (with_own_code / "ran").exists()


@pytest.mark.parametrize("damaged", ["model.safetensors", "config.json"])
def test_damaged_files_are_told_with_their_folder(tmp_path, tiny, damaged):
    tiny("gpt2").save_pretrained(tmp_path)
    os.truncate(tmp_path / damaged, 100)
    with pytest.raises(LoadError) as caught:
        open_source(str(tmp_path)).weights()
    assert str(tmp_path) in str(caught.value)
