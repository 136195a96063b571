"""What a sweep keeps when it ends early, how it tells how far it is, what else it may read."""

from __future__ import annotations

import itertools

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.engine.sweeping import size
from nnsight_magic.errors import BadInputError, NeverRanError, WrongValueError
from tests.hooks import hooked_block

IDS = torch.tensor([[1, 2, 3, 4, 5]])
CLEAN = torch.tensor([[9, 8, 7, 6, 5]])
LONGER = torch.tensor([[4, 3, 2, 1, 6, 7, 8]])


@pytest.fixture(params=["gpt2", "llama", "mamba"])
def hf(request, tiny):
    return tiny(request.param)


def blocks_of(model):
    return [block.module for block in model.layers]


def by_hooks(model, ids, block, change):
    """The logits of a plain forward in which a hook changes the output of a block."""
    with torch.no_grad(), hooked_block(blocks_of(model)[block], change):
        return model.module(ids, use_cache=False).logits


def zero_at(position):
    def change(hidden):
        hidden = hidden.clone()
        hidden[:, position] = 0
        return hidden

    return change


class Named(list):
    """Variants that are called by what they are."""

    def describe(self, number):
        return f"block={self[number]}"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_has_what_was_finished_and_says_which_point_it_is_of(model, error):
    def change(block):
        model.layers[block].output[:, 1] = 0
        logits = model.logits
        if block == 1:
            raise error("here")
        return logits

    with pytest.raises(error) as raised:
        model.sweep(IDS, change, Named([0, 1, 2]), progress=False, batch_size=1)
    assert raised.value.point == 1 and raised.value.point_name == "block=1"
    assert "at point 1, block=1. 1 of 3" in "".join(raised.value.__notes__)
    assert list(raised.value.finished) == [0]
    expected = by_hooks(model, IDS, 0, zero_at(1))
    torch.testing.assert_close(raised.value.finished[0], expected, atol=1e-5, rtol=1e-4)


def test_with_keep_going_the_other_points_have_their_results(model):
    def change(block):
        model.layers[block].output[:, 1] = 0
        if block == 1:
            raise ValueError("here")
        return model.logits

    found = model.sweep(IDS, change, [0, 1, 2], progress=False, keep_going=True)
    assert isinstance(found[1], ValueError)
    for block in (0, 2):
        expected = by_hooks(model, IDS, block, zero_at(1))
        torch.testing.assert_close(found[block], expected, atol=1e-5, rtol=1e-4)


def test_with_keep_going_a_change_that_the_model_cannot_take_costs_no_other_point(model):
    def change(token):
        model.embed.input[0, 1] = token
        return model.logits

    found = model.sweep(IDS, change, [3, 10**6, 7], progress=False, keep_going=True)
    assert isinstance(found[1], IndexError)
    for number, token in ((0, 3), (2, 7)):
        other = IDS.clone()
        other[0, 1] = token
        with torch.no_grad():
            expected = model.module(other, use_cache=False).logits
        torch.testing.assert_close(found[number], expected, atol=1e-5, rtol=1e-4)


def test_progress_is_told_of_every_point_once(model):
    seen = []

    def change(block):
        model.layers[block].output[:, 1] = 0
        return model.logits

    found = model.sweep(IDS, change, [0, 1, 2], batch_size=1, progress=seen.append)
    assert [each.done for each in seen] == [1, 2, 3]
    assert all(each.total == 3 for each in seen) and seen[-1].left == 0
    assert all(each.left >= 0 for each in seen)
    told = {number: value for each in seen for number, value in each.results.items()}
    assert all(told[number] is found[number] for number in range(3))


def test_logits_bound_a_batch_by_their_bytes(model, monkeypatch):
    vocabulary = model.module.config.vocab_size
    one = IDS.shape[1] * vocabulary * 4
    monkeypatch.setattr(size, "BYTES_PER_BATCH", 2 * one)
    rows = []
    handle = model.module.register_forward_hook(lambda *a: rows.append(a[-1].logits.shape[0]))

    def change(factor):
        model.layers[0].output *= factor
        return model.logits

    found = model.sweep(IDS, change, [0.5, 2.0, 3.0, 4.0, 5.0], pack=False, progress=False)
    handle.remove()
    assert max(rows) == 2 and sum(rows) >= 5
    for factor, logits in zip([0.5, 2.0, 3.0, 4.0, 5.0], found, strict=True):
        expected = by_hooks(model, IDS, 0, lambda hidden, by=factor: hidden * by)
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    kept = {"logits_to_keep": 1}
    assert size.bytes_of_logits(model.module, 5, kept) == vocabulary * 4


