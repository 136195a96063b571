"""Whatever a trace did, a later clean one gives what the plain model gives, to the bit.

The traces before it read, write and skip; they change the model and change it back, between two
touches, around a trace or around a block of one; they switch edits, modes and settings. Each runs
on a model whose memory of earlier runs is kept.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from itertools import product

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnsight_magic import LanguageModel
from nnsight_magic.errors import AlreadyRanError, NeverRanError
from tests import tiny
from tests.hooks import hook_count, hooked_block

LAYERS = 4
PROMPTS = [torch.tensor([[5, 6, 7, 8, 9, 10]]), torch.tensor([[11, 12, 13], [14, 15, 16]])]
ARCHITECTURES = ["llama", "gpt2", "mixtral"]


@cache
def subject(architecture: str):
    hf = tiny.build(architecture, layers=LAYERS)
    return hf, LanguageModel(hf)


def plain_states(hf, model, ids):
    """The embedding, what every block gives, and the logits: of the model alone."""
    blocks, seen = [block.module for block in model.blocks], []

    def keep(out):
        seen.append((out[0] if isinstance(out, tuple) else out).clone())

    with torch.no_grad():
        handles = [block.register_forward_hook(lambda m, args, out: keep(out)) for block in blocks]
        try:
            logits = hf(ids, use_cache=False).logits
        finally:
            for handle in handles:
                handle.remove()
    return [*seen, logits]


def check_clean(hf, model, ids):
    """Two clean traces: one that asks for the end at once, one block after block."""
    *states, logits = plain_states(hf, model, ids)
    with model.trace(ids):
        found = model.logits
    assert torch.equal(found.value, logits)
    with model.trace(ids):
        each = [block.output for block in model.blocks]
    for mine, theirs in zip(each, states, strict=True):
        assert torch.equal(mine.value, theirs)
    assert hook_count(hf) == 0


# ── writes in disguise ───────────────────────────────────────────────────────────────────


def skip_with_a_constant(model, block, ids):
    model.layers[block].skip(torch.full((*ids.shape, tiny.HIDDEN), 0.25))


def skip_with_a_number(model, block, ids):
    model.layers[block].skip(0.5)


def skip_with_its_input(model, block, ids):
    model.layers[block].skip(model.layers[block].input)


def skip_with_what_came_before(model, block, ids):
    before = model.layers[block - 1].output if block else model.embed.output
    model.layers[block].skip(before)


def skip_with_another_runs_value(model, block, ids):
    model.layers[block].skip(1.5 * torch.ones(*ids.shape, tiny.HIDDEN))
    model.layers[block].output[:, -1] = 0


def skip_the_mlp(model, block, ids):
    mlp = model.layers[block].mlp
    half = mlp.input * 0.5
    # Mixtral's gives its router's scores beside the hidden states in transformers 4.
    with_scores = hasattr(mlp.module, "gate") and transformers.__version__.startswith("4.")
    mlp.skip((half, None) if with_scores else half)


def skip_the_norm(model, block, ids):
    model.norm.skip(model.layers[block].output)


def skip_two(model, block, ids):
    model.layers[block].skip(model.layers[block].input)
    if block + 1 < LAYERS:
        model.layers[block + 1].skip(model.layers[block].output * 2)


def read(model, block, ids):
    return model.layers[block].output


def read_inside(model, block, ids):
    return model.layers[block].mlp.output


def write(model, block, ids):
    model.layers[block].output[:, -1] = 0


def write_the_embedding(model, block, ids):
    model.embed.output = model.embed.output * 2


def write_by_numpy(model, block, ids):
    model.layers[block].output.numpy()[:] = 1


def refused_skip(model, block, ids):
    with pytest.raises(Exception, match=r".*"):
        model.layers[block].skip(torch.ones(1, 1, 1))


ACTIONS = [
    skip_with_a_constant, skip_with_a_number, skip_with_its_input, skip_with_what_came_before,
    skip_with_another_runs_value, skip_the_mlp, skip_the_norm, skip_two, read, read_inside, write,
    write_the_embedding, write_by_numpy, refused_skip,
]  # fmt: skip
ACTS = st.tuples(st.sampled_from(ACTIONS), st.integers(0, LAYERS - 1))
TRACES = st.lists(
    st.tuples(st.lists(ACTS, min_size=1, max_size=3), st.sampled_from([0, 1])),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(traces=TRACES)
def test_after_writes_of_every_kind_a_clean_trace_is_clean(architecture, traces):
    hf, model = subject(architecture)
    for acts, prompt in traces:
        ids = PROMPTS[prompt]
        for full in (False, True):
            try:
                with model.trace(ids, full=full):
                    for act, block in acts:
                        act(model, block, ids)
            except (AlreadyRanError, NeverRanError):
                pass  # what was written to lay behind, or its module was skipped
        check_clean(hf, model, ids)


@pytest.mark.parametrize("act", [a for a in ACTIONS if a.__name__.startswith("skip")])
@pytest.mark.parametrize("known", [False, True])
def test_the_same_skip_twice_gives_the_same(act, known):
    hf = tiny.build("llama", layers=LAYERS)
    model, ids = LanguageModel(hf), PROMPTS[0]
    if known:
        check_clean(hf, model, ids)
    found = []
    for resume in (False, True, True):
        with model.trace(ids, resume=resume):
            act(model, 2, ids)
            found.append(model.logits)
    assert torch.equal(found[0].value, found[1].value)
    assert torch.equal(found[0].value, found[2].value)
    check_clean(hf, model, ids)


def test_a_skipped_block_gives_what_a_hook_would_put_there():
    hf = tiny.build("llama", layers=LAYERS)
    model, ids = LanguageModel(hf), PROMPTS[0]
    check_clean(hf, model, ids)
    for _ in range(2):
        with model.trace(ids) as tracer:
            model.layers[2].skip(model.layers[1].output)
            logits = model.logits
        before = plain_states(hf, model, ids)[1]
        with hooked_block(hf.model.layers[2], lambda out, before=before: before), torch.no_grad():
            assert torch.equal(logits.value, hf(ids, use_cache=False).logits)
        assert tracer.report.blocks_skipped == 2


def test_a_skip_is_of_the_step_and_the_call_it_names():
    hf = tiny.build("gpt2", layers=LAYERS)
    model, ids = LanguageModel(hf), PROMPTS[0]
    zeros = torch.zeros(1, 1, tiny.HIDDEN)
    with model.generate(ids, max_new_tokens=2, do_sample=False):
        model.layers[1].next().skip(zeros)
        found = model.layers[2].output
    seen = []

    def at_step_one(module, args, out):
        seen.append(0)
        if len(seen) == 2:
            return (zeros, *out[1:]) if isinstance(out, tuple) else zeros
        return None

    states = []
    with hooked_block(hf.transformer.h[2], lambda out: states.append(out)), torch.no_grad():
        handle = hf.transformer.h[1].register_forward_hook(at_step_one)
        hf.generate(ids, max_new_tokens=2, do_sample=False, pad_token_id=0)
        handle.remove()
    theirs = states[1][0] if isinstance(states[1], tuple) else states[1]
    assert torch.equal(found.value, theirs)


# ── what the block does between two touches ──────────────────────────────────────────────


def doubled(module, args, output):
    return output * 2


@contextmanager
def weight_as_data(hf):
    part = hf.model.layers[2].mlp.up_proj.weight.data[3:9]
    before = part.clone()
    part[...] = 0
    yield
    part[...] = before


@contextmanager
def weight_in_place(hf):
    weight = hf.model.layers[2].mlp.up_proj.weight
    with torch.no_grad():
        weight.mul_(2)
        yield
        weight.mul_(0.5)


@contextmanager
def module(hf):
    mlp = hf.model.layers[2].mlp
    hf.model.layers[2].mlp = torch.nn.Identity()
    yield
    hf.model.layers[2].mlp = mlp


@contextmanager
def block(hf):
    before = hf.model.layers[2]
    hf.model.layers[2] = hf.model.layers[1]
    yield
    hf.model.layers[2] = before


@contextmanager
def attribute(hf):
    norm = hf.model.layers[2].input_layernorm
    before, norm.variance_epsilon = norm.variance_epsilon, 3.0
    yield
    norm.variance_epsilon = before


@contextmanager
def forward(hf):
    hf.model.layers[2].mlp.forward = lambda x: x * 2
    yield
    del hf.model.layers[2].mlp.forward


@contextmanager
def hook(hf):
    handle = hf.model.layers[2].mlp.register_forward_hook(doubled)
    yield
    handle.remove()


@contextmanager
def training(hf):
    hf.model.layers[2].train()
    yield
    hf.model.layers[2].eval()


@contextmanager
def attention(hf):
    hf.set_attn_implementation("eager")
    yield
    hf.set_attn_implementation("sdpa")


@contextmanager
def precision(hf):
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


@contextmanager
def autocast(hf):
    with torch.autocast("cpu", torch.bfloat16):
        yield


@contextmanager
def inference(hf):
    with torch.inference_mode():
        yield


@contextmanager
def nothing(hf):
    yield


CHANGES = [
    weight_as_data, weight_in_place, module, block, attribute, forward, hook, training, attention,
    precision, autocast, inference, nothing,
]  # fmt: skip
PLACES = ["embed.output", "0.mlp.output", "1.output"]
LATER = ["2.mlp.input", "2.output", "norm.output"]


def touch(model, place):
    path, _, kind = place.rpartition(".")
    handle = model if path in ("embed", "norm") else model.layers
    for part in path.split("."):
        handle = handle[int(part)] if part.isdigit() else getattr(handle, part)
    return getattr(handle, kind)


@pytest.mark.parametrize("back", ["at the end of it", "before another touch", "behind the trace"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_block_changes_between_touches_is_not_remembered(change, back):
    hf = tiny.build("llama", layers=LAYERS)
    model = LanguageModel(hf)
    for number, (first, later) in enumerate(product([None, *PLACES], LATER)):
        ids = PROMPTS[0] + number % 2  # half of the time the prompt is known already
        if back == "behind the trace":
            with change(hf), model.trace(ids):
                if first is not None:
                    touch(model, first)
                touch(model, later)
        else:
            with model.trace(ids):
                if first is not None:
                    touch(model, first)
                with change(hf):
                    touch(model, later)
                if back == "before another touch":
                    touch(model, "3.output")
        check_clean(hf, model, ids)


@pytest.mark.parametrize("change", [attribute, forward, weight_as_data, weight_in_place])
@pytest.mark.parametrize("known", [False, True])
def test_what_a_block_changes_between_touches_acts_on_what_comes_behind(change, known):
    hf = tiny.build("llama", layers=LAYERS)
    model, ids = LanguageModel(hf), PROMPTS[0]
    if known:
        check_clean(hf, model, ids)
    with change(hf):
        expected = plain_states(hf, model, ids)[3]
    with model.trace(ids):
        model.layers[0].output  # noqa: B018
        with change(hf):
            found = model.layers[3].output
    assert torch.equal(found.value, expected)


def test_ids_that_are_written_in_a_trace_are_others_for_what_runs_again():
    hf = tiny.build("llama", layers=LAYERS)
    model, ids = LanguageModel(hf), PROMPTS[0].clone()
    with model.trace(ids):
        model.layers[2].output  # noqa: B018
        ids[:] = 7
        model.layers[0].output  # noqa: B018
    check_clean(hf, model, PROMPTS[0])
    check_clean(hf, model, ids)


def test_edits_that_are_switched_in_a_trace_leave_nothing():
    hf = tiny.build("llama", layers=LAYERS)
    model, ids = LanguageModel(hf), PROMPTS[0]
    for number in range(3):
        edit = None
        with model.trace(ids):
            model.layers[0].output  # noqa: B018
            if number:
                edit = model.edit("off", model.layers[1].mlp, set=0.0)
            model.layers[2].output  # noqa: B018
        if edit is None:
            edit = model.edit("off", model.layers[1].mlp, set=0.0)
        with model.trace(ids):
            model.layers[3].output  # noqa: B018
            if number == 2:
                edit.remove()
            model.layers[2].output  # noqa: B018
        if number != 2:
            edit.remove()
        check_clean(hf, model, ids)
