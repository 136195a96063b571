"""Where a library is inside not as it is known, more is run, and that is said once."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers.utils.deprecation import deprecate_kwarg

from nnsight_magic import LanguageModel
from nnsight_magic.engine.insides import torch_insides, transformers_insides, unlike
from nnsight_magic.engine.running.hooks import captures_behind
from nnsight_magic.engine.running.options import check_options
from nnsight_magic.engine.running.scan import ScanError
from nnsight_magic.errors import NnsightWarning, UnknownOptionError
from tests import tiny

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])

# Each hides one inside, and with it what was remembered from one forward to the next.
OF_RESUME = {
    "how many function modes": (torch._C, ["_len_torch_function_stack"]),
    "which function modes": (torch._C, ["_get_function_stack_at"]),
    "how to change function modes": (torch._C, ["_push_on_torch_function_stack"]),
    "how many dispatch modes": (torch._C, ["_len_torch_dispatch_stack"]),
    "global hooks": (nn.modules.module, ["_has_any_global_hook", "_global_forward_hooks"]),
}
if hasattr(torch.backends, "fp32_precision"):  # there is something to be read
    OF_RESUME["precision"] = (torch._C, ["_get_fp32_precision_getter"])
# Each hides one that has a slower twin: everything goes on as before.
WITH_A_TWIN = {
    "plain tensors": (torch._C, ["_disabled_torch_function_impl"]),
    "grad mode": (torch._C, ["_set_grad_enabled"]),
    "autocast": (torch._C, ["_is_any_autocast_enabled"]),
    "global hooks at once": (nn.modules.module, ["_has_any_global_hook"]),
    "the default device": (torch.utils._device, ["DeviceContext"]),
}


@pytest.fixture
def said(monkeypatch) -> None:
    """Nothing was said in this process so far."""
    monkeypatch.setattr(unlike, "_said", set())


@pytest.fixture
def torch_without(said) -> Iterator:
    """The package as it is with a torch that has none of these names."""

    def hide(place, names: list[str]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name in names:
                patch.delattr(place, name, raising=False)
            importlib.reload(torch_insides)

    yield hide
    importlib.reload(torch_insides)


def plain_logits(hf: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return hf(IDS, use_cache=False).logits  # as a trace calls it


def read(model: LanguageModel) -> tuple[torch.Tensor, torch.Tensor, int]:
    """A block's output and the logits; and how many block outputs are remembered then."""
    with model.trace(IDS):
        hidden = model.layers[1].output.save()
        logits = model.logits.save()
    return hidden, logits, len(model.resume)


@pytest.mark.parametrize("name", OF_RESUME)
def test_what_cannot_be_told_is_not_remembered(name, torch_without):
    place, names = OF_RESUME[name]
    torch_without(place, names)
    hf = tiny.build("llama")
    model = LanguageModel(hf)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always", NnsightWarning)
        for _ in range(3):
            _, logits, remembered = read(model)
            assert torch.equal(logits, plain_logits(hf))
            assert not remembered
        with torch.no_grad():
            hf.model.layers[0].mlp.up_proj.weight.data[0, 0] += 1
        assert torch.equal(read(model)[1], plain_logits(hf))
    ours = [each for each in shown if issubclass(each.category, NnsightWarning)]
    assert len(ours) == 1
    assert names[-1] in str(ours[0].message) or "function_stack" in str(ours[0].message)
    assert torch.__version__ in str(ours[0].message)


@pytest.mark.parametrize("name", WITH_A_TWIN)
def test_what_has_a_public_twin_goes_on_as_before(name, torch_without):
    torch_without(*WITH_A_TWIN[name])
    hf = tiny.build("gpt2")
    model = LanguageModel(hf)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NnsightWarning)
        for _ in range(2):
            with model.trace(IDS):
                model.layers[0].output[:, -1] = 0
                written = model.logits.save()
            _, logits, remembered = read(model)
            assert torch.equal(logits, plain_logits(hf))
            assert remembered
        hook = hf.transformer.h[0].register_forward_hook(
            lambda module, args, out: (
                torch.cat([out[:, :-1], torch.zeros_like(out[:, -1:])], 1)
                if isinstance(out, torch.Tensor)
                else (torch.cat([out[0][:, :-1], torch.zeros_like(out[0][:, -1:])], 1), *out[1:])
            )
        )
        assert torch.equal(written, plain_logits(hf))
        hook.remove()
        with model.trace(IDS, grad=True), torch.autocast("cpu", torch.bfloat16):
            assert model.layers[0].output.dtype == torch.float32
            assert torch.is_autocast_enabled("cpu")
        assert not torch.is_autocast_enabled("cpu")


def test_a_mode_of_the_users_is_said_to_reach_into_the_forward(torch_without):
    class Counts(TorchFunctionMode):
        count = 0

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.count += 1
            return func(*args, **(kwargs or {}))

    torch_without(torch._C, ["_get_function_stack_at"])
    hf = tiny.build("gpt2")
    model, mode = LanguageModel(hf), Counts()

    def run() -> torch.Tensor:
        with model.trace(IDS):
            model.layers[0].output[:] *= 1
            with mode:
                logits = model.logits.save()
        return logits

    with pytest.warns(NnsightWarning, match="function mode"):
        logits = run()
    assert mode.count
    assert torch.equal(logits, plain_logits(hf))