# ── several prompts ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pack", [True, False])
def test_prompts_as_points_are_run_each_alone(model, pack):
    prompts = [IDS, CLEAN, LONGER]
    grid = list(itertools.product(range(3), range(3), [1, 3]))

    def change(_, block, position):
        model.layers[block].output[:, position] = 0
        return model.logits[:, -1]

    found = model.sweep(
        prompts, change, grid, prompt_of=[which for which, _, _ in grid], pack=pack, progress=False
    )
    for (which, block, position), logits in zip(grid, found, strict=True):
        expected = by_hooks(model, prompts[which], block, zero_at(position))[:, -1]
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


def test_prompts_of_one_length_share_their_forwards(model):
    rows = []
    last = blocks_of(model)[-1]
    handle = last.register_forward_hook(lambda m, args, out: rows.append(args[0].shape[0]))

    def change(which):
        model.layers[0].output[:, 1] = 0
        return model.logits[:, -1]

    model.sweep([IDS, CLEAN], change, [0, 1], prompt_of=[0, 1], progress=False)
    handle.remove()
    assert 2 in rows


def test_prompt_of_is_checked(model):
    with pytest.raises(BadInputError, match="Expected: 2 numbers"):
        model.sweep([IDS], lambda x: x, [1, 2], prompt_of=[0], progress=False)
    with pytest.raises(BadInputError, match="prompt 3"):
        model.sweep([IDS], lambda x: x, [1], prompt_of=[3], progress=False)


# ── references ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pack", [True, False])
def test_a_reference_is_read_where_it_stands_and_costs_one_run(model, pack):
    ran = []
    blocks = blocks_of(model)
    handle = blocks[0].register_forward_hook(lambda m, args, out: ran.append(args[0].shape[0]))

    def patch(block, position, clean):
        there = clean.layers[block].output[:, position]
        model.layers[block].output[:, position] = there
        return model.logits[:, -1]

    grid = list(itertools.product(range(len(blocks)), range(5)))
    found = model.sweep(IDS, patch, grid, references={"clean": CLEAN}, pack=pack, progress=False)
    handle.remove()
    assert ran.count(1) == 2  # each prompt once, alone
    assert sum(ran) == 2 + len(grid)  # and of the swept one a row for each point
    states = {}
    for number, block in enumerate(blocks):
        keep = hooked_block(block, lambda hidden, n=number: states.update({n: hidden.clone()}))
        with keep, torch.no_grad():
            model.module(CLEAN, use_cache=False)
    for (block, position), logits in zip(grid, found, strict=True):

        def change(hidden, at=position, new=states[block]):
            hidden = hidden.clone()
            hidden[:, at] = new[:, at]
            return hidden

        expected = by_hooks(model, IDS, block, change)[:, -1]
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


def test_what_is_read_of_a_reference_behind_a_write_is_the_reference_s_too(model):
    def change(block, clean):
        model.layers[block].output[:] = 0
        mine = model.logits
        return mine, clean.logits, clean.layers[0].output

    found = model.sweep(IDS, change, [0, 1], references={"clean": LONGER}, progress=False)
    with torch.no_grad():
        expected = model.module(LONGER, use_cache=False).logits
    for mine, theirs, hidden in found:
        torch.testing.assert_close(theirs, expected, atol=1e-5, rtol=1e-4)
        assert mine.shape[1] == 5 and hidden.shape[1] == 7


@pytest.mark.parametrize("way", ["assign", "in place", "of a part"])
def test_a_reference_cannot_be_written(model, way):
    def change(_, clean):
        if way == "assign":
            clean.layers[0].output = 0
        elif way == "in place":
            clean.layers[0].output[:] = 0
        else:
            part = clean.layers[0].output[:, 1]
            part.mul_(2)

    with pytest.raises(WrongValueError, match="only reads"):
        model.sweep(IDS, change, [0], references={"clean": CLEAN}, progress=False)


def test_a_site_that_never_runs_is_told_on_the_line_of_the_touch(model):
    def change(_, clean):
        return clean.layers[0].calls[7].output

    with pytest.raises(NeverRanError, match="clean"):
        model.sweep(IDS, change, [0], references={"clean": CLEAN}, progress=False)


