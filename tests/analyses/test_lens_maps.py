"""Lenses through maps: tuned and Jacobian lenses, their files, and training one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.errors import BadInputError
from tests import tiny
from tests.analyses.test_lens import hidden_of, logits_with
from tests.architectures import models

HIDDEN = tiny.HIDDEN


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 10


def tuned(rows=("input", "0", "1"), hidden=HIDDEN):
    matrices = {row: random(hidden, hidden, seed=k) for k, row in enumerate(rows)}
    biases = {row: random(hidden, seed=9 + k) for k, row in enumerate(rows)}
    return analyses.LensMap("tuned lens", matrices, biases)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "granite", "cohere", "mixtral"])
def test_rows_are_read_through_their_maps_as_a_hook_behind_the_last_block_does(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    hidden, logits = hidden_of(module, inputs)
    rows = ["input", *map(str, range(len(hidden) - 2))]
    lens_map = tuned(rows, hidden[0].shape[-1])
    found = analyses.lens(model, inputs, 7, through=lens_map)
    for row, (name, h) in enumerate(zip(rows, hidden, strict=False)):
        mapped = h + h @ lens_map.matrices[name].T + lens_map.biases[name]
        expected = logits_with(module, inputs, mapped)[0].log_softmax(-1)[:, 7]
        np.testing.assert_allclose(found.logprob.values[row], expected, rtol=1e-4, atol=1e-4)
    own = logits[0].log_softmax(-1)[:, 7]
    np.testing.assert_allclose(found.logprob.values[-1], own, rtol=1e-5, atol=1e-5)
    assert found.title == "tuned lens" and found.rows[-1] == str(len(hidden) - 2)


@pytest.fixture(scope="module")
def model():
    return LanguageModel(tiny.build("llama"), tiny.tokenizer())


@pytest.fixture(scope="module")
def streams(model):
    inputs = model.tokenizer("Hello world, this is", return_tensors="pt")
    return inputs, hidden_of(model.module, inputs)[0]


def test_a_map_of_nothing_is_the_logit_lens(model):
    nothing = analyses.LensMap("tuned lens", {"1": torch.zeros(HIDDEN, HIDDEN)})
    plain = analyses.lens(model, "Hello world", 7)
    found = analyses.lens(model, "Hello world", 7, through=nothing)
    assert found.rows == ["1", "2"]
    assert "2 of 4 rows have no map" in found.text()
    assert np.array_equal(found.logprob.values, plain.logprob.values[2:])


def test_published_jacobian_lenses_are_read(model, streams, tmp_path):
    """`J` by the number of the block whose output it maps, half precision, and numbers beside."""
    inputs, hidden = streams
    matrix = {layer: random(HIDDEN, HIDDEN, seed=layer).half() for layer in (0, 1)}
    held = {"J": matrix, "n_prompts": 7, "source_layers": [0, 1], "d_model": HIDDEN}
    torch.save(held, tmp_path / "lens.pt")
    found = analyses.lens(model, inputs, 7, through=tmp_path / "lens.pt")
    assert found.rows == ["0", "1", "2"] and found.title == "Jacobian lens"
    for layer in (0, 1):
        mapped = hidden[layer + 1] @ matrix[layer].float().T
        expected = logits_with(model.module, inputs, mapped)[0].log_softmax(-1)[:, 7]
        np.testing.assert_allclose(found.logprob.values[layer], expected, rtol=1e-4, atol=1e-4)
    assert analyses.load_lens_map(tmp_path / "lens.pt").attrs["n_prompts"] == 7


@pytest.mark.parametrize("folder", [False, True])
def test_published_tuned_lenses_are_read(model, streams, tmp_path, folder):
    """A linear layer for each of the hidden states, the embedding's first."""
    inputs, hidden = streams
    linear = torch.nn.ModuleList(torch.nn.Linear(HIDDEN, HIDDEN) for _ in range(3))
    torch.save(linear.state_dict(), tmp_path / "params.pt")
    (tmp_path / "config.json").write_text(json.dumps({"d_model": HIDDEN}))
    found = analyses.lens(model, inputs, 7, through=tmp_path if folder else tmp_path / "params.pt")
    assert found.rows == ["input", "0", "1", "2"]
    for row, layer in enumerate(linear):
        mapped = (hidden[row] + layer(hidden[row])).detach()
        expected = logits_with(model.module, inputs, mapped)[0].log_softmax(-1)[:, 7]
        np.testing.assert_allclose(found.logprob.values[row], expected, rtol=1e-4, atol=1e-4)


