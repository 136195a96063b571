"""Operations inside a forward, compared with transformers' own outputs, hooks and plain torch."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from nnsight_magic import LanguageModel
from nnsight_magic.engine.model.model import Model
from nnsight_magic.errors import (
    AlreadyRanError,
    NeverRanError,
    NnsightError,
    NoSuchOperationError,
    NoTraceError,
    WrongValueError,
)
from tests.hooks import hook_count, hooked

IDS = torch.tensor([[1, 2, 3, 4, 5]])


@pytest.fixture
def hf(tiny):
    hf = tiny("gpt2")
    hf.set_attn_implementation("eager")
    return hf


def logits_of(hf, ids=IDS):
    with torch.no_grad():
        return hf(ids, use_cache=False).logits


@contextmanager
def replaced_softmax(number: int, change):
    """The reference: softmax itself replaced in torch, for its `number`-th call."""
    real, calls = F.softmax, []

    def softmax(*args, **kwargs):
        calls.append(None)
        result = real(*args, **kwargs)
        return change(result) if len(calls) - 1 == number else result

    F.softmax = softmax
    try:
        yield
    finally:
        F.softmax = real


# ── reading ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "mixtral", "bert"])
def test_the_softmax_is_the_attention_that_transformers_reports(tiny, name):
    hf = tiny(name)
    hf.set_attn_implementation("eager")
    with torch.no_grad():
        expected = hf(IDS, output_attentions=True).attentions
    model = LanguageModel(hf)
    for index, attention in enumerate(expected):
        attn = model.layers[index].attn
        with model.trace(IDS):
            where = attn if name != "bert" else attn["self"]
            pattern = where.ops.softmax[0].output
        assert torch.equal(pattern, attention)


def test_the_softmax_of_a_vision_model_is_its_attention(tiny):
    hf = tiny("vit")
    hf.set_attn_implementation("eager")
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = hf(pixels, output_attentions=True).attentions[1]
    model = LanguageModel(hf)
    with model.trace({"pixel_values": pixels}):
        pattern = model.layers[1].attn.ops.softmax.output
    assert torch.equal(pattern, expected)


def test_every_spelling_addresses_the_same_operation(model):
    with model.trace(IDS):
        ops = model.layers[1].attn.ops
        first = ops["softmax", 0].output
        assert torch.equal(first, ops["softmax"].output)
        assert torch.equal(first, ops.softmax[0].output)
        assert torch.equal(first, ops.softmax.output)
    assert first.where == "layers[1].attn.ops.softmax[0].output"


def test_scaled_dot_product_attention_gives_what_its_inputs_say(tiny):
    hf = tiny("llama")
    hf.set_attn_implementation("sdpa")
    model = LanguageModel(hf)
    with model.trace(IDS):
        attention = model.layers[1].attn.ops.scaled_dot_product_attention
        args, kwargs = attention.inputs.value
        query = attention.input
        output = attention.output
    assert torch.equal(query, args[0])
    assert torch.equal(output, F.scaled_dot_product_attention(*args, **kwargs))


def test_rotary_embeddings_are_read_where_they_are_applied(tiny):
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    hf = tiny("llama")
    model = LanguageModel(hf)
    with model.trace(IDS):
        cosine, sine = model.model.rotary_emb.output
        attn = model.layers[1].attn
        query, key = attn.q_proj.output.value, attn.k_proj.output.value
    with model.trace(IDS):
        rotated = [model.layers[1].attn.ops.add[i].output for i in (0, 1)]
    size = hf.config.head_dim or hf.config.hidden_size // hf.config.num_attention_heads
    heads = [t.view(1, 5, -1, size).transpose(1, 2) for t in (query, key)]
    expected = apply_rotary_pos_emb(*heads, cosine.value, sine.value)
    assert all(torch.equal(a, b) for a, b in zip(rotated, expected, strict=True))


def test_activations_and_linear_maps_are_operations_of_their_own_modules(tiny):
    model = LanguageModel(tiny("llama"))
    with model.trace(IDS):
        mlp = model.layers[1].mlp
        gate = mlp.gate_proj.ops.linear.output
        before = mlp.act_fn.ops.silu.input
        product = mlp.ops.mul.output
        given = mlp.down_proj.input
    assert torch.equal(gate, before)
    assert torch.equal(product, given)


def test_the_residual_stream_is_a_sum_of_parts(model):
    with model.trace(IDS):
        block = model.layers[1]
        start = block.input
        middle = block.ops.add[0].output
        written = block.ops.add[1].inputs
        mlp = written[0][1]
        end = block.ops.add[1].output
        given = block.output
    with model.trace(IDS):
        attn = model.layers[1].attn.output[0]
        expected = model.layers[1].mlp.output
    assert torch.equal(middle, attn + start)
    assert torch.equal(mlp, expected)
    assert torch.equal(end, middle + mlp)
    assert torch.equal(end, given)


def test_operations_in_order_need_one_forward_and_end_it_early(model):
    with model.trace(IDS, resume=False) as tracer:
        _ = model.layers[0].attn.ops.softmax.output
        _ = model.layers[1].attn.ops.matmul[0].input
        _ = model.layers[1].attn.ops.matmul[1].output
    assert tracer.report.forwards == 1
    assert tracer.report.blocks_run == 2
    assert tracer.report.stopped_at == "layers[1].attn.ops.matmul[1].output"


def test_a_forward_that_stands_in_a_module_above_the_blocks_counts_those_that_ran(model):
    with model.trace(IDS, resume=False) as tracer:
        embedded = model.transformer.ops.add[1].output  # tokens + positions
    assert tracer.report.blocks_run == 0
    with model.trace(IDS):
        assert torch.equal(embedded, model.layers[0].input)


def test_what_submodules_and_the_user_do_is_not_counted(tiny):
    model = LanguageModel(tiny("llama"))
    with model.trace(IDS):
        block = model.layers[1]
        start = block.input
        _ = (start + 1) + 1  # an `add` of the user's, while the block is about to run
        middle = block.ops.add[0].output
        _ = middle + 1
        end = block.ops.add[1].output
        assert torch.equal(block.output, end)
    with model.trace(IDS):  # attention adds too, four times, between these two
        assert torch.equal(middle, model.layers[1].post_attention_layernorm.input)


def test_a_saved_value_stays_as_it_was_read(model):
    with model.trace(IDS):
        pattern = model.layers[1].attn.ops.softmax.output.save()
        before = pattern.clone()
        model.layers[1].attn.ops.softmax.output = 0
        _ = model.logits
    assert torch.equal(pattern, before)


# ── writing ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("spelling", ["whole", "part", "augmented"])
def test_writing_an_attention_pattern_equals_a_replaced_softmax(model, hf, spelling):
    def change(pattern):
        pattern = pattern.clone()
        if spelling == "part":
            pattern[:, 1] = 0.2
            return pattern
        return pattern * 0.5

    with replaced_softmax(1, change):
        expected = logits_of(hf)
    with model.trace(IDS):
        softmax = model.layers[1].attn.ops.softmax
        match spelling:
            case "whole":
                softmax.output = softmax.output * 0.5
            case "part":
                softmax.output[:, 1] = 0.2
            case "augmented":
                softmax.output *= 0.5
        logits = model.logits
    assert not torch.equal(expected, logits_of(hf))
    assert torch.equal(logits, expected)


def test_writing_the_input_of_an_operation_equals_a_hook_before_it(model, hf):
    with hooked(hf.transformer.h[1].attn, lambda out: (out[0] * 0, *out[1:])):
        expected = logits_of(hf)
    with model.trace(IDS):
        model.layers[1].ops.add[0].input[:] = 0  # attention output + residual
        logits = model.logits
    assert torch.equal(logits, expected)


def test_a_head_is_silenced_in_scaled_dot_product_attention(tiny):
    hf = tiny("gpt2")
    hf.set_attn_implementation("sdpa")
    size = hf.config.n_embd // hf.config.n_head

    def without_head(module, args):
        merged = args[0].clone()
        merged[..., 2 * size : 3 * size] = 0
        return (merged,)

    hook = hf.transformer.h[1].attn.c_proj.register_forward_pre_hook(without_head)
    expected = logits_of(hf)
    hook.remove()
    model = LanguageModel(hf)
    with model.trace(IDS):
        model.layers[1].attn.ops.scaled_dot_product_attention.output[:, 2] = 0
        logits = model.logits
    assert torch.equal(logits, expected)


def test_arguments_by_position_and_by_keyword_can_be_written(model, hf):
    with replaced_softmax(1, lambda pattern: torch.full_like(pattern, 0.1)):
        expected = logits_of(hf)
    with model.trace(IDS):
        model.layers[1].attn.ops.matmul[1].inputs[0][0] = 0.1  # pattern @ values
        logits = model.logits
    assert torch.equal(logits, expected)
    with model.trace(IDS):
        softmax = model.layers[1].attn.ops.softmax
        softmax.inputs[1]["dim"] = -2
        columns = softmax.output.sum(-2)
    assert torch.allclose(columns, torch.ones_like(columns))


def test_operations_of_several_blocks_are_written_in_one_forward(model, hf):
    def run(scale):
        with model.trace(IDS) as tracer:
            for block in model.layers:
                block.ops.add[1].inputs[0][1] = block.ops.add[1].inputs[0][1] * scale
            logits = model.logits
        assert tracer.report.forwards == 1
        return logits

    hooks = [b.mlp.register_forward_hook(lambda m, a, out: out * 0.5) for b in hf.transformer.h]
    expected = logits_of(hf)
    for hook in hooks:
        hook.remove()
    assert torch.equal(run(0.5), expected)


class InPlace(nn.Module):
    """Operations that write into their tensors, which other names hold too."""

    def forward(self, x):
        y = x.clone()
        alias = y
        y += 1
        y.mul_(2)
        y[:, 0] = 7
        F.relu(y, inplace=True)
        return alias


@pytest.mark.parametrize(
    ("operation", "value"), [("add_", 1.0), ("mul_", 2.0), ("setitem", -3.0), ("relu", 4.0)]
)
def test_the_output_of_an_operation_in_place_is_its_tensor(operation, value):
    model = Model(nn.Sequential(InPlace()))
    steps = {
        "add_": torch.tensor([[7.0, value * 2]]),
        "mul_": torch.tensor([[7.0, value]]),
        "setitem": torch.tensor([[0.0, 0.0]]),
        "relu": torch.tensor([[value, value]]),
    }
    with model.trace(torch.zeros(1, 2)):
        model[0].ops[operation].output = value
        result = model.output
    assert torch.equal(result, steps[operation])


def test_the_input_of_an_operation_in_place_is_written_into_its_tensor():
    model = Model(nn.Sequential(InPlace()))
    with model.trace(torch.zeros(1, 2)):
        model[0].ops.mul_.input = 5
        result = model.output
    assert torch.equal(result, torch.tensor([[7.0, 10.0]]))


class Named(nn.Module):
    def forward(self, x):
        found = x.max(dim=-1)
        first, second = x.split(1, dim=-1)
        return found.values + found.indices + first + second


def test_operations_that_give_several_tensors_are_read_and_written_by_item():
    model = Model(nn.Sequential(Named()))
    with model.trace(torch.tensor([[1.0, 2.0]])):
        assert model[0].ops.max.output[1].item() == 1
        model[0].ops.max.output[0] = 10
        model[0].ops.split.output[1][:] = 100
        result = model.output
    assert result.item() == 10 + 1 + 1 + 100


# ── order ────────────────────────────────────────────────────────────────────────────────────


def test_an_operation_is_read_after_what_comes_later(model):
    with model.trace(IDS):
        expected = model.layers[0].attn.ops.softmax.output
    with model.trace(IDS) as tracer:
        _ = model.layers[2].output
        pattern = model.layers[0].attn.ops.softmax.output
    assert torch.equal(pattern, expected)
    assert tracer.report.notices


def test_a_write_that_comes_too_late_is_refused(model):
    with model.trace(IDS):
        _ = model.layers[1].output
        with pytest.raises(AlreadyRanError, match=r"layers\[0\].attn.ops.softmax\[0\].output"):
            model.layers[0].attn.ops.softmax.output = 0
        pattern = model.layers[2].attn.ops.softmax.output
        _ = model.logits
        with pytest.raises(AlreadyRanError):
            pattern[:] = 0


def test_an_operation_of_a_module_that_is_running_is_reached_with_all_writes(model, hf):
    block = hf.transformer.h[1]
    with (
        hooked(block.attn, lambda out: (out[0] * 2, *out[1:])),
        hooked(block.mlp, lambda out: out * 3),
    ):
        expected = logits_of(hf)
    with model.trace(IDS) as tracer:
        handle = model.layers[1]
        handle.attn.output[0][:] *= 2  # the forward stands inside the block
        handle.ops.add[1].inputs[0][1] *= 3  # the mlp's output
        logits = model.logits
    assert torch.equal(logits, expected)
    assert "counted from the start" in tracer.report.notices[0]


def test_modules_on_both_sides_of_an_operation_are_told_apart(model, hf):
    with model.trace(IDS):
        attn, mlp = model.layers[1].attn.output[0], model.layers[1].mlp.output
    with model.trace(IDS, resume=False) as tracer:
        _ = model.layers[1].ops.add[0].output
        ahead = model.layers[1].mlp.output
        assert tracer.report.forwards == 1
    assert torch.equal(ahead, mlp)
    with model.trace(IDS, resume=False) as tracer:
        _ = model.layers[1].ops.add[0].output
        behind = model.layers[1].attn.output[0]
    assert tracer.report.forwards == 2
    assert tracer.report.blocks_run == 2
    assert torch.equal(behind, attn)


def test_a_write_before_the_blocks_is_not_lost_to_remembered_blocks(model, hf):
    with hooked(hf.transformer.drop, lambda out: out * 2):
        expected = logits_of(hf)
    for _ in range(2):
        with model.trace(IDS):
            _ = model.layers[2].output  # remembered
    with model.trace(IDS):
        model.transformer.ops.add[1].output *= 2  # tokens + positions
        logits = model.logits
    assert torch.equal(logits, expected)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = InPlace()

    def forward(self, x):
        return self.shared(self.shared(x) * 10)


def test_each_call_of_a_shared_module_has_its_operations():
    model = Model(Twice())
    with model.trace(torch.zeros(1, 2)):
        first = model.shared.ops.add_.output
        second = model.shared.calls[1].ops.add_.output
    assert first.tolist() == [[1, 1]]
    assert second.tolist() == [[71, 21]]


# ── generation, several prompts, gradients ───────────────────────────────────────────────────


def test_every_step_of_a_generation_has_its_operations(model, hf):
    with model.generate(IDS, max_new_tokens=3, do_sample=False) as tracer:
        shapes = [tuple(model.layers[1].attn.ops.softmax.output.shape) for _ in tracer.steps]
    heads = hf.config.n_head
    assert shapes == [(1, heads, 5, 5), (1, heads, 1, 6), (1, heads, 1, 7)]
    plain = hf.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=3, do_sample=False)
    assert torch.equal(tracer.result, plain)


def test_steering_an_operation_at_every_step_equals_hooks(model, hf):
    ones = torch.ones_like(IDS)
    hook = hf.transformer.h[1].mlp.register_forward_hook(lambda m, a, out: out * -3)
    expected = hf.generate(IDS, attention_mask=ones, max_new_tokens=6, do_sample=False)
    hook.remove()
    with model.generate(IDS, max_new_tokens=6, do_sample=False) as tracer:
        for _ in tracer.steps:
            model.layers[1].ops.add[1].inputs[0][1] *= -3
    assert torch.equal(tracer.result, expected)


def test_a_running_module_can_be_looked_into_in_the_middle_of_a_generation(model):
    def run(first):
        kept = []
        with model.generate(IDS, max_new_tokens=3, do_sample=False) as tracer:
            for step in tracer.steps:
                if first and step.index == 1:
                    _ = model.layers[1].attn.output
                kept.append(model.layers[1].ops.add[0].output.clone())
        return kept, tracer.result

    (kept, text), (expected, same) = run(True), run(False)
    assert len(kept) == len(expected) == 3
    assert all(torch.equal(a, b) for a, b in zip(kept, expected, strict=True))
    assert torch.equal(text, same)


def test_a_pattern_of_one_prompt_is_patched_into_another(model, hf):
    other = torch.tensor([[9, 8, 7, 6, 5]])
    clean = deepcopy(hf)(IDS, output_attentions=True, use_cache=False).attentions[1].detach()
    with replaced_softmax(1, lambda pattern: clean):
        expected = logits_of(hf, other)
    with model.trace() as tracer:
        with tracer.invoke(IDS):
            pattern = model.layers[1].attn.ops.softmax.output
        with tracer.invoke(other):
            model.layers[1].attn.ops.softmax.output = pattern
            logits = model.logits
    assert torch.equal(logits, expected)


def test_the_gradient_at_a_pattern_is_that_of_autograd(model, hf):
    reference = deepcopy(hf)(IDS, output_attentions=True, use_cache=False)
    attention = reference.attentions[1]
    expected = torch.autograd.grad(reference.logits[0, -1, 3], attention)[0]
    with model.trace(IDS, grad=True):
        pattern = model.layers[1].attn.ops.softmax.output
        model.logits[0, -1, 3].backward()
        gradient = pattern.grad
    hf.zero_grad()
    assert torch.allclose(gradient, expected, atol=1e-6)


# ── what is left behind, and what runs under what ────────────────────────────────────────────


class Counting(TorchFunctionMode):
    """Counts the operations that are issued under it."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_the_users_code_does_not_run_under_the_modes_of_the_forward(model):
    with model.trace(IDS):
        _ = model.layers[1].ops.add[0].output
        assert torch._C._len_torch_function_stack() == 0
        _ = model.layers[1].mlp.output  # inside the watched block
        assert torch._C._len_torch_function_stack() == 0