# ── without the writes, with gradients, and what runs later ───────────────────────────────


def test_without_its_writes_a_function_gives_the_baseline(model):
    def change(block):
        model.layers[block].output[:, 1] = 0
        model.layers[block].output = model.layers[block].output * 2
        return model.logits

    found = model.sweep(IDS, change, [0, 2], writes=False, progress=False)
    with torch.no_grad():
        expected = model.module(IDS, use_cache=False).logits
    for logits in found:
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


def test_gradients_are_of_each_point_alone(model, hf):
    def change(block, factor, clean):
        hidden = model.layers[block].output
        hidden *= factor
        (model.logits[0, -1, 3] - clean.logits[0, -1, 3]).backward()
        return hidden.grad

    grid = [(0, 1.0), (1, 2.0), (1, 1.0)]
    found = model.sweep(IDS, change, grid, references={"clean": CLEAN}, grad=True, progress=False)
    for (block, factor), gradient in zip(grid, found, strict=True):
        kept = []

        def scaled(hidden, by=factor, kept=kept):
            hidden = hidden * by
            hidden.retain_grad()
            kept.append(hidden)
            return hidden

        with hooked_block(blocks_of(model)[block], scaled):
            hf(IDS, use_cache=False).logits[0, -1, 3].backward()
        assert gradient.grad_fn is None
        torch.testing.assert_close(gradient, kept[0].grad, atol=1e-5, rtol=1e-4)
    hf.zero_grad()


def recorded(model, ids, grid, change):
    """Gradients at block outputs by hooks, one forward and one backward pass for each point."""
    found = []
    for block, factor in grid:
        kept = []

        def scaled(hidden, by=factor, kept=kept):
            hidden = hidden * by
            hidden.retain_grad()
            kept.append(hidden)
            return hidden

        with hooked_block(blocks_of(model)[block], scaled):
            change(model.module(ids, use_cache=False).logits)
        found.append(kept[0].grad)
    return found


MANY = [(block, factor) for block in (0, 1, 2) for factor in (1.0, 2.0, -0.5)]


def backward_of(model, **options):
    def change(block, factor):
        hidden = model.layers[block].output
        hidden *= factor
        loss = (model.logits[0, -1, 3] * model.logits[0, 2, 4]).tanh()
        loss.backward(**options)
        return hidden.grad

    return change


def test_gradients_are_recorded_in_batches(model, hf):
    ran, passes = [], []
    handle = hf.register_forward_pre_hook(lambda *args: ran.append(1))
    weight = next(iter(hf.parameters()))
    hook = weight.register_hook(lambda grad: passes.append(1))
    found = model.sweep(IDS, backward_of(model), MANY, grad=True, progress=False)
    handle.remove(), hook.remove()
    assert len(ran) == len(passes) == 2  # the first alone, to see what a graph takes
    sums = {name: each.grad.clone() for name, each in hf.named_parameters()}
    hf.zero_grad()
    wanted = recorded(
        model, IDS, MANY, lambda logits: (logits[0, -1, 3] * logits[0, 2, 4]).tanh().backward()
    )
    for gradient, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-3)
    for name, each in hf.named_parameters():  # as a loop of backward passes leaves them
        torch.testing.assert_close(sums[name], each.grad, atol=1e-4, rtol=1e-3)
    hf.zero_grad()


@pytest.mark.parametrize("bound", [1, 3])
def test_a_batch_of_graphs_stays_below_the_bound(model, hf, monkeypatch, bound):
    kept = {}

    def count(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        graph = hf(IDS, use_cache=False).logits.sum()
    weights = {each.untyped_storage().data_ptr() for each in hf.parameters()}
    one = sum(size for place, size in kept.items() if place not in weights)
    del graph
    monkeypatch.setattr(size, "BYTES_PER_BATCH", int((bound + 0.7) * one))
    rows = []
    handle = hf.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    model.sweep(IDS, backward_of(model), MANY, grad=True, progress=False)
    handle.remove()
    assert sum(rows) == len(MANY) and max(rows) <= bound
    assert bound == 1 or max(rows) > 1
    hf.zero_grad()


def with_block(model):
    def change(block, factor):
        hidden = model.layers[block].output
        hidden *= factor
        with model.logits[0, -1, 3].backward():
            return hidden.grad.clone()

    return change


def with_autograd(model):
    def change(block, factor):
        hidden = model.layers[block].output
        hidden *= factor
        loss = model.logits[0, -1, 3]
        return torch.autograd.grad(loss, hidden)[0]

    return change


def with_plain_values(model):
    def change(block, factor):
        hidden = model.layers[block].output
        hidden *= factor
        model.logits[0, -1, 3].value.backward()
        return hidden.grad

    return change


def with_own_weights(model):
    def change(block, factor):
        model.module.zero_grad()
        hidden = model.layers[block].output
        hidden *= factor
        model.logits[0, -1, 3].backward()
        return hidden.grad

    return change


@pytest.mark.parametrize("way", [with_block, with_autograd, with_plain_values, with_own_weights])
def test_what_a_batch_cannot_record_is_run_alone(model, hf, way):
    wanted = recorded(model, IDS, MANY, lambda logits: logits[0, -1, 3].backward())
    found = model.sweep(IDS, way(model), MANY, grad=True, progress=False)
    for gradient, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-3)
    hf.zero_grad()


