"""Directions and steering: against hand-written hooks and closed forms; files; what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.analyses import Direction
from nnsight_magic.analyses.steering import random_like
from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.written import Text, differing
from tests import tiny
from tests.analyses import test_docs

TOKENS = tiny.tokenizer()
PAIRS = [("Hello WORLD", "Hello world"), ("The CITY is", "The city is"), ("ONE two", "one two")]
PROMPTS = ["Hello world", "The Eiffel Tower is in the city of"]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(tiny.build("llama"), TOKENS)


@pytest.fixture(scope="module")
def shout(model: LanguageModel) -> Direction:
    return analyses.direction(model, PAIRS, 1, words="shout")


def states(model: LanguageModel, text: str, layer: int = 1) -> torch.Tensor:
    """By hand: what a block gives, `(tokens, hidden)`."""
    kept: list[Any] = []
    handle = model.layers[layer].module.register_forward_hook(lambda _m, _a, out: kept.append(out))
    with torch.no_grad():
        model.module(**TOKENS(text, return_tensors="pt"))
    handle.remove()
    return (kept[0][0] if isinstance(kept[0], tuple) else kept[0])[0]


def generated(model: LanguageModel, prompt: str, added: torch.Tensor, count: int) -> list[int]:
    """By hand: a greedy text with `added` at all tokens but the first, and no cache."""
    ids = TOKENS(prompt, return_tensors="pt").input_ids

    def hook(_module: Any, _args: Any, output: Any) -> Any:
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        hidden[:, 1:] += added
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handle = model.layers[1].module.register_forward_hook(hook)
    new = []
    with torch.no_grad():
        for _ in range(count):
            best = model.module(ids, use_cache=False).logits[0, -1].argmax()
            new.append(int(best))
            ids = torch.cat([ids, best.reshape(1, 1)], 1)
    handle.remove()
    return new


# -- finding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["last", "mean"])
def test_a_direction_is_the_difference_of_means(model: LanguageModel, at: str) -> None:
    found = analyses.direction(model, PAIRS, [0, 1], at=at)
    for layer in (0, 1):
        own = [
            torch.stack([h[-1] if at == "last" else h[1:].mean(0) for h in side])
            for side in zip(
                *((states(model, a, layer), states(model, b, layer)) for a, b in PAIRS), strict=True
            )
        ]
        torch.testing.assert_close(found.vectors[layer], own[0].mean(0) - own[1].mean(0))
    lengths = torch.cat([states(model, text)[1:].norm(dim=-1) for pair in PAIRS for text in pair])
    assert found.lengths[1] == pytest.approx(float(lengths.mean()), rel=1e-5)


def test_the_principal_axis_is_that_of_the_centred_pairs(model: LanguageModel) -> None:
    found = analyses.direction(model, PAIRS, 1, method="principal").vectors[1]
    one, two = (torch.stack([states(model, pair[k])[-1] for pair in PAIRS]) for k in (0, 1))
    centred = torch.cat([one - (one + two) / 2, two - (one + two) / 2]).double().numpy()
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axis = vectors[:, values.argmax()]
    means = (one.mean(0) - two.mean(0)).double().numpy()
    np.testing.assert_allclose(found.numpy(), axis * (axis @ means), atol=1e-5)
    assert float(found @ torch.tensor(means, dtype=torch.float32)) > 0


def test_kinds_need_not_be_pairs(model: LanguageModel) -> None:
    sides = {"positive": [a for a, _ in PAIRS], "negative": [b for _, b in PAIRS[:2]]}
    found = analyses.direction(model, sides, 1).vectors[1]
    one, two = (torch.stack([states(model, t)[-1] for t in sides[k]]) for k in sides)
    torch.testing.assert_close(found, one.mean(0) - two.mean(0))
    with pytest.raises(BadInputError, match="is of pairs"):
        analyses.direction(model, sides, 1, method="principal")


def test_a_probes_direction_steers(model: LanguageModel, tmp_path: Path) -> None:
    texts = [text for pair in PAIRS for text in pair] * 2
    store = analyses.stream(model, texts, tmp_path, layers=[1], progress=False)
    labels = [k % 2 for k in range(len(texts))]
    probe = analyses.probe(store, labels, method="means", draws=0, progress=False)
    found = probe.direction(toward="0")
    direct = analyses.direction(model, PAIRS, 1)
    torch.testing.assert_close(found.vectors[1], direct.vectors[1], atol=1e-5, rtol=1e-4)
    found.check(model)


# -- applied ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [1.0, -20.0, 40.0])
def test_texts_are_those_of_a_hand_written_hook(
    model: LanguageModel, shout: Direction, strength: float
) -> None:
    found = analyses.steer(model, shout, PROMPTS, [strength], new_tokens=6, progress=False)
    for k, prompt in enumerate(PROMPTS):
        for at, texts in ((strength, found.said), (0.0, found.said)):
            wanted = generated(model, prompt, at * shout.vectors[1], 6)
            assert texts[at][k].text == TOKENS.decode(wanted)
        noise = strength * random_like(found.direction, 0).vectors[1]
        assert found.control[strength][k].text == TOKENS.decode(generated(model, prompt, noise, 6))
        assert float(noise.norm()) == pytest.approx(abs(strength) * float(shout.vectors[1].norm()))
    assert not model.edits


def test_some_strength_changes_the_text(model: LanguageModel, shout: Direction) -> None:
    found = analyses.steer(model, shout, PROMPTS, [40], new_tokens=6, progress=False)
    assert found.said[40.0] != found.said[0.0]


def test_the_loss_is_that_of_the_model_without_it(model: LanguageModel, shout: Direction) -> None:
    found = analyses.steer(model, shout, PROMPTS, [30], new_tokens=5, progress=False)
    new = generated(model, PROMPTS[1], 30 * shout.vectors[1], 5)
    prompt = TOKENS(PROMPTS[1]).input_ids
    ids = torch.tensor([[*prompt, *new]])
    with torch.no_grad():
        logits = model.module(ids).logits[0, len(prompt) - 1 : -1]
    wanted = torch.nn.functional.cross_entropy(logits, torch.tensor(new))
    said = found.said[30.0][1]
    assert said.loss == pytest.approx(float(wanted), rel=1e-4)
    assert said.perplexity == pytest.approx(math.exp(float(wanted)), rel=1e-3)
    assert float(found.loss.sel(strength=30.0, prompt=1)) == pytest.approx(said.loss, rel=1e-5)


def test_relative_strengths_are_parts_of_the_prompts_own_length(
    model: LanguageModel, shout: Direction
) -> None:
    found = analyses.steer(
        model, shout, PROMPTS, [0.5], relative=True, new_tokens=4, progress=False
    )
    length = torch.cat([states(model, each)[1:].norm(dim=-1) for each in PROMPTS]).mean()
    assert found.direction.lengths[1] == pytest.approx(float(length), rel=1e-5)
    added = 0.5 * length * shout.vectors[1] / shout.vectors[1].norm()
    for k, prompt in enumerate(PROMPTS):
        assert found.said[0.5][k].text == TOKENS.decode(generated(model, prompt, added, 4))


def test_a_text_ends_where_the_model_ends_it(shout: Direction) -> None:
    model = LanguageModel(tiny.build("llama"), TOKENS)
    plain = generated(model, PROMPTS[0], 0 * shout.vectors[1], 6)
    model.module.generation_config.eos_token_id = [plain[2]]
    found = analyses.steer(model, shout, PROMPTS, [0], new_tokens=6, progress=False)
    end = plain.index(plain[2])
    assert found.said[0.0][0].text == TOKENS.decode(plain[:end])
    if not end:
        assert found.said[0.0][0].loss != found.said[0.0][0].loss


def test_it_is_an_edit_that_can_be_switched(shout: Direction) -> None:
    model = LanguageModel(tiny.build("llama"), TOKENS)
    edit = shout.edit(model, 30, "shout")
    wanted = generated(model, PROMPTS[1], 30 * shout.vectors[1], 5)
    found = model.generate(PROMPTS[1], max_new_tokens=5, do_sample=False).sequences
    assert found[0, -5:].tolist() == wanted
    found = analyses.steer(model, shout, PROMPTS, [0], new_tokens=3, progress=False)
    assert "shout" in found.notices[0]
    edit.enabled = False
    plain = model.generate(PROMPTS[1], max_new_tokens=5, do_sample=False).sequences
    assert plain[0, -5:].tolist() == generated(model, PROMPTS[1], 0 * shout.vectors[1], 5)


# -- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gguf", "safetensors"])
def test_a_file_gives_the_same_direction(model: LanguageModel, tmp_path: Path, kind: str) -> None:
    direction = analyses.direction(model, PAIRS, [1, 2], words="shout")
    direction.save(tmp_path / f"d.{kind}")
    found = Direction.load(tmp_path / f"d.{kind}")
    assert found.layers == [1, 2] and found.kind == "llama"
    for layer in (1, 2):
        assert torch.equal(found.vectors[layer], direction.vectors[layer])
    if kind == "safetensors":
        assert found.words == "shout" and found.lengths == pytest.approx(direction.lengths)
    found.check(model)


def test_a_gguf_file_is_laid_out_as_llama_cpp_reads_it(shout: Direction, tmp_path: Path) -> None:
    shout.save(tmp_path / "d.gguf")
    reader = gguf.GGUFReader(tmp_path / "d.gguf")
    told = {name: each.contents() for name, each in reader.fields.items()}
    assert told["general.architecture"] == "controlvector"
    assert told["controlvector.model_hint"] == "llama"
    assert told["controlvector.layer_count"] == 1
    (tensor,) = reader.tensors
    assert tensor.name == "direction.1" and tensor.tensor_type.name == "F32"
    assert tensor.shape.tolist() == [tiny.HIDDEN]
    np.testing.assert_array_equal(tensor.data, shout.vectors[1].numpy())


def written(path: Path, arch: str, tensors: dict[str, np.ndarray]) -> Path:
    writer = gguf.GGUFWriter(path, arch)
    for name, each in tensors.items():
        writer.add_tensor(name, each)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_foreign_and_damaged_files_are_refused_in_words(shout: Direction, tmp_path: Path) -> None:
    one = np.ones(8, np.float32)
    cases: list[tuple[Path, str]] = [
        (tmp_path / "none.gguf", "There is no file"),
        (written(tmp_path / "model.gguf", "llama", {"a": one}), "no control vector but 'llama'"),
        (written(tmp_path / "odd.gguf", "controlvector", {"output": one}), "holds 'output'"),
        (
            written(
                tmp_path / "two.gguf",
                "controlvector",
                {"direction.1": one, "direction.2": np.ones(9, np.float32)},
            ),
            r"vectors of one size; found \(8,\), \(9,\)",
        ),
        (
            written(tmp_path / "nan.gguf", "controlvector", {"direction.1": one * np.nan}),
            "direction.1 holds NaN",
        ),
    ]
    shout.save(tmp_path / "d.gguf")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes((tmp_path / "d.gguf").read_bytes()[:100])
    text = tmp_path / "text.gguf"
    text.write_text("no such thing")
    cases += [(cut, "cannot be read as GGUF"), (text, "cannot be read as GGUF")]
    other = tmp_path / "weights.safetensors"
    save_file({"lm_head.weight": torch.ones(2, 2)}, other)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\x00" * 9)
    cases += [(other, "holds 'lm_head.weight'"), (damaged, "cannot be read as safetensors")]
    (tmp_path / "d.bin").write_text("x")
    cases.append((tmp_path / "d.bin", r"stored as \.gguf or \.safetensors, not '\.bin'"))
    for path, said in cases:
        with pytest.raises(BadInputError, match=said):
            Direction.load(path)
    with pytest.raises(BadInputError, match="no control vector of block 0"):
        Direction({0: torch.ones(4)}).save(tmp_path / "zero.gguf")
    with pytest.raises(BadInputError, match="this is of heads"):
        Direction({1: torch.ones(4)}, "heads").save(tmp_path / "heads.gguf")
    assert not (tmp_path / "zero.gguf").exists()


@pytest.mark.parametrize(
    ("direction", "said"),
    [
        (Direction({1: torch.ones(tiny.HIDDEN + 1)}), "it is of another model"),
        (Direction({7: torch.ones(tiny.HIDDEN)}), "of block 7; this model has blocks 0 to 2"),
        (Direction({1: torch.ones(tiny.HIDDEN)}, "mlp"), "This direction is of mlp"),
        (Direction({1: torch.ones(tiny.HIDDEN)}, kind="gpt2"), "of the kind 'gpt2', and this one"),
    ],
)
def test_another_models_direction_is_refused(
    model: LanguageModel, direction: Direction, said: str
) -> None:
    for use in (
        lambda: direction.edit(model),
        lambda: direction.steered(model),
        lambda: analyses.steer(model, direction, "Hello", [1], progress=False),
    ):
        with pytest.raises(BadInputError, match=said):
            use()
    assert not model.edits
    if direction.kind:
        replace(direction, kind="").check(model)
        replace(direction, kind="mistral").check(model)  # which llama.cpp calls llama


@pytest.mark.parametrize(
    ("pairs", "options", "said"),
    [
        (["one", "two"], {}, "'one',. is no pair"),
        ([("a", "b", "c")], {}, "is no pair"),
        ([], {}, "0 positive and 0 negative"),
        (7, {}, "Found int"),
        ({"good": ["a"], "bad": ["b"]}, {}, "a dict of 'good', 'bad'"),
        ({"positive": "a", "negative": ["b"]}, {}, "Texts stand in a list"),
        ([("Hello", "Hello")], {}, "are equal after block 1"),
        ([("Hello", "")], {}, "'' has no token"),
        (PAIRS, {"method": "svm"}, "no method 'svm'"),
        (PAIRS, {"at": "first"}, "expected 'last' or 'mean'"),
        (PAIRS, {"layer": 9}, "no block 9"),
    ],
)
def test_what_gives_no_direction_is_refused(
    model: LanguageModel, pairs: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInputError, match=said):
        analyses.direction(model, pairs, **{"layer": 1, **options})


@pytest.mark.parametrize(
    ("prompts", "options", "said"),
    [
        ([], {}, "begins with a prompt"),
        ([""], {}, "begins with a prompt"),
        ("Hello", {"new_tokens": 0}, "from 1 on"),
        ("Hello", {"strengths": ["much"]}, "Strengths are numbers"),
        ("Hello", {"strengths": [float("nan")]}, "Strengths are numbers"),
    ],
)
def test_what_cannot_be_steered_is_refused(
    model: LanguageModel, shout: Direction, prompts: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInputError, match=said):
        analyses.steer(model, shout, prompts, **{"progress": False, **options})


def test_without_a_length_there_is_no_relative_strength(model: LanguageModel) -> None:
    bare = Direction({1: torch.ones(tiny.HIDDEN)})
    with pytest.raises(BadInputError, match="Nothing says how long"):
        bare.edit(model, 0.2, relative=True)
    zero = Direction({1: torch.zeros(tiny.HIDDEN)}, lengths={1: 2.0})
    with pytest.raises(BadInputError, match="points nowhere"):
        zero.edit(model, 0.2, relative=True)


# -- forms --------------------------------------------------------------------------------------


def test_the_view_writes_further_strengths_and_keeps_them(
    model: LanguageModel, shout: Direction
) -> None:
    found = analyses.steer(model, shout, PROMPTS, [10], new_tokens=4, progress=False)
    view = found.view()
    assert view.strength == 10.0 and view.can == ["write"]
    before = view.packed
    assert view.answers["write"]({"strength": 25}) == ({}, [])
    assert view.packed != before
    assert found.strengths == [0.0, 10.0, 25.0]
    wanted = TOKENS.decode(generated(model, PROMPTS[0], 25 * shout.vectors[1], 4))
    assert found.said[25.0][0].text == wanted
    for asked in (None, "9", float("inf"), 1e9):
        with pytest.raises(BadInputError, match="strength"):
            view.answers["write"]({"strength": asked})


def test_the_forms_say_the_same(model: LanguageModel, shout: Direction) -> None:
    found = analyses.steer(model, shout, PROMPTS, [30], new_tokens=4, progress=False)
    loss = f"{found.said[30.0][0].loss:.2f}"
    assert loss in found.text() and loss in found.view().still()
    assert "<b>" in found.view().still().split("</table>")[0]
    line = found.figure().axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), found.loss.mean("prompt").values)


def test_what_differs_is_marked_word_by_word() -> None:
    assert differing(" a b c", " a x c d") == [
        (" a", False),
        (" x", True),
        (" c", False),
        (" d", True),
    ]
    assert differing("same", "same") == [("same", False)]
    assert differing("", " new") == [(" new", True)]
    assert differing("old", "") == []
    assert Text("x", float("nan")).loss != 0


@pytest.mark.demo
def test_capitals_are_written_in_capitals(demo: LanguageModel) -> None:
    """The mean of all tokens of texts in upper case minus the same in lower case, behind block 8:
    a third of the residual stream's length makes capitals, and a random direction does not."""
    lines = [
        "The ship left the harbour at dawn and sailed west.",
        "My brother bought a new car last summer.",
        "The old man told us a story about the war.",
        "She opened the window and looked at the garden.",
        "We had dinner at a small place near the river.",
        "The teacher asked the children to be quiet.",
        "I could not find my keys anywhere in the house.",
        "They built the bridge in less than two years.",
    ]
    shout = analyses.direction(demo, [(line.upper(), line) for line in lines], 8, at="mean")
    found = analyses.steer(
        demo, shout, ["When I woke up this morning,", "The best thing about"], [0.35],
        relative=True, new_tokens=10, progress=False,
    )  # fmt: skip

    def capitals(said: Any) -> float:
        letters = [c for each in said for c in each.text if c.isalpha()]
        return sum(c.isupper() for c in letters) / len(letters)

    assert capitals(found.said[0.35]) > 0.5
    assert capitals(found.said[0.0]) < 0.2
    assert capitals(found.control[0.35]) < 0.2


@pytest.mark.demo
def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_docs.test_the_examples_of_a_page_run("steering.md", tmp_path, monkeypatch)