def test_the_forward_does_not_run_under_a_mode_of_the_users(model):
    with model.trace(IDS):
        expected = model.layers[1].ops.add[1].output
    with model.trace(IDS):
        _ = model.layers[0].input
        with Counting() as counting:
            _ = model.layers[1].ops.add[0].output
            torch.ones(2).cosh()
        value = model.layers[1].ops.add[1].output
    assert "cosh" in counting.names
    assert not {"layer_norm", "softmax", "addmm"} & set(counting.names)
    assert torch.equal(value, expected)


def test_a_mode_around_the_whole_trace_is_there_for_the_forward_as_well(model):
    with Counting() as counting, model.trace(IDS, resume=False):
        _ = model.layers[1].ops.add[1].output
    assert "layer_norm" in counting.names
    assert torch._C._len_torch_function_stack() == 0


class Failing(nn.Module):
    def forward(self, x):
        y = x + 1
        raise ValueError("inside") if y.sum() > 0 else y


def test_nothing_is_left_behind_by_a_module_that_fails():
    root = nn.Sequential(Failing())
    model = Model(root)
    with pytest.raises(ValueError, match="inside"), model.trace(torch.zeros(2)):
        _ = model[0].ops.add.output
        _ = model.output
    assert torch._C._len_torch_function_stack() == 0
    assert "forward" not in vars(root[0])
    assert hook_count(root) == 0


