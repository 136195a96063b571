"""Files of edits: whatever a file says, loading it is right or refused, and traces go on."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from nnsight_magic import LanguageModel
from nnsight_magic.errors import EditError
from tests import tiny as tiny_models

IDS = torch.tensor([[1, 2, 3, 4, 5]])
FORMAT = "nnsight_magic edits 1"


@pytest.fixture(scope="module")
def model():
    return LanguageModel(tiny_models.build("gpt2"))


@pytest.fixture(autouse=True)
def no_edits(model):
    model.edits.clear()
    yield
    model.edits.clear()


def file_of(path, entries: Any):
    tensors = {"tensor 0": torch.ones(32)}
    save_file(tensors, path, {"format": FORMAT, "edits": json.dumps(entries)})
    return path


def entry(**other: Any) -> dict[str, Any]:
    write = ["transformer.h.1.mlp", "output", [{"tuple": [{"slice": [None, None, None]}, -1]}]]
    write += ["add", {"tensor": "tensor 0"}, 0]
    return {"name": "steer", "enabled": True, "steps": None, "writes": [write]} | other


def with_write(place: int, value: Any) -> dict[str, Any]:
    found = entry()
    found["writes"][0][place] = value
    return found


CRAFTED = {
    "a number as name": entry(name=5),
    "no name": entry(name=""),
    "steps that are no numbers": entry(steps=["first"]),
    "negative steps": entry(steps=[-1]),
    "steps without a list": entry(steps=3),
    "writes without a list": entry(writes={"a": 1}),
    "a write that is too short": entry(writes=[["transformer.h.1.mlp", "output"]]),
    "a slice of step 0": with_write(2, [{"slice": [None, None, 0]}]),
    "a slice of step -1": with_write(2, [{"slice": [None, None, -1]}]),
    "a slice of texts": with_write(2, [{"slice": ["a", None, None]}]),
    "a slice of two parts": with_write(2, [{"slice": [0, 1]}]),
    "a huge index": with_write(2, [10**30]),
    "a huge index in a list": with_write(2, [{"list": [10**30]}]),
    "a huge index in a slice": with_write(2, [{"slice": [0, 10**30, None]}]),
    "an index of fractions": with_write(2, [{"list": [0.5]}]),
    "an index that is a fraction": with_write(2, [0.5]),
    "an index of two kinds": with_write(2, [{"list": [1], "all": True}]),
    "an unknown index": with_write(2, [{"every": 1}]),
    "a tensor that is not there": with_write(4, {"tensor": "tensor 7"}),
    "a text as value": with_write(4, "zero"),
    "a huge value": with_write(4, 10**30),
    "an unknown operation": with_write(3, "divide"),
    "an unknown kind": with_write(1, "weights"),
    "an unknown module": with_write(0, "transformer.h.9.mlp"),
    "a call that is no number": with_write(5, "first"),
    "no list at all": {"name": "steer"},
    "an entry that is a number": [7],
}


@pytest.mark.parametrize("entries", CRAFTED.values(), ids=CRAFTED)
def test_what_no_edit_could_have_written_is_refused_and_changes_nothing(model, tmp_path, entries):
    with model.edit("mine"):
        model.layers[0].output[:, -1] = 0
    if isinstance(entries, dict) and "writes" in entries:
        entries = [entry(name="good"), entries]
    file = file_of(tmp_path / "x.safetensors", entries)
    with pytest.raises(EditError):
        model.edits.load(file)
    assert list(model.edits) == ["mine"]


def test_a_header_without_edits_and_a_file_of_noise_are_refused(model, tmp_path):
    save_file({"x": torch.ones(1)}, tmp_path / "a", {"format": FORMAT})
    save_file({"x": torch.ones(1)}, tmp_path / "b", {"format": FORMAT, "edits": "[{"})
    (tmp_path / "c").write_bytes(b"\x00\xff" * 64)
    deep = "[" * 100_000
    save_file({"x": torch.ones(1)}, tmp_path / "d", {"format": FORMAT, "edits": deep})
    for name in "abcd":
        with pytest.raises(EditError, match="holds"):
            model.edits.load(tmp_path / name)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(-3, 10**20), max_size=3),
    st.dictionaries(
        st.sampled_from(["slice", "list", "tuple", "tensor", "all", "x"]),
        st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-3, 3), st.text()))),
        max_size=2,
    ),
)


def places(value: Any, before: tuple = ()):
    yield before
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*before, key))


def replaced(value: Any, path: tuple, new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@given(data=st.data())
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_changed_in_a_file_it_loads_or_is_refused_in_words(model, tmp_path, data):
    model.edits.clear()
    path = data.draw(st.sampled_from(list(places([entry()]))))
    entries = replaced([entry()], path, data.draw(JUNK))
    file = file_of(tmp_path / "x.safetensors", entries)
    with contextlib.suppress(EditError):
        model.edits.load(file)
    if not model.edits:
        return
    repr(model.edits)
    # Whether it fits what a module gives, only a forward can tell.
    with contextlib.suppress(EditError), model.trace(IDS):
        model.logits.save()
    model.edits.save(file)


@pytest.mark.parametrize("index", [slice(None, None, -1), slice(None, None, 0), 10**30])
def test_an_index_that_no_tensor_takes_is_refused_where_it_is_written(model, index):
    with pytest.raises(EditError), model.edit("bad"):
        model.layers[0].output[index] = 0
    assert not model.edits
