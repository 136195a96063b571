"""Models that were split, compiled, shared, or that return what nobody expects."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel
from nnsight_magic.engine.model.model import Model
from nnsight_magic.errors import NeverRanError
from tests.architectures import models, reference
from tests.hooks import hook_count

LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0"


def final(model):
    return reference.final(model.output).value


def test_each_call_of_a_shared_layer_is_read_and_written_by_its_number():
    module, inputs = models.build("albert")
    model = LanguageModel(module)
    seen = []
    handle = module.get_submodule(LAYER).register_forward_hook(
        lambda module, args, output: seen.append(reference.first(output)[1].clone())
    )
    reference.run(module, inputs)
    handle.remove()
    assert len(seen) == 3
    for number in (2, 0, 1):
        site = model[LAYER].calls[number]
        with model.trace(inputs):
            output = site._output
            found = output if isinstance(output, torch.Tensor) else output[0]
        assert torch.equal(found, seen[number])
        with model.trace(inputs):
            if isinstance(site._output, torch.Tensor):
                site._output = site._output * 0.5 + 0.25
            else:
                site._output[0] = site._output[0] * 0.5 + 0.25
            logits = final(model)
        assert torch.equal(logits, reference.written(module, inputs, LAYER, number))


def test_a_call_that_does_not_come_is_an_error():
    module, inputs = models.build("albert")
    model = LanguageModel(module)
    with pytest.raises(NeverRanError, match="call number 3"), model.trace(inputs):
        _ = model["albert.encoder.albert_layer_groups.0"].calls[3].output


def test_a_part_of_a_shared_layer_read_late_is_still_its_first_call():
    module, inputs = models.build("albert")
    model = LanguageModel(module)
    expected = reference.outputs(module, inputs)
    with model.trace(inputs) as tracer:
        late = model[f"{LAYER}.ffn_output"].output
        early = model[f"{LAYER}.attention.key"].output
    assert torch.equal(late, expected[f"{LAYER}.ffn_output"][1])
    assert torch.equal(early, expected[f"{LAYER}.attention.key"][1])
    assert tracer.report.forwards == 2


class Silent(nn.Module):
    def forward(self, x):
        return None


class Nested(nn.Module):
    def forward(self, *, x, scale=1.0):
        return {"a": [x, (x * scale, None)], "b": "text"}


class Odd(nn.Module):
    """Its parts give nothing, or nested containers, and take keywords alone."""

    def __init__(self):
        super().__init__()
        self.silent, self.nested, self.last = Silent(), Nested(), nn.Linear(2, 2)

    def forward(self, x):
        self.silent(x)
        inner = self.nested(x=x, scale=2.0)
        return self.last(inner["a"][1][0])


def test_a_module_that_gives_nothing():
    model = Model(Odd())
    with model.trace(torch.ones(1, 2)):
        given = model.silent.input
        nothing = model.silent.output
    assert nothing is None
    assert torch.equal(given, torch.ones(1, 2))


def test_nested_containers_and_keyword_arguments_are_read_and_written():
    module = Odd()
    model = Model(module)
    with model.trace(torch.ones(1, 2)):
        model.nested.inputs[1]["scale"] = 3.0
        inner = model.nested.output
        text = inner["b"]
        first = inner["a"][0]
        inner["a"][1][0][:] += 1
        out = model.output
    assert text == "text"
    assert torch.equal(first, torch.ones(1, 2))
    with torch.no_grad():
        assert torch.equal(out, module.last(torch.full((1, 2), 4.0)))


def offloaded(how, folder):
    import accelerate

    module, inputs = models.build("llama")
    plain = reference.final(reference.run(module, inputs))
    if how == "cpu_offload":
        accelerate.cpu_offload(module, execution_device=torch.device("cpu"))
    elif how == "disk_offload":
        accelerate.disk_offload(module, folder, execution_device=torch.device("cpu"))
    else:
        places = {"model": "disk", "lm_head": "cpu"}
        accelerate.dispatch_model(module, places, main_device="cpu", offload_dir=folder)
    return LanguageModel(module), module, inputs, plain


@pytest.mark.parametrize("how", ["cpu_offload", "disk_offload", "dispatch_model"])
def test_an_offloaded_model_is_read_and_written(how, tmp_path):
    model, module, inputs, plain = offloaded(how, tmp_path)
    for _ in range(2):
        with model.trace(inputs):
            early = model.layers[0].mlp.output
        with model.trace(inputs):
            logits = final(model)
        assert torch.equal(logits, plain)
        with model.trace(inputs):
            model.layers[1].output[:] *= 2
            changed = final(model)
        assert not torch.equal(changed, plain)
        with model.trace(inputs):
            model.layers[1].skip(model.layers[1].input)
            skipped = final(model)
        assert not torch.equal(skipped, plain)
    assert early.shape == (1, 6, 32)
    assert hook_count(module) == 0
    assert torch.equal(reference.final(reference.run(module, inputs)), plain)


def test_around_a_compiled_block_everything_is_read_and_written():
    module, inputs = models.build("llama")
    expected = reference.outputs(module, inputs)
    written = reference.written(module, inputs, "model.layers.1")
    module.model.layers[1] = torch.compile(module.model.layers[1], backend="eager")
    model = LanguageModel(module)
    with model.trace(inputs):
        before = model.model.layers[0].output
        at = model.model.layers[1].output
        after = model.model.layers[2].mlp.output
    assert torch.equal(before, expected["model.layers.0"][1])
    assert torch.equal(at, expected["model.layers.1"][1])
    assert torch.equal(after, expected["model.layers.2.mlp"][1])
    with model.trace(inputs):
        model.model.layers[1].output = model.model.layers[1].output * 0.5 + 0.25
        logits = final(model)
    assert torch.equal(logits, written)


def test_a_block_that_is_compiled_runs_uncompiled_where_one_looks_inside():
    module, inputs = models.build("llama")
    expected = reference.outputs(module, inputs)
    written = reference.written(module, inputs, "model.layers.1.mlp")
    module.model.layers[1] = torch.compile(module.model.layers[1], backend="eager")
    model = LanguageModel(module)
    reference.run(module, inputs)  # compiled without hooks
    inside = model["model.layers.1._orig_mod.mlp"]
    with model.trace(inputs):
        found = inside.output
    assert torch.equal(found, expected["model.layers.1.mlp"][1])
    with model.trace(inputs):
        inside.output = inside.output * 0.5 + 0.25
        logits = final(model)
    assert torch.equal(logits, written)
    assert hook_count(module) == 0
