"""Models, handles and saved containers that are copied, pickled and stored."""

from __future__ import annotations

import copy
import io
import multiprocessing
import operator
import pickle
from pathlib import Path

import cloudpickle
import pytest
import torch

from nnsight_magic import LanguageModel, Model
from nnsight_magic.errors import LoadError
from tests import tiny

PROMPT = "The cat sat on"


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    tiny.llama().save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    return tmp_path


def logits(model):
    with model.trace(PROMPT):
        return model.logits.save()


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize(
    "travel",
    [lambda m: pickle.loads(pickle.dumps(m)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_a_model_with_a_name_travels_by_name_options_and_edits(folder, travel, loaded):
    model = LanguageModel(
        folder, dtype="float64", rename={"mlp": "ff"}, attn_implementation="eager", dispatch=loaded
    )
    with model.edit("silence"):
        model.layers[1].mlp.output[:, -1, 2:5] = 3
    other = travel(model)
    assert not other.loaded
    assert len(pickle.dumps(model)) < 5000
    assert torch.equal(logits(other), logits(model))
    assert other.edits["silence"].writes == model.edits["silence"].writes
    assert other.layers[0].ff.path == "model.layers.0.mlp"
    assert other.module is not model.module
    other.edits.clear()
    assert "silence" in model.edits


def test_weights_that_a_name_does_not_give_do_not_travel(folder):
    model = LanguageModel(folder, dispatch=True)
    with torch.no_grad():
        model.module.lm_head.weight[3] = 0
    for travel in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(LoadError, match=r"save_pretrained") as refused:
            travel(model)
        assert isinstance(refused.value, TypeError)


def test_a_model_in_memory_is_copied_and_not_pickled():
    model = LanguageModel(tiny.gpt2().eval(), tiny.tokenizer())
    before = logits(model)
    with model.edit("silence"):
        model.layers[1].mlp.output[:] = 0
    with pytest.raises(LoadError, match=r"has no name"):
        pickle.dumps(model)
    deep, shallow = copy.deepcopy(model), copy.copy(model)
    assert shallow.module is model.module
    assert deep.tokenizer is model.tokenizer
    with torch.no_grad():
        model.module.lm_head.weight.zero_()
    model.edits.clear()
    assert logits(model).abs().max() == 0
    assert logits(shallow).abs().max() == 0
    assert not torch.equal(logits(deep), before)
    deep.edits.clear()
    assert torch.equal(logits(deep), before)


def test_what_was_attached_is_not_lost_without_a_word(folder):
    for model in (Model(tiny.gpt2()), LanguageModel(folder)):
        model.probe = torch.nn.Linear(2, 2)
        for travel in (copy.copy, copy.deepcopy):
            with pytest.raises(LoadError, match="probe"):
                travel(model)


def best(model):
    return int(logits(model)[0, -1].argmax())


def attended(model):
    with model.trace(PROMPT):
        return model.layers[1].attn.output.save()


def test_a_process_of_its_own_is_given_a_model_and_what_belongs_to_it(folder):
    model = LanguageModel(folder)
    expected, path = best(model), model.layers[1].mlp.path
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(best, (model,)) == expected
        assert pool.apply(operator.attrgetter("path"), (model.layers[1].mlp,)) == path
        here, there = attended(model), pool.apply(attended, (model,))
        assert type(here.value) is type(there) is tuple
        assert torch.equal(there[0], here[0])
        assert torch.equal(pool.apply(operator.itemgetter(0), (here,)), here[0])
    pickled = cloudpickle.dumps(lambda: best(model))  # as clusters send functions of a notebook
    assert pickle.loads(pickled)() == expected


def test_a_handle_travels_with_its_model(folder):
    model = LanguageModel(folder)
    handle = pickle.loads(pickle.dumps(model.layers[1].mlp))
    assert handle.path == "model.layers.1.mlp"
    assert handle._model is not model
    handles = pickle.loads(pickle.dumps([model, model.layers[0], model.layers[1].calls[1]]))
    assert handles[1]._model is handles[0]
    assert handles[2].call == 1


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize(
    "site", [lambda m: m.layers[1].attn, lambda m: m.layers[1], lambda m: m], ids=str
)
def test_saved_containers_and_tensors_are_copied_pickled_and_stored(site, live):
    model = LanguageModel(tiny.llama().eval(), tiny.tokenizer())

    def travelled(saved):
        file = io.BytesIO()
        torch.save(saved, file)
        file.seek(0)
        yield torch.load(file, weights_only=False)
        yield pickle.loads(pickle.dumps(saved))
        yield copy.deepcopy(saved)
        yield copy.copy(saved)

    with model.trace(PROMPT):
        saved = site(model).output.save()
        if live:
            copies = list(travelled(saved))
    if not live:
        copies = list(travelled(saved))
    first = saved if isinstance(saved, torch.Tensor) else saved[0]
    for other in copies:
        assert type(other) is type(saved.value)
        assert torch.equal(other if isinstance(other, torch.Tensor) else other[0], first)


def test_a_stored_container_of_tensors_is_read_with_weights_only():
    model = LanguageModel(tiny.llama().eval(), tiny.tokenizer())
    with model.trace(PROMPT):
        saved = model.layers[1].attn.output.save()
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True)[0], saved[0])


# ── what was stored before the engine had rooms ──────────────────────────────────────────

STORED = Path(__file__).parent / "stored"
THEN = """
    travel _made, travel _part, language_model LanguageModel, wrapped Model, value _itself,
    edits Edit, edits Edits, edits Write, step Step, report RunReport, site Touch, cache Cache,
    cache Entry, scan Scan, scan Scanned, scan Shape
"""


@pytest.mark.parametrize("address", [each.split() for each in THEN.split(",")], ids="-".join)
def test_what_pickles_of_then_name_is_still_found(address):
    module, name = address
    found = pickle.loads(f"cnnsight_magic.engine.{module}\n{name}\n.".encode())
    assert found.__name__ == name
    assert found.__module__.startswith("nnsight_magic.engine.")


def test_a_report_and_a_container_of_then_are_read():
    report = pickle.loads((STORED / "report.pickle").read_bytes())
    assert [touch.where for touch in report.touches] == ["layers[1].attn.output"]
    hidden, weights = torch.load(STORED / "container.pt", weights_only=True)
    assert hidden.shape == (1, 10, tiny.HIDDEN)
    assert weights is None