def test_an_untouched_trace_puts_no_mode_on_the_stack(model, hf):
    depths = []
    hook = hf.transformer.h[1].mlp.register_forward_hook(
        lambda m, a, out: depths.append(torch._C._len_torch_function_stack())
    )
    with model.trace(IDS, full=True):
        _ = model.layers[0].output
    hook.remove()
    assert depths == [0]


# ── mistakes ─────────────────────────────────────────────────────────────────────────────────


def test_an_unknown_operation_is_answered_with_what_there_is(model):
    with model.trace(IDS, resume=False) as tracer:
        with pytest.raises(NoSuchOperationError) as caught:
            _ = model.layers[1].attn.ops.sofmax.output
        assert "Did you mean 'softmax'?" in caught.value.message
        assert "matmul × 2" in caught.value.message
        assert "c_proj" in caught.value.message
        after = model.layers[1].attn.output[0]
    assert tracer.report.forwards == 1  # it was known as soon as the module had run
    with model.trace(IDS):
        assert torch.equal(after, model.layers[1].attn.output[0])


def test_an_index_out_of_range_says_how_many_there_are(model):
    with model.trace(IDS):
        with pytest.raises(NoSuchOperationError, match=r"matmul\[0\] to matmul\[1\]"):
            _ = model.layers[1].attn.ops["matmul", 2].output
        with pytest.raises(NoSuchOperationError, match="counted from the start"):
            _ = model.layers[1].attn.ops.matmul[-1].output


