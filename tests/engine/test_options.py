"""An option that nobody would read is refused, with the one that was meant."""

import pytest
import torch
from torch import nn
from transformers import GenerationConfig

from nnsight_magic import LanguageModel
from nnsight_magic.engine.model.model import Model
from nnsight_magic.errors import BadInputError
from tests import tiny as tiny_models

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def hf(tiny):
    return tiny("llama")


@pytest.mark.parametrize(
    ("given", "meant"),
    [("gard", "grad"), ("ful", "full"), ("resum", "resume"), ("output_hidden_state",) * 2],
)
def test_a_misspelt_option_of_a_trace(model, given, meant):
    with pytest.raises(BadInputError, match=f"no option '{given}'. Did you mean '{meant}") as error:
        model.trace(IDS, **{given: True})
    assert "attention_mask" in str(error.value)


@pytest.mark.parametrize("architecture", [*tiny_models.ARCHITECTURES])
def test_unknown_and_known_options_of_every_architecture(tiny, architecture):
    model = LanguageModel(tiny(architecture))
    ids = {"pixel_values": torch.zeros(1, 3, 32, 32)} if architecture == "vit" else IDS
    for call in (model.trace, model.scan):
        with pytest.raises(BadInputError, match="no option 'output_hiddn_states'"):
            call(ids, output_hiddn_states=True)
    with model.trace(ids, output_hidden_states=True, return_dict=True):
        assert model.output.to_tuple()


def test_options_that_a_forward_hands_on_are_known(model):
    positions = torch.arange(4)[None]
    with model.trace(IDS, position_ids=positions, logits_to_keep=1, output_attentions=False):
        assert model.logits.shape[1] == 1
    with model.trace(IDS, labels=IDS):
        assert model.output.loss.ndim == 0


def test_the_options_of_a_part_and_of_an_invoke(model):
    hidden = torch.zeros(1, 4, 32)
    with pytest.raises(BadInputError, match="no option 'xs'"):
        model.layers[0].mlp.trace(hidden, xs=1)
    with (
        pytest.raises(BadInputError, match="no option 'labls'"),
        model.trace() as tracer,
        tracer.invoke(IDS, labls=IDS),
    ):
        pass
    with pytest.raises(BadInputError, match="no option 'logits_to_kep'"):
        model.sweep({"input_ids": IDS}, lambda k: k, [1], logits_to_kep=1)


@pytest.mark.parametrize("given", ["gard", "max_new_token", "do_smaple", "output_score", "foo"])
def test_a_misspelt_option_of_a_generation(model, given):
    with pytest.raises(BadInputError, match=f"generate.. has no option '{given}'"):
        model.generate(IDS, **{given: True})


def test_all_options_of_a_generation_are_known(model):
    for name, value in vars(GenerationConfig()).items():
        if value is None and not name.startswith("_"):
            model.generate(
                IDS, max_new_tokens=1, **{name: None} if name != "max_new_tokens" else {}
            )
    ids = model.generate(
        IDS, max_new_tokens=2, do_sample=False, attention_mask=torch.ones_like(IDS),
        logits_processor=None,
    )  # fmt: skip
    assert ids.shape == (1, 6)


def test_a_module_of_ones_own_that_takes_anything_is_asked_for_what_looks_misspelt():
    class Anything(nn.Module):
        def forward(self, x, **kwargs):
            return x * kwargs.get("factor", 1)

    class Strict(nn.Module):
        def forward(self, x, scale=1):
            return x * scale

    anything, strict = Model(Anything()), Model(Strict())
    with anything.trace(torch.ones(1), factor=3):
        assert anything.output == 3
    with pytest.raises(BadInputError, match="Did you mean 'grad'"):
        anything.trace(torch.ones(1), gard=True)
    with pytest.raises(BadInputError, match="Did you mean 'scale'"):
        strict.trace(torch.ones(1), scal=2)
    with strict.trace(torch.ones(1), scale=2):
        assert strict.output == 2
