"""Whatever was done with a model, and however it ended: every module is as it was before."""

from __future__ import annotations

import contextlib
import copy
import logging
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel
from nnsight_magic.errors import (
    AlreadyRanError,
    EditError,
    NoSuchModuleError,
    NoSuchOperationError,
    WrongValueError,
)
from tests.architectures import models, reference


class Boom(BaseException):
    """What no `except Exception` on the way holds up."""


@pytest.fixture(params=list(models.CASES))
def case(request):
    module, inputs = models.build(request.param)
    return LanguageModel(module), module, inputs


def state(module: nn.Module) -> dict[tuple[str, str], Any]:
    """Every attribute of every module and of its class, by what it is and holds."""
    found: dict[tuple[str, str], Any] = {}
    for path, each in module.named_modules():
        for where, attributes in (("", vars(each)), ("class ", vars(type(each)))):
            for name, value in attributes.items():
                inner = list(value.items()) if isinstance(value, dict) else value
                held = [(key, id(item)) for key, item in inner] if inner is not value else id(value)
                found[path, where + name] = held
    return found


def numbers(module: nn.Module) -> dict[str, torch.Tensor]:
    held = [*module.named_parameters(), *module.named_buffers()]
    return {
        name: tensor.detach().clone() for name, tensor in held if tensor.layout == torch.strided
    }


def process() -> tuple:
    """What belongs to the thread and the process."""
    everywhere = nn.modules.module
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch._C._len_torch_function_stack(),
        signal.getsignal(signal.SIGINT),
        [len(handler.filters) for handler in logging.getLogger("transformers").handlers],
        len(everywhere._global_forward_hooks) + len(everywhere._global_forward_pre_hooks),
    )


def sites(model: LanguageModel) -> list[Any]:
    """Two modules that lie one behind the other, and run once or more."""
    if model.block_count > 1:
        return [model.blocks[0], model.blocks[1]]
    paths = [name for name, each in model.module.named_modules() if isinstance(each, nn.LayerNorm)]
    return [model[paths[0]], model[paths[-1]]]


def first(site: Any) -> torch.Tensor:
    return reference.first(site._output)[1]


def end(model: LanguageModel) -> torch.Tensor:
    return reference.final(model.output)


# ── what is done ─────────────────────────────────────────────────────────────────────────


def read_and_write(model, inputs):
    early, late = sites(model)
    with model.trace(inputs):
        _ = late.input
        first(early)[:] = 0
        end(model)


def read_backwards(model, inputs):
    early, late = sites(model)
    with model.trace(inputs):
        first(late)
        first(early)
        raise Boom


def write_too_late(model, inputs):
    early, late = sites(model)
    with model.trace(inputs):
        hidden = first(early)
        first(late)
        hidden += 1


def write_what_does_not_fit(model, inputs):
    with model.trace(inputs):
        sites(model)[0].output = torch.zeros(7, 7)


def skip(model, inputs):
    early, late = sites(model)
    with model.trace(inputs):
        late.skip(early._output if early.path != late.path else late.input)
        end(model)


def look_into_attention(model, inputs):
    for block in model.blocks[:2]:
        with model.trace(inputs):
            block.attn.pattern[:, 0] = 0
            first(block)


def look_into_operations(model, inputs):
    early, _ = sites(model)
    with model.trace(inputs):
        _ = early.ops.no_such_operation[0].output


def stop(model, inputs):
    early, _ = sites(model)
    with model.trace(inputs) as tracer:
        first(early)
        tracer.stop()


def fail_in_the_model(model, inputs):
    early, late = sites(model)

    def fails(module, args):
        raise Boom

    hook = late.module.register_forward_pre_hook(fails)
    try:
        with model.trace(inputs):
            first(early)
            end(model)
    finally:
        hook.remove()


def gradients(model, inputs):
    early, _ = sites(model)
    with model.trace(inputs, grad=True):
        hidden = first(early)
        end(model).sum().backward()
        _ = hidden.grad
    model.module.zero_grad(set_to_none=True)


def edit(model, inputs):
    early, _ = sites(model)
    try:
        with model.edit("off"):
            early.output[:] = 0
        with model.trace(inputs):
            end(model)
    finally:
        model.edits.clear()


def sweep(model, inputs):
    def change(number):
        hidden = first(sites(model)[0])
        if number == 2:
            raise Boom
        return hidden

    model.sweep(inputs, change, range(3), progress=False)


def invokes(model, inputs):
    early, late = sites(model)
    with model.trace() as tracer:
        with tracer.invoke(inputs):
            first(late)
            first(early)
        with tracer.invoke(inputs):
            first(early)
            raise Boom


def keep_everything(model, inputs):
    with model.trace(inputs) as tracer:
        tracer.cache()


def attach(model, inputs):
    early, _ = sites(model)
    early.probe = nn.Identity()
    try:
        with model.trace(inputs):
            early.probe(first(early))
            _ = early.probe.output
    finally:
        del early.probe


def generate(model, inputs, error=None):
    given = {name: value for name, value in inputs.items() if not name.startswith("decoder")}
    with model.generate(given, max_new_tokens=3, do_sample=False) as tracer:
        for step in tracer.steps:
            first(sites(model)[0])
            if step == 1 and error is not None:
                raise error
            first(sites(model)[1])


def fail_in_a_generation(model, inputs):
    generate(model, inputs, Boom)


WORK = [
    read_and_write,
    read_backwards,
    write_too_late,
    write_what_does_not_fit,
    skip,
    look_into_attention,
    look_into_operations,
    stop,
    fail_in_the_model,
    gradients,
    edit,
    sweep,
    invokes,
    keep_everything,
    attach,
]
EXPECTED = (
    Boom,
    AlreadyRanError,
    WrongValueError,
    EditError,
    NoSuchModuleError,
    NoSuchOperationError,
    AttributeError,  # from a block without attention
    KeyError,  # Gemma-3n's own, where a block was skipped whose keys a later one takes
)


@contextlib.contextmanager
def nothing_left(model: LanguageModel, what: str) -> Iterator[None]:
    module = model.module
    before, around, weights = state(module), process(), numbers(module)
    yield
    after = state(module)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert not changed, what
    assert process() == around, what
    turn = model._turn
    assert not turn.locked() and turn.owner is None and turn.active is None, what
    for name, now in numbers(module).items():
        assert torch.equal(now, weights[name]), f"{what}: {name}"


def test_after_traces_of_every_kind_every_module_is_as_it_was(case):
    model, module, inputs = case
    reference.run(module, inputs)  # what transformers itself notes at a first forward
    expected = reference.final(reference.run(module, inputs))
    config = copy.deepcopy(getattr(module, "config", None))
    for work in WORK:
        with nothing_left(model, work.__name__), contextlib.suppress(*EXPECTED):
            work(model, inputs)
    assert getattr(module, "config", None) == config
    assert torch.equal(reference.final(reference.run(module, inputs)), expected)


WITHOUT_END = ("vit", "clip", "bert", "modernbert", "albert")
GENERATING = [name for name in models.CASES if name not in WITHOUT_END]


@pytest.mark.parametrize("case", GENERATING, indirect=True)
def test_after_generations_every_module_is_as_it_was(case):
    model, module, inputs = case
    given = {name: value for name, value in inputs.items() if not name.startswith("decoder")}
    plain = module.generate(**given, max_new_tokens=3, do_sample=False)
    for work in (generate, fail_in_a_generation):
        with nothing_left(model, work.__name__), contextlib.suppress(*EXPECTED):
            work(model, inputs)
    assert torch.equal(module.generate(**given, max_new_tokens=3, do_sample=False), plain)
