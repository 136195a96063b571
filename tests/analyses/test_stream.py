"""Streams of activations: the numbers, the files, and what happens when something goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.analyses.text_windows import batches, windows
from nnsight_magic.errors import BadInputError, StoreError
from tests import tiny
from tests.architectures import models

TEXTS = [f"{sentence}{' and' * k}" for k in range(5) for sentence in tiny.SENTENCES]
TOKENS = tiny.tokenizer()


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel(tiny.build("llama"), TOKENS)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of seven texts and shards of a few rows, so that there are several of each."""
    monkeypatch.setattr("nnsight_magic.analyses.text_windows.WINDOW", 7)
    monkeypatch.setattr("nnsight_magic.analyses.streaming.SHARD_BYTES", 512)


def by_hook(module: Any, block: Any, text: str | list[int]) -> torch.Tensor:
    """What a block gives for one text alone, `(tokens, hidden)`."""
    ids = TOKENS(text).input_ids if isinstance(text, str) else text
    kept = []

    def hook(_: Any, args: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    handle = block.register_forward_hook(hook)
    with torch.no_grad():
        module(input_ids=torch.tensor([ids]))
    handle.remove()
    return kept[0][0]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.*") if path.name[0] != "."}


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "mixtral", "mamba"])
def test_each_row_is_what_a_hook_gives_for_that_text_alone(tmp_path: Path, name: str) -> None:
    module, _ = models.build(name)
    wrapped = LanguageModel(module, TOKENS)
    store = analyses.stream(wrapped, TEXTS[:9], tmp_path, layers=[0, 1], at="all", batch_tokens=64)
    rows, values = store.rows, store.load(layer=1)
    assert len(rows) == len(values) == sum(len(TOKENS(text).input_ids) for text in TEXTS[:9])
    for number, text in enumerate(TEXTS[:9]):
        alone = by_hook(module, wrapped.layers[1].module, text)
        own = values[torch.tensor(rows["text"].to_numpy() == number)]
        torch.testing.assert_close(own, alone, atol=2e-4, rtol=2e-4)
    assert rows["token"].str.cat() == "".join(TEXTS[:9])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("at", "take"),
    [
        ("last", lambda h: h[-1:]),
        ("mean", lambda h: h[1:].mean(0, keepdim=True)),
        (2, lambda h: h[2:3]),
        ([0, -2], lambda h: h[[0, -2]]),
    ],
)
def test_the_tokens_that_are_kept(
    model: LanguageModel, tmp_path: Path, at: Any, take: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    store = analyses.stream(model, TEXTS, tmp_path, layers=[1], at=at, batch_tokens=40)
    wanted = torch.cat([take(by_hook(model.module, model.layers[1].module, t)) for t in TEXTS])
    torch.testing.assert_close(store.load(), wanted, atol=2e-4, rtol=2e-4)
    assert store.complete
    assert len(store._headers) > 5


@pytest.mark.usefixtures("small")
def test_sites_by_name_and_by_path(model: LanguageModel, tmp_path: Path) -> None:
    gate = "layers[layer].mlp.gate_proj.output"
    sites = ["heads", gate, "embed.output", "resid_mid"]
    store = analyses.stream(model, TEXTS, tmp_path, sites=sites, layers=[0, -1])
    assert store.layers == [0, 2]
    with model.trace(TEXTS[4]):
        embedded = model.embed.output[0, -1].save()
        mid = model.layers[0].resid_mid[0, -1].save()
        gated = model.layers[2].mlp.gate_proj.output[0, -1].save()
        z = model.layers[2].attn.z[0, -1].save()
    for mine, wanted in (
        (store.load("embed.output"), embedded),
        (store.load("resid_mid", 0), mid),
        (store.load(gate, 2), gated),
        (store.load("heads", -1), z),
    ):
        torch.testing.assert_close(mine[4], wanted.value, atol=2e-4, rtol=2e-4)
    seen = {}
    for numbers, rows in store.batches(3, "heads", 2, seed=1):
        seen.update(zip(numbers.tolist(), rows, strict=True))
    assert torch.equal(torch.stack([seen[k] for k in range(len(store))]), store.load("heads", 2))


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=30), max_size=40),
    st.integers(1, 100),
    st.integers(1, 9),
)
def test_every_text_is_in_one_batch(texts: list[list[int]], most: int, size: int) -> None:
    seen = []
    for window in windows(texts, size=size):
        numbers = range(window.first, window.first + len(window.texts))
        for batch in batches([*window.texts], numbers, most):  # type: ignore[list-item]
            ids, mask = batch.padded()
            assert len(batch.ids) == 1 or ids.numel() <= most
            assert ids.shape[1] == max(map(len, batch.ids))
            assert mask is None or mask.sum(1).tolist() == [len(each) for each in batch.ids]
            seen += [(n, own) for n, own in zip(batch.texts, batch.ids, strict=True)]
    assert sorted(seen) == list(enumerate(texts))


