"""The engine on an accelerator: the numbers of hand-written hooks, on the device, in any stream."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel
from nnsight_magic.errors import WrongValueError
from tests import tiny as tiny_models
from tests.engine.test_sweep import one_by_one
from tests.hooks import hook_count, hooked_block

pytestmark = pytest.mark.gpu

IDS = torch.arange(1, 11)[None]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(params=["gpt2", "llama"])
def name(request):
    return request.param


@pytest.fixture
def hf(name, device):
    return tiny_models.build(name).to(device)


@pytest.fixture
def model(hf):
    model = LanguageModel(hf)
    yield model
    assert hook_count(hf) == 0
    assert not any("forward" in vars(module) for module in hf.modules())


def plain(hf: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return hf(IDS.to(hf.device), use_cache=False).logits


def scaled(output):
    return (output[0] * 1.5, *output[1:]) if isinstance(output, tuple) else output * 1.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_reads_and_writes_are_those_of_a_hook(model, hf, device, dtype):
    hf.to(dtype)
    block = hf.get_submodule(model.layers[1].path)
    with hooked_block(block, scaled):
        expected = plain(hf)
    with model.trace(IDS):
        hidden = model.layers[1].output
        hidden *= 1.5
        logits = model.logits
    assert hidden.device.type == device and hidden.dtype == dtype
    assert torch.equal(logits, expected)


@pytest.mark.parametrize("write", ["number", "part", "tensor", "in place"])
def test_writes_need_no_word_about_the_device(model, hf, write):
    with model.trace(IDS):
        before = model.layers[1].output
    with model.trace(IDS):
        if write == "number":
            model.layers[1].output = 0.5
        elif write == "part":
            model.layers[1].output[:, -1] = before[:, 0]
        elif write == "tensor":
            model.layers[1].output = before.flip(1)
        else:
            model.layers[1].output += torch.ones_like(before)
        logits = model.logits
    assert logits.device == hf.device
    assert not torch.equal(logits, plain(hf))


def test_a_tensor_of_another_device_is_refused_by_name(model, cuda):
    with pytest.raises(WrongValueError, match="device"), model.trace(IDS):
        model.layers[1].output = torch.zeros(1, 10, tiny_models.HIDDEN)


@pytest.mark.parametrize("dtype", DTYPES)
def test_resume_gives_the_same_bits(model, hf, device, dtype):
    hf.to(dtype)
    expected = plain(hf)
    for _ in range(3):
        with model.trace(IDS) as tracer:
            hidden = model.layers[-1].output
            logits = model.logits
        assert torch.equal(logits, expected)
    assert tracer.report.blocks_skipped > 0
    assert hidden.device.type == device
    assert all(each.device.type == device for each in model.resume._outputs.values())


@pytest.mark.parametrize("pack", [True, False])
def test_a_sweep_gives_what_traces_give(model, pack):
    def patch(block, position):
        model.layers[block].output[:, position] = 0
        return model.logits[:, -1]

    variants = list(itertools.product(range(3), range(IDS.shape[1])))
    got = model.sweep(IDS, patch, variants, progress=False, pack=pack)
    for mine, theirs in zip(got, one_by_one(model, patch, variants, IDS), strict=True):
        torch.testing.assert_close(mine, theirs.value, atol=1e-4, rtol=1e-3)


def test_gradients(model, hf):
    with model.trace(IDS):
        hidden = model.layers[1].output
        model.logits[0, -1].logsumexp(-1).backward()
    kept = []

    def keep(output):
        tensor = output[0] if isinstance(output, tuple) else output
        tensor.retain_grad()
        kept.append(tensor)

    with hooked_block(hf.get_submodule(model.layers[1].path), keep):
        hf(IDS.to(hf.device), use_cache=False).logits[0, -1].logsumexp(-1).backward()
    torch.testing.assert_close(hidden.grad, kept[0].grad)


def test_generation(model, hf):
    ids = IDS.to(hf.device)
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    expected = hf.generate(ids, attention_mask=torch.ones_like(ids), **options)
    with model.generate(IDS, **options) as tracer:
        states = [model.layers[0].output[:, -1] for _ in tracer.steps]
    assert torch.equal(tracer.result, expected)
    assert len(states) == 5 and states[0].device == hf.device


def test_sampling_draws_the_same_tokens(model, hf):
    ids = IDS.to(hf.device)
    options = {"max_new_tokens": 5, "do_sample": True, "pad_token_id": 0}
    torch.manual_seed(0)
    expected = hf.generate(ids, attention_mask=torch.ones_like(ids), **options)
    torch.manual_seed(0)
    assert torch.equal(model.generate(IDS, **options), expected)


def test_autocast_reaches_the_forward(model, hf, device):
    kind = torch.device(device).type
    with torch.autocast(kind, torch.bfloat16):
        expected = plain(hf)
        with model.trace(IDS):
            model.layers[0].output.save()
            logits = model.logits
    assert logits.dtype == expected.dtype
    assert torch.equal(logits, expected)


def busy() -> torch.Tensor:
    """Work that keeps a stream busy for some milliseconds."""
    x = torch.rand(2000, 2000, device="cuda")
    for _ in range(30):
        x = x @ x / 1000
    return x


def test_a_trace_in_a_stream_of_its_own(model, hf, stream):
    expected = plain(hf)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        busy()
        with model.trace(IDS, resume=False):
            hidden = model.layers[1].output
            logits = model.logits
        assert torch.cuda.current_stream() == stream
    stream.synchronize()
    assert torch.equal(logits, expected) and hidden.isfinite().all()


def test_a_stream_inside_a_trace_keeps_the_order_of_the_program(model, hf, stream):
    block = hf.get_submodule(model.layers[1].path)
    with hooked_block(block, scaled):
        expected = plain(hf)
    for _ in range(20):
        with model.trace(IDS, resume=False):
            with torch.cuda.stream(stream):
                hidden = model.layers[1].output
                busy()  # the write comes late on the device
                hidden *= 1.5
                logits = model.logits  # and the forward has to wait for it
                assert torch.cuda.current_stream() == stream
            again = model.norm.output
        torch.cuda.synchronize()
        assert torch.equal(logits, expected)
        assert again.isfinite().all()


def test_a_stream_that_the_model_uses_itself_is_not_the_users(model, hf, stream):
    block = hf.get_submodule(model.layers[1].path)
    forward = block.forward

    def in_stream(*args, **kwargs):
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = forward(*args, **kwargs)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    expected = plain(hf)
    block.forward = in_stream
    before = torch.cuda.current_stream()
    try:
        with model.trace(IDS, resume=False):
            model.layers[1].mlp.output.save()  # stands still inside the stream's block
            assert torch.cuda.current_stream() == before
            logits = model.logits
    finally:
        del block.forward
    torch.cuda.synchronize()
    assert torch.equal(logits, expected)


def test_no_memory_of_the_device_is_kept(model, cuda):
    def run():
        with model.trace(IDS, resume=False):
            model.layers[1].output *= 0.5
            return model.logits[0, -1].argmax().item()

    run()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(50):
        run()
    assert torch.cuda.memory_allocated() <= before


@pytest.mark.parametrize("how", ["cpu_offload", "disk_offload"])
def test_an_offloaded_model(name, device, how, tmp_path):
    import accelerate

    hf = tiny_models.build(name)
    place = torch.device(device)
    expected = plain(tiny_models.build(name).to(place))
    if how == "cpu_offload":
        accelerate.cpu_offload(hf, execution_device=place)
    else:
        accelerate.disk_offload(hf, tmp_path, execution_device=place)
    model = LanguageModel(hf)
    with model.trace(IDS.to(place)):
        hidden = model.layers[1].output
        logits = model.logits
    assert hidden.device.type == place.type
    torch.testing.assert_close(logits.value.to(place), expected)
