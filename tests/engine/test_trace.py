"""Reading and writing in one forward, compared with transformers itself and hand-written hooks."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic import LanguageModel, Model
from nnsight_magic.errors import (
    AlreadyRanError,
    NeverRanError,
    NoSuchModuleError,
    NoTraceError,
    TraceInsideTraceError,
    WrongValueError,
)
from tests.hooks import hook_count, hooked, hooked_block

IDS = torch.tensor([[1, 2, 3, 4, 5]])


@pytest.fixture
def hf(tiny):
    return tiny("gpt2")


def forward(hf, ids=IDS):
    with torch.no_grad():
        return hf(ids, use_cache=False).logits


def test_the_logits_are_those_of_transformers(model, hf):
    with model.trace(IDS):
        logits = model.output.logits.save()
    assert torch.equal(logits.value, forward(hf))


def test_a_block_output_is_what_a_hook_sees(model, hf):
    seen = {}
    with hooked_block(hf.transformer.h[1], lambda out: seen.setdefault("out", out)):
        forward(hf)
    with model.trace(IDS):
        hidden = model.layers[1].output
        same = model.transformer.h[1].output
    raw = seen["out"]
    assert torch.equal(hidden, raw[0] if isinstance(raw, tuple) else raw)
    assert torch.equal(hidden, same)


def test_zero_index_of_a_block_output_means_the_hidden_states(model):
    with model.trace(IDS):
        block = model.layers[1].output
        hidden = block[0]
        row = block[0][0]
        last = block[:, -1]
    assert hidden.shape == (1, 5, block.shape[-1])
    assert row.shape == hidden.shape[1:]
    assert torch.equal(last, hidden[:, -1])


def test_a_write_through_the_zero_index_reaches_the_model(model, hf):
    def changed(out):
        hidden = (out[0] if isinstance(out, tuple) else out) + 1
        hidden[:, -1] = 0
        return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

    with hooked_block(hf.transformer.h[1], changed):
        expected = forward(hf)
    with model.trace(IDS):
        block = model.layers[1]
        block.output[0] = block.output[0] + 1
        block.output[0][:, -1] = 0
        logits = model.logits
    assert torch.equal(logits, expected)


def test_the_zero_index_rule_can_be_switched_off(hf):
    model = LanguageModel(hf, block_index_zero=False)
    with model.trace(IDS):
        first = model.layers[1].output[0]
        raw = model.layers[1]._output
    # Before transformers 5 that is the hidden states, in a tuple.
    assert torch.equal(first, raw[0])


def test_a_slice_write_equals_a_hand_written_hook(model, hf):
    def zero_last(out):
        out = out.clone()
        out[:, -1] = 0
        return out

    with hooked(hf.transformer.h[1].mlp, zero_last):
        expected = forward(hf)
    with model.trace(IDS):
        model.layers[1].mlp.output[:, -1] = 0
        logits = model.logits
    assert torch.equal(logits, expected)


@pytest.mark.parametrize(
    "spelling", ["item", "whole", "augmented", "view", "method", "data", "new data", "detached"]
)
def test_every_spelling_of_a_write_reaches_the_model(model, hf, spelling):
    with hooked(hf.transformer.h[1].mlp, lambda out: out * 2):
        expected = forward(hf)
    with model.trace(IDS):
        mlp = model.layers[1].mlp
        match spelling:
            case "item":
                mlp.output[:] = mlp.output * 2
            case "whole":
                mlp.output = mlp.output * 2
            case "augmented":
                mlp.output *= 2
            case "view":
                values = mlp.output
                for position in values.unbind(1):
                    position.mul_(2)
            case "method":
                mlp.output.mul_(2)
            case "data":
                mlp.output.data[:] *= 2
            case "new data":
                values = mlp.output
                values.data = values * 2
            case "detached":
                mlp.output.detach()[0].mul_(2)
        logits = model.logits
    assert torch.equal(logits, expected)


def test_a_tuple_item_is_written(model, hf):
    def zero_first(out):
        return (torch.zeros_like(out[0]), *out[1:])

    with hooked(hf.transformer.h[0].attn, zero_first):
        expected = forward(hf)
    with model.trace(IDS):
        model.layers[0].attn.output[0] = torch.zeros_like(model.layers[0].attn.output[0])
        logits = model.logits
    assert torch.equal(logits, expected)


def test_isinstance_says_of_a_container_what_it_says_of_the_models_own(model):
    from transformers.utils import ModelOutput

    with model.trace(IDS):
        attention = model.layers[0].attn._output
        assert isinstance(attention, tuple)
        assert not isinstance(attention, dict)
        whole = model.output
        assert isinstance(whole, ModelOutput)
        assert not isinstance(whole, tuple)
    assert isinstance(attention, tuple)


def test_a_container_keeps_what_it_held_when_another_is_written_in_its_place(model, hf):
    seen = {}
    with hooked(hf.transformer.h[0].attn, lambda out: seen.setdefault("out", out)):
        forward(hf)
    with model.trace(IDS):
        site = model.layers[0].attn
        before = site._output
        site.output = (before[0] * 0, *before[1:])
        after = site._output
        with pytest.raises(WrongValueError, match="older copy"):
            before[0] = 1
        after[0][:, -1] = 2
        after[0] = after[0] + 1
    assert torch.equal(before[0], seen["out"][0])
    assert (after[0][:, -1] == 3).all()
    assert (after[0][:, :-1] == 1).all()


def test_writing_into_a_container_of_a_run_that_is_over_is_refused(model):
    with model.trace(IDS):
        attention = model.layers[0].attn._output
    with pytest.raises(AlreadyRanError, match="is over"):
        attention[0] = 1


def test_model_output_objects_are_written(model):
    with model.trace(IDS) as tracer:
        model.output.logits[:, -1] = 7
        after = model.output.logits
    assert (after[:, -1] == 7).all()
    assert tracer.report.touches[-1].wrote


def test_an_input_is_read_and_written(model, hf):
    seen = {}
    with hooked_block(hf.transformer.h[0], lambda out: seen.setdefault("out", out)):
        forward(hf)
    with model.trace(IDS):
        before = model.layers[1].input
        model.layers[1].input = before * 0
        after = model.layers[1].ln_1.input
    raw = seen["out"]
    assert torch.equal(before, raw[0] if isinstance(raw, tuple) else raw)
    assert after.abs().sum() == 0


def test_a_write_to_an_input_leaves_the_residual_alone(model, hf):
    """The input of a norm is the residual itself: only the norm may see the write."""

    def pre(module, args):
        return (torch.zeros_like(args[0]),)

    handle = hf.transformer.h[1].ln_2.register_forward_pre_hook(pre)
    expected = forward(hf)
    handle.remove()
    with model.trace(IDS):
        model.layers[1].ln_2.input[:] = 0
        logits = model.logits
    assert torch.equal(logits, expected)


def test_a_write_never_alters_what_was_read_before(model):
    with model.trace(IDS):
        before = model.layers[1].mlp.output
        copy = before.clone()
        model.layers[1].mlp.output[:] = 0
        after = model.layers[1].mlp.output
    assert torch.equal(before, copy)
    assert after.abs().sum() == 0


def test_a_read_value_belongs_to_the_user_afterwards(model, hf):
    with model.trace(IDS):
        hidden = model.layers[0].output.save()
    hidden += 1  # no complaint, and no effect on the model
    assert hidden._pause.closed
    with model.trace(IDS):
        assert torch.equal(model.logits, forward(hf))


def test_only_a_write_into_the_newest_copy_is_taken(model):
    with pytest.raises(WrongValueError, match="older copy"), model.trace(IDS):
        old = model.layers[1].output
        model.layers[1].output[:, 0] = 0
        old[:, 1] = 0


def test_early_exit_leaves_the_rest_unrun(model, hf):
    ran = []
    with hooked_block(hf.transformer.h[-1], ran.append), model.trace(IDS) as tracer:
        model.layers[0].output.save()
    assert ran == []
    report = tracer.report
    assert (report.blocks_run, report.stopped_at) == (1, "layers[0].output")


def test_full_runs_to_the_end(model, hf):
    ran = []
    with hooked_block(hf.transformer.h[-1], ran.append), model.trace(IDS, full=True):
        model.layers[0].output.save()
    assert len(ran) == 1


def test_a_trace_that_touches_nothing_runs_nothing(model, hf):
    ran = []
    with hooked(hf.transformer.wte, ran.append), model.trace(IDS) as tracer:
        pass
    assert ran == []
    assert tracer.report.forwards == 0


def test_untouched_modules_have_no_hook_during_a_trace(model, hf):
    with model.trace(IDS):
        model.layers[0].mlp.output.save()
        hooks = {name for name, m in hf.named_modules() if m._forward_hooks or m._forward_pre_hooks}
    again = {"transformer.wte"}  # its parent may call it twice, for token types: it is counted
    touched = {"", "transformer", "transformer.h", "transformer.h.0", "transformer.h.0.mlp"}
    assert hooks == touched | again


def test_a_read_of_what_already_ran_runs_the_forward_again(model):
    with model.trace(IDS):
        straight = model.layers[0].output
    with model.trace(IDS) as tracer:
        model.layers[-1].output.save()
        late = model.layers[0].output
    assert torch.equal(straight, late)
    assert tracer.report.forwards == 2
    assert "run again" in tracer.report.notices[0]


def test_a_read_out_of_order_sees_the_writes_made_so_far(model):
    with model.trace(IDS):
        model.layers[0].mlp.output *= 3
        straight = model.layers[1].ln_1.output
        end = model.logits
    with model.trace(IDS):
        model.layers[0].mlp.output *= 3
        model.layers[-1].output.save()
        late = model.layers[1].ln_1.output
        later = model.logits
    assert torch.equal(straight, late)
    assert torch.equal(end, later)


def test_the_final_norm_is_read_after_the_logits(model):
    with model.trace(IDS):
        straight = model.norm.output
    with model.trace(IDS):
        model.logits.save()
        late = model.norm.output
    assert torch.equal(straight, late)


@pytest.mark.parametrize("spelling", ["set", "slice", "held", "data", "detached"])
def test_a_late_write_is_an_error_that_says_what_ran_past_it(model, spelling):
    with pytest.raises(AlreadyRanError, match=r"layers\[0\].*\n.*layers\[2\]\.output"):  # noqa: SIM117
        with model.trace(IDS):
            held = model.layers[0].output
            detached = held.detach()
            model.layers[2].output.save()
            match spelling:
                case "set":
                    model.layers[0].output = torch.zeros_like(held)
                case "slice":
                    model.layers[0].output[:] = 0
                case "held":
                    held[:] = 0
                case "data":
                    held.data[0, 0] = 0
                case "detached":
                    detached[:] = 0


@pytest.mark.parametrize(
    ("new", "found"),
    [
        (torch.zeros(1, 4, 32), "shape"),
        (torch.zeros(1, 5, 32, dtype=torch.float64), "dtype"),
        (torch.zeros(1, 5, 32, device="meta"), "device"),
        ("nonsense", "a tensor or a number"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_where_it_is_written(model, new, found):
    with model.trace(IDS):
        width = model.layers[1].mlp.output.shape[-1]
    if isinstance(new, torch.Tensor) and found != "shape":
        new = new[..., :1].expand(1, 5, width)
    with pytest.raises(WrongValueError, match=found) as caught, model.trace(IDS):
        model.layers[1].mlp.output = new
    assert "Expected: float32 (1, 5," in str(caught.value)


def test_a_slice_that_does_not_fit_is_refused_with_what_it_takes(model):
    with pytest.raises(WrongValueError, match="Expected for this part") as caught, model.trace(IDS):
        model.layers[1].mlp.output[:, 0] = torch.zeros(3)
    assert "Found: float32 (3,)" in str(caught.value)


def test_a_number_fills_what_it_replaces(model):
    with model.trace(IDS):
        model.layers[1].mlp.output = 0
        after = model.layers[1].mlp.output
    assert after.abs().sum() == 0


def test_a_list_of_modules_has_no_output(model):
    with pytest.raises(NeverRanError, match="Index it"), model.trace(IDS):
        model.layers.output.save()


def test_a_module_that_the_forward_does_not_call(hf, model):
    hf.transformer.unused = torch.nn.Linear(2, 2)
    with pytest.raises(NeverRanError, match="did not run"), model.trace(IDS):
        model.transformer.unused.output.save()


def test_a_misspelt_module_is_told_its_nearest_name(model):
    with pytest.raises(NoSuchModuleError, match="Did you mean 'mlp'"), model.trace(IDS):
        model.layers[1].mpl.output.save()


def test_an_index_out_of_range_names_the_range(model):
    with pytest.raises(IndexError, match="0 to"), model.trace(IDS):
        model.layers[99].output.save()


def test_a_value_outside_a_trace_is_an_error_that_shows_how(model):
    with pytest.raises(NoTraceError, match=r"with model\.trace"):
        model.layers[0].output  # noqa: B018


def test_a_trace_inside_a_trace_is_an_error(model):
    with pytest.raises(TraceInsideTraceError), model.trace(IDS), model.trace(IDS):
        pass


def test_two_models_are_traced_in_each_other(model, tiny):
    other = LanguageModel(tiny("llama"))
    with model.trace(IDS), other.trace(IDS):
        mine = model.layers[0].output
        theirs = other.layers[0].output
    assert mine.shape[1] == theirs.shape[1] == 5


def test_an_error_in_the_block_keeps_what_was_read(model):
    hidden = None
    with pytest.raises(ZeroDivisionError), model.trace(IDS):
        hidden = model.layers[0].output
        1 / 0  # noqa: B018
    assert hidden.shape[1] == 5


def test_an_attribute_error_of_the_model_is_not_hidden(model, hf):
    def broken(module, args, output):
        raise AttributeError("no such thing in the model")

    handle = hf.transformer.h[0].register_forward_hook(broken)
    try:
        with pytest.raises(AttributeError, match="no such thing in the model"), model.trace(IDS):
            model.layers[1].output.save()
    finally:
        handle.remove()


def test_the_traceback_has_the_users_frames_alone(model, hf):
    handle = hf.transformer.h[0].register_forward_pre_hook(lambda m, a: ("not a tensor",))
    try:
        with pytest.raises(Exception) as caught, model.trace(IDS):  # noqa: PT011
            model.layers[1].output.save()
    finally:
        handle.remove()
    frames = [entry.path.name for entry in caught.traceback]
    assert set(frames) == {"test_trace.py"}
    whole = caught.value.full_traceback
    assert repr(whole) == str(whole)
    text = str(whole)
    assert text.startswith("Traceback (most recent call last):")
    assert "modeling_gpt2.py" in text and type(caught.value).__name__ in text
    assert whole.entries.tb_next is not None
    assert "GPT2" in caught.value.__notes__[0] or "LayerNorm" in caught.value.__notes__[0]


def test_stop_leaves_the_block(model):
    reached = False
    with model.trace(IDS) as tracer:
        hidden = model.layers[0].output
        tracer.stop()
        reached = True
    assert hidden.shape[1] == 5
    assert not reached


def test_wrapping_changes_nothing_in_the_model(hf):
    before = {name: dict(vars(m)) for name, m in hf.named_modules()}
    model = LanguageModel(hf)
    with model.trace(IDS):
        model.layers[0].output.save()
    for name, module in hf.named_modules():
        assert vars(module).keys() == before[name].keys()


def test_unknown_attributes_fall_through_to_the_module(model, hf):
    assert model.transformer.wte.weight is hf.transformer.wte.weight
    assert model.config is hf.config
    assert len(model.layers) == len(hf.transformer.h)
    assert repr(model) == repr(hf)


def test_one_module_is_traced_alone(model):
    with model.trace(IDS):
        given = model.layers[1].mlp.input
        expected = model.layers[1].mlp.output
    with model.layers[1].mlp.trace(given.value) as tracer:
        inner = model.layers[1].mlp.c_fc.output
        alone = model.layers[1].mlp.output
    assert torch.equal(alone, expected)
    assert inner.shape[-1] == 4 * alone.shape[-1]
    assert tracer.report.forwards == 1


def test_modules_have_names_of_the_users_own_beside_the_real_ones(hf):
    model = LanguageModel(hf, rename={"transformer.h": "blocks", "mlp": ["ff", "feed"]})
    with model.trace(IDS):
        mine = model["blocks[1].ff"].output
        same = model.transformer.h[1].feed.output
        real = model.transformer.h[1].mlp.output
    assert torch.equal(mine, real)
    assert torch.equal(same, real)


def test_any_module_is_wrapped():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    x = torch.randn(5, 3)
    model = Model(net)
    with model.trace(x):
        hidden = model[1].output
        model[1].output[:, 0] = 0
        out = model.output
    expected = hidden.clone()
    expected[:, 0] = 0
    assert torch.equal(out, net[2](expected))
    assert hook_count(net) == 0


def test_attention_heads_are_read_and_written_by_number(model, hf):
    def without_head(module, args):
        changed = args[0].clone()
        size = changed.shape[-1] // 4
        changed[..., size : 2 * size] = 0
        return (changed, *args[1:])

    handle = hf.transformer.h[1].attn.c_proj.register_forward_pre_hook(without_head)
    expected = forward(hf)
    handle.remove()
    with model.trace(IDS):
        heads = model.layers[1].attn.heads
        assert len(heads) == 4
        assert heads[1].shape == (1, 5, 8)
        heads[1] = 0
        logits = model.logits
    assert torch.equal(logits, expected)


def test_a_value_read_under_the_users_no_grad_carries_no_gradient(model):
    with model.trace(IDS, grad=True):
        with torch.no_grad():
            plain = model.layers[0].output
        recorded = model.layers[1].output
    assert not plain.requires_grad
    assert recorded.requires_grad


def test_the_report_knows_the_shapes_that_were_seen(model):
    with model.trace(IDS) as tracer:
        model.layers[0].mlp.output.save()
    assert tracer.report.touches[0].shape == (1, 5, 32)