def test_a_second_pass_through_a_graph_needs_it_kept(model, hf):
    def twice(keep):
        def change(block, factor):
            hidden = model.layers[block].output
            hidden *= factor
            loss = model.logits[0, -1, 3]
            loss.backward(retain_graph=keep)
            loss.backward()
            return hidden.grad

        return change

    wanted = recorded(model, IDS, MANY[:4], lambda logits: (2 * logits[0, -1, 3]).backward())
    found = model.sweep(IDS, twice(True), MANY[:4], grad=True, progress=False)
    for gradient, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-3)
    with pytest.raises(RuntimeError, match="second time"):
        model.sweep(IDS, twice(False), MANY[:4], grad=True, progress=False)
    hf.zero_grad()


def test_an_error_in_a_batch_of_graphs_is_of_its_point(model, hf):
    def fail(block, factor):
        hidden = model.layers[block].output
        model.logits[0, -1, 3].backward()
        if (block, factor) == MANY[4]:
            raise ValueError("no")
        return hidden.grad.norm()

    found = model.sweep(IDS, fail, MANY, grad=True, keep_going=True, progress=False)
    assert [isinstance(each, ValueError) for each in found] == [k == 4 for k in range(len(MANY))]
    with pytest.raises(ValueError, match="no") as raised:
        model.sweep(IDS, fail, MANY, grad=True, progress=False)
    assert raised.value.point == 4
    hf.zero_grad()


def test_a_generation_that_is_begun_in_a_point_and_returned_is_refused(model):
    def change(block):
        model.layers[block].output[:] = 0
        return model.generate(IDS, max_new_tokens=2)

    with pytest.raises(WrongValueError, match="would run without what the function wrote"):
        model.sweep(IDS, change, [0], progress=False)


STANDARD = (
    "resid_pre", "resid_mid", "resid_post", "attn.added", "mlp.added", "attn.heads[1]",
    "attn.heads[0:2]", "attn.heads[1].result", "attn.pattern", "attn.scores", "attn.q", "attn.k",
    "attn.v", "attn.z", "mlp.neurons", "mlp.neurons_pre", "ops.add[0].output", "inputs[0][0]",
)  # fmt: skip


@pytest.mark.parametrize("name", STANDARD)
def test_every_name_of_a_block_is_the_reference_s_own(tiny, name):
    model = LanguageModel(tiny("llama"))
    read = compile(f"on.layers[1].{name}", "read", "eval")
    with model.trace(CLEAN):
        expected = eval(read, {"on": model}).value

    def change(_, clean):
        model.layers[0].output[:] = 0
        mine = model.logits[0, -1, 0]
        return eval(read, {"on": clean}), mine

    (found,) = model.sweep(IDS, change, [0], references={"clean": CLEAN}, progress=False)
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-4)

    def write(_, clean):
        eval(read, {"on": clean})[:] = 0

    with pytest.raises(WrongValueError, match="only reads"):
        model.sweep(IDS, write, [0], references={"clean": CLEAN}, progress=False)


def test_a_number_that_is_picked_keeps_nothing_else_in_memory(model):
    def change(block):
        model.layers[block].output[:, 1] = 0
        return {"one": model.logits[0, -1].softmax(-1)[3], "some": model.logits[0, :2, :4]}

    for found in model.sweep(IDS, change, range(len(model.layers)), progress=False):
        for each in found.values():
            assert each.untyped_storage().nbytes() == each.numel() * each.element_size()
