"""What the memory of blocks does is told to `logging`, under the package's name; warnings are of
the package's own class."""

from __future__ import annotations

import ast
import json
import logging
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import nnsight_magic
from nnsight_magic import Model, errors
from nnsight_magic.errors import NnsightWarning, ThreadsWarning
from nnsight_magic.loading.load import open_source

PACKAGE = Path(nnsight_magic.__file__).parent


@pytest.fixture
def module():
    torch.manual_seed(0)
    config = GPT2Config(n_layer=4, n_embd=16, n_head=2, vocab_size=32, n_positions=16)
    return GPT2LMHeadModel(config).eval()


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, logger="nnsight_magic")
    return caplog


def read(module, **options):
    model = Model(module)
    with model.trace(torch.arange(5)[None], use_cache=False, **options):
        model.layers[3].output.save()


def test_what_is_remembered_and_resumed_is_logged(module, log):
    model = Model(module)
    for _ in range(3):
        with model.trace(torch.arange(5)[None], use_cache=False):
            model.layers[3].output.save()
    assert "remembered block" in log.text and "resumed behind block" in log.text
    module.transformer.h[0].mlp.c_fc.weight.data.zero_()
    with model.trace(torch.arange(5)[None], use_cache=False):
        model.layers[3].output.save()
    assert "forgot 2 block outputs" in log.text
    assert not logging.getLogger("nnsight_magic").handlers


class Wrapper(torch.Tensor):
    """Its numbers are in no tensor that can be found."""

    @staticmethod
    def __new__(cls, shape):
        return torch.Tensor._make_wrapper_subclass(cls, shape)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return func(*[torch.zeros(1) if isinstance(a, cls) else a for a in args], **(kwargs or {}))


class Mode(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@contextmanager
def hook_of_a_module(module):
    with closing(module.transformer.h[0].register_forward_hook(lambda *_: None)):
        yield


@contextmanager
def hook_of_all_modules(_):
    with closing(torch.nn.modules.module.register_module_forward_hook(lambda *_: None)):
        yield


@contextmanager
def training_mode(module):
    yield module.transformer.h[2].train()


@contextmanager
def weight_out_of_sight(module):
    module.transformer.h[1].register_buffer("far", Wrapper((2,)), persistent=False)
    yield


@contextmanager
def mode_of_other_code(_):
    with Mode():
        yield


@contextmanager
def closing(handle):
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (hook_of_a_module, "a module has a hook of other code"),
        (hook_of_all_modules, "a hook of other code is registered for all modules"),
        (training_mode, "a module is in training mode, where chance has a say"),
        (weight_out_of_sight, "a weight keeps its numbers where they cannot be looked at"),
        (mode_of_other_code, "functions of torch are intercepted by a mode of other code"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_why_nothing_is_remembered_is_said_for_each_cause(module, log, cause, said):
    read(module)
    assert "nothing is remembered" not in log.text
    with cause(module):
        read(module)
    given = [r.getMessage() for r in log.records if r.getMessage().startswith("nothing is")]
    assert given and all(said in each for each in given), given


def test_the_argument_that_cannot_be_compared_is_named(module, log):
    read(module, attention_mask=torch.ones(1, 5).requires_grad_())
    assert "the argument 'attention_mask' is a tensor that requires a gradient" in log.text


def test_a_forward_that_is_given_up_in_the_midst_is_told(module, log):
    model = Model(module)
    for _ in range(2):
        with model.trace(torch.arange(5)[None], use_cache=False):
            model.layers[1].output.save()
            module.transformer.h[3].mlp.act = torch.nn.GELU()
            model.layers[3].output.save()
    assert "gave up on this forward" in log.text


def test_every_warning_of_the_package_is_of_its_own_class():
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
            if name in ("warnings.warn", "warn", "warnings.warn_explicit"):
                given = [call.args[1], *(k.value for k in call.keywords if k.arg == "category")]
                found.append((file.name, getattr(errors, ast.unparse(given[0]), None)))
    assert len(found) >= 4
    assert [each for each in found if not issubclass(each[1] or Warning, NnsightWarning)] == []


def test_parameters_that_are_random_are_warned_of_each_time_and_can_be_silenced(tmp_path, tiny):
    tiny("llama").model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    named = {**config, "architectures": ["LlamaForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(named))
    for action, count in (("default", 2), ("ignore", 0)):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter(action, NnsightWarning)
            for _ in range(2):
                open_source(tmp_path).weights()
        assert len([each for each in seen if each.category is NnsightWarning]) == count


def test_one_class_silences_the_warnings_of_this_package():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", NnsightWarning)
        warnings.warn("threads", ThreadsWarning, stacklevel=1)
        warnings.warn("of another", UserWarning, stacklevel=1)
    assert [str(each.message) for each in seen] == ["of another"]
    assert issubclass(ThreadsWarning, RuntimeWarning)
