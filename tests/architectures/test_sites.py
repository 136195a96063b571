"""Every site of every architecture: read, written, out of order, ended early, resumed."""

from __future__ import annotations

import re

import pytest
import torch

from nnsight_magic import LanguageModel
from tests.architectures import families, models, reference
from tests.hooks import hook_count

# The real paths of the standard parts.
NAMES = {
    "gpt2": ("transformer.wte", "transformer.h", "transformer.ln_f", "lm_head", "attn", "mlp"),
    "llama": ("model.embed_tokens", "model.layers", "model.norm", "lm_head", "self_attn", "mlp"),
    "gpt_neox": (
        "gpt_neox.embed_in",
        "gpt_neox.layers",
        "gpt_neox.final_layer_norm",
        "lm_head",
        "attention",
        "mlp",
    ),
    "mixtral": ("model.embed_tokens", "model.layers", "model.norm", "lm_head", "self_attn", "mlp"),
    "mamba": ("backbone.embeddings", "backbone.layers", "backbone.norm_f", "lm_head", None, None),
    "t5": (
        "decoder.embed_tokens",
        "decoder.block",
        "decoder.final_layer_norm",
        "lm_head",
        "layer.0.SelfAttention",
        "layer.2.DenseReluDense",
    ),
    "whisper": (
        "model.decoder.embed_tokens",
        "model.decoder.layers",
        "model.decoder.layer_norm",
        "proj_out",
        "self_attn",
        None,
    ),
    "lora": (
        "base_model.model.model.embed_tokens",
        "base_model.model.model.layers",
        "base_model.model.model.norm",
        "base_model.model.lm_head",
        "self_attn",
        "mlp",
    ),
    "tied": ("model.embed_tokens", "model.layers", "model.norm", "lm_head", "self_attn", "mlp"),
}


@pytest.fixture(params=models.CASES)
def case(request):
    """(wrapped model, the module, its inputs)"""
    module, inputs = models.build(request.param)
    module.few = request.param in families.FAMILIES
    yield LanguageModel(module), module, inputs
    assert hook_count(module) == 0
    assert not any("forward" in vars(m) and not hasattr(m, "_hf_hook") for m in module.modules())


def at(value, path):
    for key in path:
        value = value[key]
    return value


def write(handle, path):
    """Half of what the site gives, and a bit more, put in its place."""
    if not path:
        handle._output = handle._output * 0.5 + 0.25
        return
    parts = at(handle._output, path[:-1])
    parts[path[-1]] = parts[path[-1]] * 0.5 + 0.25


def final(model):
    return reference.final(model.output).value


def looked_at(module, outputs):
    """Paths to try: of the many small families those outside the blocks and of the first one."""
    if not module.few:
        return outputs
    return {path: found for path, found in outputs.items() if not re.search(r"\.[1-9]\.", path)}


@pytest.mark.parametrize("name", NAMES)
def test_the_standard_names_stand_for_the_right_modules(name):
    embed, layers, norm, unembed, attn, mlp = NAMES[name]
    module, _ = models.build(name)
    model = LanguageModel(module)
    assert model.embed.module is module.get_submodule(embed)
    assert model.layers[1].path == f"{layers}.1"
    assert model.norm.path == norm
    assert model.unembed.path == unembed
    if attn is not None:
        assert model.layers[0].attn.path == f"{layers}.0.{attn}"
    if mlp is not None:
        assert model.layers[0].mlp.path == f"{layers}.0.{mlp}"


def test_every_output_is_what_a_hook_sees(case):
    model, module, inputs = case
    for path, (where, tensor) in looked_at(module, reference.outputs(module, inputs)).items():
        with model.trace(inputs, resume=False) as tracer:
            found = at(model[path]._output if path else model._output, where)
        assert torch.equal(found, tensor), path
        assert tracer.report.forwards == 1


def test_every_write_does_what_a_hook_does(case):
    model, module, inputs = case
    plain = reference.final(reference.run(module, inputs))
    changed = 0
    for path, (where, _) in looked_at(module, reference.outputs(module, inputs)).items():
        if not path:
            continue
        expected = reference.written(module, inputs, path)
        with model.trace(inputs):
            write(model[path], where)
            found = final(model)
        assert torch.equal(found, expected), path
        changed += not torch.equal(found, plain)
    assert changed > 5


def test_every_first_argument_is_what_a_hook_sees(case):
    model, module, inputs = case
    seen = {}
    handles = []
    for path, child in module.named_modules():

        def keep(module, args, kwargs, path=path):
            given = args[0] if args else next(iter(kwargs.values()), None)
            if path not in seen and isinstance(given, torch.Tensor):
                seen[path] = given.clone()

        handles.append(child.register_forward_pre_hook(keep, with_kwargs=True))
    reference.run(module, inputs)
    for handle in handles:
        handle.remove()
    for path, given in looked_at(module, seen).items():
        with model.trace(inputs):
            found = model[path].input if path else model.input
        assert torch.equal(found, given), path


def test_reads_in_any_order_give_the_same(case):
    model, module, inputs = case
    outputs = reference.outputs(module, inputs)
    chosen = [path for path in outputs if path][:: max(1, len(outputs) // 6)]
    with model.trace(inputs):
        found = {path: at(model[path]._output, outputs[path][0]) for path in reversed(chosen)}
    for path in chosen:
        assert torch.equal(found[path], outputs[path][1]), path


# All but ALBERT, which has one block and runs it many times.
@pytest.mark.parametrize("case", [name for name in models.CASES if name != "albert"], indirect=True)
def test_a_forward_ends_after_the_last_touch_and_the_next_one_resumes(case):
    model, module, inputs = case
    expected = reference.outputs(module, inputs)
    handle = model.blocks[1]
    for _ in range(3):
        with model.trace(inputs) as tracer:
            hidden = handle._output
            hidden = hidden if isinstance(hidden, torch.Tensor) else hidden[0]
        assert torch.equal(hidden, expected[handle.path][1])
        assert tracer.report.blocks_run + tracer.report.blocks_skipped == 2
        with model.trace(inputs):
            logits = final(model)
        assert torch.equal(logits, reference.final(reference.run(module, inputs)))