@pytest.mark.parametrize("spread", [3, 40, 200])
def test_padding_is_below_a_tenth(spread: int) -> None:
    lengths = [4 + (k * 7919) % spread for k in range(2000)]
    padded = real = 0
    for window in windows([[1] * length for length in lengths]):
        for batch in batches([*window.texts], range(len(window.texts)), 4096):  # type: ignore[list-item]
            padded += batch.padded()[0].numel()
            real += sum(map(len, batch.ids))
    assert padded <= 1.1 * real


# -- going on ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_the_same_call_runs_nothing_twice(model: LanguageModel, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    analyses.stream(model, TEXTS, whole, layers=[1])

    def until(count: int):
        for number, text in enumerate(TEXTS):
            if number == count:
                raise KeyboardInterrupt
            yield text

    for count in (0, 9, 20, 29):
        with pytest.raises(KeyboardInterrupt) as stopped:
            analyses.stream(model, until(count), cut, layers=[1])
        assert "goes on from there" in stopped.value.__notes__[0]
    assert not analyses.Store(cut).complete
    assert "not finished" in repr(analyses.Store(cut))
    before = {path.name: path.stat().st_mtime_ns for path in cut.glob("*.safetensors")}
    assert before
    store = analyses.stream(model, iter(TEXTS), cut, layers=[1])
    assert content(cut) == content(whole)
    after = {path.name: path.stat().st_mtime_ns for path in cut.glob("*.safetensors")}
    assert before.items() <= after.items()
    assert torch.equal(store.load(), analyses.Store(whole).load())


_KILLED = """
import faulthandler, os, random, signal, sys, time
import torch
faulthandler.dump_traceback_later(60, exit=True)  # says where it stands
torch.set_num_threads(1)
from nnsight_magic import LanguageModel, analyses
import nnsight_magic.analyses.streaming as streaming, nnsight_magic.analyses.text_windows as cut
from tests import tiny
cut.WINDOW, streaming.SHARD_BYTES = 7, 1024
folder, times = sys.argv[1], int(sys.argv[2])
model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
texts = [f"{s}{' and' * (k % 9)}" for k in range(200) for s in tiny.SENTENCES]
def run(to):
    analyses.stream(model, texts, to, layers=[1], progress=False)
def seconds(to, texts):
    began = time.perf_counter()
    analyses.stream(model, texts, to, layers=[1], progress=False)
    return time.perf_counter() - began
whole, start = seconds(folder + "/whole", texts), seconds(folder + "/none", [])
chance, seen, killed = random.Random(0), {}, 0
for attempt in range(times):
    child = os.fork()
    if not child:
        run(folder + "/cut")
        os._exit(0)
    time.sleep(start + chance.random() * 2 * whole / times)
    os.kill(child, signal.SIGKILL)
    killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    now = {e.name: e.stat().st_mtime_ns for e in os.scandir(folder + "/cut")
           if e.name.endswith(".safetensors")} if os.path.isdir(folder + "/cut") else {}
    assert seen.items() <= now.items(), "a shard is gone, or was run again"
    seen = now
run(folder + "/cut")
assert seen.items() <= {e.name: e.stat().st_mtime_ns for e in os.scandir(folder + "/cut")}.items()
print(killed, len(seen))
"""