def test_other_mistakes_are_told_as_for_modules(model):
    with pytest.raises(NoTraceError, match=r"layers\[1\].attn.ops.softmax\[0\].output"):
        _ = model.layers[1].attn.ops.softmax.output
    with model.trace(IDS):
        softmax = model.layers[1].attn.ops.softmax
        with pytest.raises(WrongValueError, match="Expected"):
            softmax.output = torch.zeros(2, 2)
        with pytest.raises(AttributeError, match="output, input and inputs"):
            _ = softmax.outptu
        with pytest.raises(NoSuchOperationError, match="Write to it"):
            softmax.skip(0)
    model = Model(nn.ModuleDict({"never": nn.Linear(2, 2)}))
    model._root.forward = lambda x: x + 1
    with model.trace(torch.zeros(2)), pytest.raises(NeverRanError):
        _ = model["never"].ops.linear.output


# ── the source ───────────────────────────────────────────────────────────────────────────────


def test_the_source_names_the_operations_beside_their_lines(model):
    lines = repr(model.layers[1].attn.source).splitlines()
    softmax = next(line for line in lines if line.endswith("← softmax[0]"))
    assert "nn.functional.softmax(attn_weights, dim=-1)" in softmax
    assert any(line.endswith("transpose[3], matmul[0], mul[0]") for line in lines)
    block = repr(model.layers[1].source)
    assert "attn_output + residual" in block
    assert "← add[1]" in block


