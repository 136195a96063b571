"""A sweep over a grid gives the numbers of hand-written hooks, with named axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.errors import BadInputError
from tests.hooks import hooked_block

IDS = torch.tensor([[1, 2, 3, 4, 5]])
CLEAN = torch.tensor([[9, 8, 7, 6, 5]])
LONGER = torch.tensor([[4, 3, 2, 1, 6, 7, 8]])


@pytest.fixture
def model(tiny):
    return LanguageModel(tiny("llama"))


def plain_logits(model, ids):
    with torch.no_grad():
        return model.module(ids, use_cache=False).logits


def patched(model, layer, position, *, into=IDS, source=CLEAN):
    """The difference of two logits, by hand-written hooks."""
    block, kept = model.layers[layer].module, []

    def put(hidden):
        hidden = hidden.clone()
        hidden[:, position] = kept[0][:, position]
        return hidden

    with hooked_block(block, lambda hidden: kept.append(hidden.clone())):
        plain_logits(model, source)
    with hooked_block(block, put):
        logits = plain_logits(model, into)
    return float(logits[0, -1, 3] - logits[0, -1, 4])


def test_patching_has_the_axes_the_baseline_and_the_reference_of_its_grid(model):
    def patch(layer, position, clean):
        there = clean.layers[layer].output[:, position]
        model.layers[layer].output[:, position] = there
        return model.logits[0, -1, 3] - model.logits[0, -1, 4]

    points = analyses.grid(layer=model.layers, position=range(5))
    effect = analyses.sweep(model, IDS, patch, points, references={"clean": CLEAN}, progress=False)
    assert effect.dims == ("layer", "position") and effect.dtype == np.float32
    for layer in range(len(model.layers)):
        for position in range(5):
            found = float(effect.sel(layer=layer, position=position))
            assert found == pytest.approx(patched(model, layer, position), abs=1e-5)
    for kind, ids in (("baseline", IDS), ("reference", CLEAN)):
        logits = plain_logits(model, ids)
        assert float(effect[kind]) == pytest.approx(
            float(logits[0, -1, 3] - logits[0, -1, 4]), abs=1e-5
        )
    normal = (effect - effect.baseline) / (effect.reference - effect.baseline)
    last = normal.sel(layer=len(model.layers) - 1, position=4)
    assert float(last) == pytest.approx(1, abs=1e-4)  # everything behind it is the clean run's


def test_points_are_pairs_and_a_value_has_its_own_axes(model):
    def read(layer, position):
        return {"hidden": model.layers[layer].output[0, position], "one": 1.0}

    points = analyses.grid.points(layer=[0, 2], position=[1, 4])
    found = analyses.sweep(model, IDS, read, points, progress=False)
    hidden = found["hidden"]
    assert hidden.dims == ("point", "feature")
    assert hidden.layer.values.tolist() == [0, 2] and hidden.position.values.tolist() == [1, 4]
    with torch.no_grad():
        states = model.module(IDS, output_hidden_states=True, use_cache=False).hidden_states
    np.testing.assert_allclose(hidden.values[0], states[1][0, 1].numpy(), atol=1e-5)
    assert found["one"].values.tolist() == [1, 1]


def test_a_baseline_that_depends_on_the_point_has_its_axes(model):
    def norm(layer):
        model.layers[0].output[:] *= 2
        return model.layers[layer].output[0, -1].norm()

    found = analyses.sweep(model, IDS, norm, analyses.grid(layer=[0, 1]), progress=False)
    kept = {}
    for layer in (0, 1):
        keep = hooked_block(
            model.layers[layer].module, lambda h, n=layer: kept.update({n: h[0, -1].norm()})
        )
        with keep:
            plain_logits(model, IDS)
    assert found.baseline.dims == ("layer",)
    np.testing.assert_allclose(found.baseline.values, [kept[0], kept[1]], rtol=1e-5)


def test_prompts_of_several_lengths_are_points(model):
    def read(ids, layer):
        model.layers[layer].output[:, 1] = 0
        return model.logits[0, -1, 3]

    prompts = analyses.Axis("prompt", (IDS, LONGER), prompts=True)
    points = analyses.grid(prompt=prompts, layer=[0, 1])
    found = analyses.sweep(model, None, read, points, progress=False)
    for number, ids in enumerate((IDS, LONGER)):
        for layer in (0, 1):

            def zero(hidden):
                hidden = hidden.clone()
                hidden[:, 1] = 0
                return hidden

            with hooked_block(model.layers[layer].module, zero):
                expected = float(plain_logits(model, ids)[0, -1, 3])
            assert float(found.sel(prompt=number, layer=layer)) == pytest.approx(expected, abs=1e-5)
        expected = float(plain_logits(model, ids)[0, -1, 3])
        assert found.baseline.values[number].tolist() == pytest.approx([expected] * 2, abs=1e-5)


def test_an_interrupt_keeps_what_was_finished(model):
    def stop(layer):
        model.layers[layer].output[:, 1] = 0
        logit = model.logits[0, -1, 3]
        if layer == 2:
            raise KeyboardInterrupt
        return logit

    points = analyses.grid(layer=[0, 1, 2])
    with pytest.raises(KeyboardInterrupt) as stopped:
        analyses.sweep(model, IDS, stop, points, batch_size=1, progress=False, baseline=False)
    partial = stopped.value.partial
    assert np.isfinite(partial.values).tolist() == [True, True, False]
    assert stopped.value.point_name == "layer=2"


def test_a_point_that_fails_is_empty_where_the_others_go_on(model):
    def fail(layer):
        model.layers[layer].output[:, 1] = 0
        if layer == 1:
            raise ValueError("no")
        return model.logits[0, -1, 3]

    points = analyses.grid(layer=[0, 1, 2])
    found = analyses.sweep(model, IDS, fail, points, keep_going=True, progress=False)
    assert np.isnan(found.values).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({}, "at least one axis"),
        ({"layer": []}, "layer is empty"),
        ({"layer": 3}, "takes a range"),
        ({"word": "Tower"}, "takes a range"),
    ],
)
def test_a_grid_says_what_is_no_axis(axes, said):
    with pytest.raises(BadInputError, match=said):
        analyses.grid(**axes)


def test_points_of_several_lengths_are_refused():
    with pytest.raises(BadInputError, match="layer 2, head 1"):
        analyses.grid.points(layer=[1, 2], head=[3])


def test_values_that_are_no_array_are_told_by_their_points(model):
    def grow(layer):
        return model.layers[layer].output[0, : layer + 1, 0]

    with pytest.raises(
        BadInputError, match=r"shape \(1,\) at layer=0 and of shape \(2,\) at layer=1"
    ):
        analyses.sweep(
            model, IDS, grow, analyses.grid(layer=[0, 1]), progress=False, baseline=False
        )