def test_a_lens_goes_into_a_file_and_comes_back(model, tmp_path):
    lens_map = analyses.LensMap("tuned lens", tuned().matrices, tuned().biases, {"tokens": 12})
    lens_map.save(tmp_path / "lens.safetensors")
    found = analyses.load_lens_map(tmp_path / "lens.safetensors")
    assert (found.kind, found.rows, found.attrs) == ("tuned lens", lens_map.rows, {"tokens": 12})
    assert all(torch.equal(found.matrices[row], lens_map.matrices[row]) for row in found.rows)
    assert all(torch.equal(found.biases[row], lens_map.biases[row]) for row in found.rows)
    one, other = (analyses.lens(model, "Hello", 7, through=each) for each in (lens_map, found))
    assert np.array_equal(one.logprob.values, other.logprob.values)


class Runs:
    def __reduce__(self):
        return (print, ("it ran",))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pt", {"J": {0: torch.eye(8)}}, r"another model: its maps are \(8, 8\)"),
        ("a.pt", {"J": {2: torch.eye(HIDDEN), 7: torch.eye(HIDDEN)}}, "maps of rows 7"),
        ("a.pt", {"J": {0: torch.zeros(3, 4)}}, "no square matrices"),
        ("a.pt", {"J": {"block": torch.eye(4)}}, "number of a block"),
        ("a.pt", {"weights": torch.eye(4)}, "no lens of a form that is known"),
        ("a.pt", torch.eye(4), "no lens of a form that is known"),
        ("a.pt", Runs(), "might run code"),
        ("a.pt", b"no archive", "might run code|cannot be read"),
        ("a.safetensors", b"no tensors", "cannot be read"),
        ("nowhere.pt", None, "There is no lens at"),
    ],
)
def test_what_is_no_lens_of_this_model_is_refused_in_words(
    model, tmp_path, capsys, name, content, words
):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    with pytest.raises(BadInputError, match=words):
        analyses.lens(model, "Hello", through=tmp_path / name)
    assert "it ran" not in capsys.readouterr().out


def test_maps_are_of_the_stream_alone_and_safetensors_of_others_are_refused(model, tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(BadInputError, match="not of what attn adds"):
        analyses.lens(model, "Hello", of="attn", through=tuned())
    save_file({"weight": torch.eye(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(BadInputError, match="no lens of this package"):
        analyses.load_lens_map(tmp_path / "weights.safetensors")


TEXTS = [*tiny.SENTENCES, *(each[::-1] for each in tiny.SENTENCES)]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_a_trained_lens_comes_nearer_on_texts_that_it_was_not_trained_on(name):
    """The divergences are those that hooks give, through the trained maps and without."""
    model = LanguageModel(models.build(name)[0], tiny.tokenizer())
    size = model.module.config.get_text_config().vocab_size
    texts = [model.tokenizer(text, return_tensors="pt")["input_ids"] % size for text in TEXTS]
    told = []
    found = analyses.fit_lens(
        model, texts, rows=["input", "0"], steps=60, told=lambda *each: told.append(each)
    )
    assert len(told) == 120 and all(
        parameter.grad is None for parameter in model.module.parameters()
    )
    assert (found.kl.sel(lens="tuned") < 0.85 * found.kl.sel(lens="logit")).all(), found.kl
    seen = [(each, hidden_of(model.module, {"input_ids": each})) for each in texts]
    held = int(0.2 * sum(each.shape[1] - 1 for each in texts))
    for row, place in (("input", 0), ("0", 1)):
        for lens in ("logit", "tuned"):
            apart = []
            for ids, (hidden, logits) in seen:
                h = hidden[place]
                if lens == "tuned":
                    h = h + h @ found.matrices[row].T + found.biases[row]
                own, read = (
                    each[0, 1:].log_softmax(-1)
                    for each in (logits, logits_with(model.module, {"input_ids": ids}, h))
                )
                apart.append((own.exp() * (own - read)).sum(-1))
            expected = float(torch.cat(apart)[-held:].mean())
            np.testing.assert_allclose(float(found.kl.sel(row=row, lens=lens)), expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"texts": "Hello"}, "as a list"),
        ({"texts": []}, "as a list"),
        ({"texts": ["Hi"]}, "many tokens"),
        ({"texts": TEXTS, "rows": ["2"]}, "no row 2; there are input to 1"),
        ({"texts": TEXTS, "rows": []}, "no row to train"),
    ],
)
def test_what_no_lens_can_be_trained_on_is_refused(model, arguments, words):
    with pytest.raises(BadInputError, match=words):
        analyses.fit_lens(model, **arguments)