@pytest.mark.parametrize(
    "name", ["gpt2", "llama", "gpt_neox", "mixtral", "mamba", "t5", "bert", "vit"]
)
def test_the_listed_operations_are_those_that_a_trace_finds(tiny, name):
    """Every block-level module of every architecture: listed on made-up inputs, read in a trace."""
    hf = tiny(name)
    model = LanguageModel(hf)
    inputs = {"pixel_values": torch.randn(1, 3, 32, 32)} if name == "vit" else IDS
    found = 0
    for path, module in hf.named_modules():
        if isinstance(module, nn.ModuleList) or not path:
            continue
        handle = model[path]
        if not handle.path.startswith(model.layers[1].path + "."):
            continue
        source = handle.source
        if not source.known or not source.operations:
            continue
        last = source.operations[-1].operation
        with model.trace(inputs):
            value = handle.ops[last].output
        assert isinstance(value, torch.Tensor | tuple) or hasattr(value, "to_tuple")
        found += len(source.operations)
    assert found > 5


def test_html_escapes_the_source():
    class Compared(nn.Module):
        def forward(self, x):
            return x < 1

    model = Model(nn.Sequential(Compared()))
    with model.trace(torch.zeros(1)):
        text = model[0].source._repr_html_()
    assert "x &lt; 1" in text
    assert "lt[0]" in text