def test_scan_refuses_in_words(torch_without):
    torch_without(torch._subclasses.fake_tensor, ["FakeTensorMode"])
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(torch._subclasses.fake_tensor, "FakeTensorMode")
        with pytest.raises(ScanError, match=r"shapes alone.*\nRun a trace instead"):
            LanguageModel(tiny.build("gpt2")).scan(IDS)


def swept(model: LanguageModel) -> list[torch.Tensor]:
    def zeroed(position: int) -> torch.Tensor:
        model.layers[1].output[:, position] = 0
        return model.logits[:, -1].save()

    return model.sweep(IDS, zeroed, range(3), progress=False)


def by_hand(hf: nn.Module, position: int) -> torch.Tensor:
    def zero(module, args, output):
        hidden = (output if isinstance(output, torch.Tensor) else output[0]).clone()
        hidden[:, position] = 0
        return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

    hook = hf.model.layers[1].register_forward_hook(zero)
    try:
        return plain_logits(hf)[:, -1]
    finally:
        hook.remove()


def check_sweep() -> None:
    hf = tiny.build("llama")
    model = LanguageModel(hf)
    for position, found in enumerate(swept(model)):
        torch.testing.assert_close(found, by_hand(hf, position))


@pytest.mark.filterwarnings("error::nnsight_magic.errors.NnsightWarning")
def test_variants_run_whole_where_a_decoder_takes_its_cache_by_another_name(said, monkeypatch):
    monkeypatch.setattr(transformers_insides, "_CACHES", ("renamed",))
    with pytest.warns(NnsightWarning, match="all their tokens") as shown:
        check_sweep()
    check_sweep()
    assert len([each for each in shown if each.category is NnsightWarning]) == 1


def test_variants_run_whole_where_a_cache_keeps_its_keys_elsewhere(said, monkeypatch):
    found = transformers_insides.keys_and_values
    monkeypatch.setattr(transformers_insides, "keys_and_values", lambda cache: found(object()))
    with pytest.warns(NnsightWarning, match="DynamicCache.layers"):
        check_sweep()


def test_a_configuration_that_does_not_tell_of_its_attention(said):
    class Config:
        def to_diff_dict(self): ...

    with pytest.warns(NnsightWarning, match="_attn_implementation"):
        once = transformers_insides.attention_of(Config())
    assert once != transformers_insides.attention_of(Config())  # nothing is known by it
    assert transformers_insides.attention_of(None) is None
    assert transformers_insides.attention_of(tiny.build("llama").config) == "sdpa"


class Renamed(nn.Module):
    @deprecate_kwarg("old_mask", version="99.0.0", new_name="mask")
    def forward(self, x, mask=None):
        return x


def test_an_argument_may_go_by_its_earlier_name():
    check_options("trace", [], ["mask", "old_mask"], Renamed())
    with pytest.raises(UnknownOptionError, match="'old_mask'"):
        check_options("trace", [], ["old_musk"], Renamed())


OTHER_DECORATOR = """
import functools
def renames(earlier):
    def decorate(forward):
        @functools.wraps(forward)
        def handed_on(*args, **kwargs):
            return forward(*args, **{name.removeprefix(earlier): v for name, v in kwargs.items()})
        return handed_on
    return decorate
"""


def test_where_earlier_names_cannot_be_found_out_only_misspelt_ones_are_refused():
    names: dict = {}
    exec(compile(OTHER_DECORATOR, "transformers/utils/deprecation.py", "exec"), names)

    class Module(nn.Module):
        @names["renames"]("old_")
        def forward(self, x, mask=None):
            return x

    check_options("trace", [], ["old_and_unknown"], Module())
    with pytest.raises(UnknownOptionError, match="'mask'"):
        check_options("trace", [], ["masc"], Module())


def test_hooks_that_note_outputs_are_found_wherever_transformers_keeps_them(said, monkeypatch):
    monkeypatch.setattr(transformers_insides, "_CAPTURING", "transformers.no_such_module")
    monkeypatch.setattr(transformers_insides, "_captures_by_hooks", lambda: True)
    transformers_insides._knows_capturing.cache_clear()
    module, seen = nn.Linear(2, 2), []

    def note(module, args, output):
        seen.append(output)

    note.__module__ = "transformers.somewhere.else"
    module.register_forward_hook(note)
    module.register_forward_hook(lambda module, args, output: output * 0)
    with pytest.warns(NnsightWarning, match="no_such_module"):
        captures_behind(module)
    assert torch.equal(module(torch.ones(1, 2)), seen[0])
    transformers_insides._knows_capturing.cache_clear()


def test_a_forward_that_is_cut_short_leaves_nothing_that_notes_hidden_states():
    hf = tiny.build("llama")
    model = LanguageModel(hf)
    for _ in range(2):
        with model.trace(IDS, output_hidden_states=True):
            model.layers[0].mlp.skip(torch.zeros(1, 6, 32))
            model.layers[1].output  # noqa: B018
        assert not [name for name, module in hf.named_modules() if "forward" in vars(module)]