def test_a_killed_process_loses_no_shard_and_runs_none_twice(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    ran = subprocess.run(
        [sys.executable, script, tmp_path, "50"],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    killed, shards = map(int, ran.stdout.split())
    assert killed > 25
    assert shards > 3
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_another_runs_folder_is_refused(model: LanguageModel, tmp_path: Path) -> None:
    analyses.stream(model, TEXTS, tmp_path, layers=[1])
    before = content(tmp_path)
    others: list[tuple[LanguageModel, list[str], dict[str, Any], str]] = [
        (model, TEXTS, {"layers": [2]}, "sites"),
        (model, TEXTS, {"layers": [1], "at": "all"}, "at"),
        (model, TEXTS, {"layers": [1], "dtype": "float16"}, "dtype"),
        (model, TEXTS, {"layers": [1], "max_tokens": 5}, "max_tokens"),
        (LanguageModel(tiny.build("llama", seed=1), TOKENS), TEXTS, {"layers": [1]}, "weights"),
        (model, ["other", *TEXTS[1:]], {"layers": [1]}, "other texts: those from 0 on"),
        (model, [*TEXTS[:16], *TEXTS[17:], "more"], {"layers": [1]}, "those from 14 on"),
        (model, TEXTS[:14], {"layers": [1]}, "more texts than were given"),
    ]
    for wrapped, texts, options, said in others:
        with pytest.raises(StoreError, match=said):
            analyses.stream(wrapped, texts, tmp_path, **options)
        assert content(tmp_path) == before
    with model.edit(name="cut"):
        model.layers[0].output[:, -1] = 0
    with pytest.raises(StoreError, match="edits"):
        analyses.stream(model, TEXTS, tmp_path, layers=[1])


def test_a_foreign_folder_is_refused(model: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match=r"holds no activations, but thesis\.txt"):
        analyses.stream(model, TEXTS, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"thesis.txt", ".lock"}
    with pytest.raises(StoreError, match="no activations"):
        analyses.Store(tmp_path / "none")
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.json").write_text(json.dumps({"format": "a web app"}))
    with pytest.raises(StoreError, match="another format, 'a web app'"):
        analyses.stream(model, TEXTS, other)
    (other / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        analyses.Store(other)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("damage", ["cut", "emptied", "other", "renamed"])
def test_a_damaged_shard_is_named(model: LanguageModel, tmp_path: Path, damage: str) -> None:
    analyses.stream(model, TEXTS, tmp_path, layers=[1])
    whole = content(tmp_path)
    shard = tmp_path / sorted(name for name in whole if name.endswith(".safetensors"))[3]
    data = shard.read_bytes()
    if damage == "renamed":
        shard.rename(tmp_path / "0000099-0000.safetensors")
    else:
        shard.write_bytes(
            {"cut": data[: len(data) // 2], "emptied": b"", "other": b"x" * 900}[damage]
        )
    for call in (
        lambda: analyses.Store(tmp_path).load(),
        lambda: analyses.stream(model, TEXTS, tmp_path, layers=[1]),
    ):
        with pytest.raises(StoreError, match=r"damaged|renamed|more texts"):
            call()
    for path in (shard, tmp_path / "0000099-0000.safetensors"):
        path.unlink(missing_ok=True)
    analyses.stream(model, TEXTS, tmp_path, layers=[1])
    assert content(tmp_path) == whole


def test_two_processes_do_not_write_to_one_folder(model: LanguageModel, tmp_path: Path) -> None:
    analyses.stream(model, TEXTS[:2], tmp_path)
    with FileLock(tmp_path / ".lock"), pytest.raises(StoreError, match="Another process"):
        analyses.stream(model, TEXTS[:2], tmp_path)


@pytest.mark.parametrize(
    ("texts", "options", "said"),
    [
        ("one text", {}, "give a list"),
        (["a", 5], {}, "Text 1 is a int"),
        (["a", "\ud800"], {}, "half of a character"),
        ([{"body": "x"}], {}, "no column 'text': it has 'body'"),
        (["Hello", "Hello world, this"], {"at": 3}, "no position 3"),
        (["a"], {"at": "first"}, "no choice of tokens"),
        (["a"], {"at": []}, "no choice of tokens"),
        (["a"], {"sites": "resid"}, "no site 'resid'"),
        (["a"], {"sites": "pattern"}, "as long as its text"),
        (["a"], {"sites": []}, "nothing to keep"),
        (["a"], {"sites": ["heads", "heads"]}, "named twice"),
        (["a"], {"sites": "layers[layer]._x.output"}, "no link of a path"),
        (["a"], {"sites": "layers[head].mlp.output"}, "no index of a site"),
        (["a"], {"layers": [9]}, "no block 9"),
        (["a"], {"dtype": "int8"}, "none of float32"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    model: LanguageModel, tmp_path: Path, texts: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInputError, match=said):
        analyses.stream(model, texts, tmp_path / "to", **options)
    assert not list(tmp_path.glob("to/*.safetensors"))


def test_a_value_without_a_row_for_every_token_is_refused(tmp_path: Path) -> None:
    module, _ = models.build("mixtral")
    model, site = LanguageModel(module, TOKENS), "layers[layer].mlp.experts.output"
    if isinstance(model.layers[0].mlp.experts.module, nn.ModuleList):  # as transformers 4 has them
        site = "layers[layer].mlp.experts[1].output"
    with pytest.raises(BadInputError, match="no row for every token"):
        analyses.stream(model, TEXTS, tmp_path, sites=site)


def test_the_decoders_values_of_an_encoder_decoder_are_refused(tmp_path: Path) -> None:
    module, _ = models.build("t5")
    with pytest.raises(BadInputError, match=r"it is \(3, 1, 32\)"):
        analyses.stream(LanguageModel(module, TOKENS), TEXTS, tmp_path)


def test_training_mode_is_refused(model: LanguageModel, tmp_path: Path) -> None:
    model.module.train()
    with pytest.raises(BadInputError, match="training mode"):
        analyses.stream(model, TEXTS, tmp_path)


# -- what texts may be ------------------------------------------------------------------------


def test_texts_of_many_kinds(model: LanguageModel, tmp_path: Path) -> None:
    lines = tmp_path / "texts.txt"
    lines.write_text("\n".join(TEXTS[:6]) + "\n", encoding="utf-8")
    kinds: list[Any] = [
        TEXTS[:6],
        (text for text in TEXTS[:6]),
        lines,
        [{"text": text, "label": 1} for text in TEXTS[:6]],
        [TOKENS(text).input_ids for text in TEXTS[:6]],
        [torch.tensor(TOKENS(text).input_ids) for text in TEXTS[:6]],
    ]
    found = [
        analyses.stream(model, texts, tmp_path / str(k), layers=[1]).load()
        for k, texts in enumerate(kinds)
    ]
    assert all(torch.equal(each, found[0]) for each in found)


def test_empty_and_long_texts_are_counted(model: LanguageModel, tmp_path: Path) -> None:
    store = analyses.stream(model, ["", *TEXTS[:3], ""], tmp_path / "a", layers=[1], max_tokens=6)
    assert store.rows["text"].tolist() == [1, 2, 3]
    assert store.rows["position"].tolist() == [5, 5, 5]
    assert "3 cut at 6 tokens" in repr(store)
    nothing = analyses.stream(model, [], tmp_path / "b")
    assert nothing.complete
    assert len(nothing) == 0
    empty = analyses.stream(model, ["", ""], tmp_path / "c", layers=[1])
    assert tuple(empty.load().shape) == (0, tiny.HIDDEN)
    shutil.rmtree(tmp_path / "c")


@pytest.mark.demo
def test_the_demo_models_rows(demo: LanguageModel, tmp_path: Path) -> None:
    texts = ["The Eiffel Tower is in the city of", "Rome", "The Colosseum is in"]
    store = analyses.stream(demo, texts, tmp_path, layers=[10, 20])
    ids = [demo.tokenizer(text).input_ids for text in texts]
    for layer in (10, 20):
        block = demo.module.model.layers[layer]
        wanted = torch.stack([by_hook(demo.module, block, each)[-1] for each in ids])
        torch.testing.assert_close(store.load(layer=layer), wanted, atol=1e-3, rtol=1e-4)