def test_operations_are_listed_and_visited(model):
    ops = model.layers[1].ops
    assert [each.name for each in ops] == ["layers[1].ops.add[0]", "layers[1].ops.add[1]"]
    assert len(ops) == 2
    assert "add" in ops
    assert "softmax" not in ops
    assert "add × 2" in repr(ops)
    assert dir(model.layers[1].attn.ops).count("softmax") == 1


def test_a_module_that_cannot_be_run_by_itself_shows_its_bare_source():
    model = Model(nn.Sequential(InPlace()))
    source = model[0].source
    assert "y.mul_(2)" in repr(source)
    assert "inside a trace" in repr(source)
    with pytest.raises(NnsightError, match="not known"):
        len(model[0].ops)
    with model.trace(torch.zeros(1, 2)):
        assert [o.operation.name for o in model[0].source.operations] == [
            "clone", "add_", "mul_", "setitem", "relu",
        ]  # fmt: skip
        assert model.output.tolist() == [[7, 2]]


def test_the_source_is_there_before_the_weights_are(tiny_gpt2_folder):
    model = LanguageModel(str(tiny_gpt2_folder), attn_implementation="eager")
    assert "← softmax[0]" in repr(model.layers[0].attn.source)
    assert not model.loaded


def test_the_examples_of_the_documentation_run():
    import doctest
    from pathlib import Path

    page = Path(__file__).parents[2] / "docs" / "operations.md"
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testfile(
        str(page), module_relative=False, globs={"torch": torch}, optionflags=flags
    )
    assert result.attempted > 8
    assert result.failed == 0


@pytest.mark.parametrize("place", ["inside a block", "before the blocks"])
def test_a_sweep_over_operations_equals_a_loop_of_traces(model, place):
    def change(part):
        if place == "inside a block":
            model.layers[1].attn.ops.softmax.output[:, part] = 0
        else:
            model.transformer.ops.add[1].output[..., part] = 0
        return model.logits[0, -1].clone()

    expected = []
    for part in range(3):
        with model.trace(IDS):
            expected.append(change(part))
    found = model.sweep(IDS, change, range(3), progress=False)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)
