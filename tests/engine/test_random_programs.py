"""Random programs of reads and writes, bit for bit the same as hand-written hooks.

A program is a list of actions on sites. The reference gives every site a hook that carries out
that site's actions in the order of the program; the engine runs the same actions in a trace,
again and again on the same model, so that it starts from remembered block outputs where it
dares to. Weights change in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnsight_magic import LanguageModel
from tests.hooks import hook_count, hooked, hooked_block

BLOCKS = 3
PROMPTS = [torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[7, 8, 9, 10], [11, 12, 13, 14]])]
PARTS = ["input", "ln_1.output", "attn.output", "ln_2.output", "mlp.input", "mlp.output", "output"]
SITES = ["embed.output", *(f"{i}.{part}" for i in range(BLOCKS) for part in PARTS), "norm.output"]
ACTIONS = ["read", "scale", "zero last", "shift", "replace"]


@dataclass(frozen=True)
class Action:
    what: str
    site: int  # index into SITES


def in_time(actions: list[Action]) -> list[Action]:
    """The program without writes to what has been left behind: those are errors."""
    kept, furthest = [], -1
    for action in actions:
        if action.what == "read" or action.site >= furthest:
            kept.append(action)
            furthest = max(furthest, action.site)
    return kept


programs = st.lists(
    st.builds(Action, st.sampled_from(ACTIONS), st.integers(0, len(SITES) - 1)), max_size=6
).map(in_time)
changes = st.sampled_from([None, None, None, "in place", "data", "replaced"])


def changed(what: str, value: torch.Tensor) -> torch.Tensor:
    new = value.clone()
    match what:
        case "scale":
            new *= 1.5
        case "zero last":
            new[:, -1] = 0
        case "shift":
            new += 0.25
        case "replace":
            new = torch.roll(new, 1, -1)
    return new


def module_at(hf, site: str):
    """The module of a site, and whether its input is meant."""
    path, _, kind = site.rpartition(".")
    names = {"embed": "transformer.wte", "norm": "transformer.ln_f"}
    return hf.get_submodule(names.get(path, f"transformer.h.{path}")), kind == "input"


def by_hooks(hf, ids: torch.Tensor, program: list[Action]) -> list[torch.Tensor]:
    """What the reads give, and the logits, by hooks alone."""
    reads: dict[int, torch.Tensor] = {}

    def act(site: int, value):
        is_tuple = isinstance(value, tuple)
        current = value[0] if is_tuple else value
        for number, action in enumerate(program):
            if action.site == site:
                if action.what == "read":
                    reads[number] = current.clone()
                else:
                    current = changed(action.what, current)
        return (current, *value[1:]) if is_tuple else current

    handles = []
    for site in {action.site for action in program}:
        module, is_input = module_at(hf, SITES[site])
        if is_input:
            hook = lambda m, args, site=site: (act(site, args[0]), *args[1:])  # noqa: E731
            handles.append(module.register_forward_pre_hook(hook))
        else:
            hook = lambda m, args, out, site=site: act(site, out)  # noqa: E731
            handles.append(module.register_forward_hook(hook))
    try:
        with torch.no_grad():
            logits = hf(ids, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    return [*(reads[number] for number in sorted(reads)), logits]


def by_engine(model: LanguageModel, ids: torch.Tensor, program: list[Action]) -> list[torch.Tensor]:
    reads = []
    with model.trace(ids):
        for action in program:
            path, _, kind = SITES[action.site].rpartition(".")
            handle = model if path in ("embed", "norm") else model.layers
            for part in path.split("."):
                handle = handle[int(part)] if part.isdigit() else getattr(handle, part)
            value = getattr(handle, kind)
            if path.endswith("attn"):
                value = value[0]
            if action.what == "read":
                reads.append(value)
            elif path.endswith("attn"):
                handle.output[0] = changed(action.what, value)
            else:
                setattr(handle, kind, changed(action.what, value))
        logits = model.logits
    return [*reads, logits]


def change_weights(hf, how: str | None) -> None:
    layer = hf.transformer.h[1].mlp.c_fc
    with torch.no_grad():
        if how == "in place":
            layer.weight.mul_(0.9)
        elif how == "data":
            layer.weight.data *= 1.1
        elif how == "replaced":
            layer.weight = torch.nn.Parameter(layer.weight * 0.95)


@cache
def subject():
    from tests import tiny

    hf = tiny.build("gpt2", layers=BLOCKS)
    return hf, LanguageModel(hf)


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(programs, st.sampled_from([0, 1]), changes), min_size=1, max_size=3))
def test_random_programs_give_what_hand_written_hooks_give(runs):
    hf, model = subject()
    for program, prompt, change in runs:
        change_weights(hf, change)
        expected = by_hooks(hf, PROMPTS[prompt], program)
        got = by_engine(model, PROMPTS[prompt], program)
        assert len(got) == len(expected)
        for mine, theirs in zip(got, expected, strict=True):
            assert torch.equal(mine, theirs)
    assert hook_count(hf) == 0
    assert not any("forward" in vars(module) for module in hf.modules())


def test_the_random_programs_do_start_from_remembered_outputs():
    hf, model = subject()
    program = [Action("read", SITES.index("2.output"))]
    by_engine(model, PROMPTS[0], program)
    before = by_hooks(hf, PROMPTS[0], program)
    with model.trace(PROMPTS[0]) as tracer:
        hidden = model.layers[2].output
    assert torch.equal(hidden, before[0])
    assert (tracer.report.blocks_run, tracer.report.blocks_skipped) == (0, 3)


def halved(out: Any) -> Any:
    hidden = (out[0] if isinstance(out, tuple) else out).clone()
    hidden[:, -1] *= 0.5
    return (hidden, *out[1:]) if isinstance(out, tuple) else hidden


def test_a_write_to_a_remembered_output_runs_what_comes_behind_it_alone():
    hf, model = subject()
    for _ in range(2):
        with model.trace(PROMPTS[0]) as tracer:
            before = model.layers[1].output.clone()
            model.layers[1].output[:, -1] *= 0.5
            logits = model.logits
        program = [Action("read", SITES.index("1.output"))]
        assert torch.equal(before, by_hooks(hf, PROMPTS[0], program)[0])
        with hooked_block(hf.transformer.h[1], halved), torch.no_grad():
            assert torch.equal(logits, hf(PROMPTS[0]).logits)
    assert (tracer.report.blocks_run, tracer.report.resumed_at) == (BLOCKS - 2, "layers[2]")


def test_the_inside_of_a_block_is_run_though_its_output_is_remembered():
    hf, model = subject()
    for _ in range(2):
        with model.trace(PROMPTS[0]) as tracer:
            hidden = model.layers[1].output
            inside = model.layers[1].mlp.output
            entered = model.layers[1].input
    outputs = {}
    block = hf.transformer.h[1]
    with (
        hooked_block(block, lambda out: outputs.setdefault("block", out)),
        hooked(block.mlp, lambda out: outputs.setdefault("mlp", out)),
        hooked_block(hf.transformer.h[0], lambda out: outputs.setdefault("before", out)),
        torch.no_grad(),
    ):
        hf(PROMPTS[0])
    for mine, name in ((hidden, "block"), (inside, "mlp"), (entered, "before")):
        theirs = outputs[name]
        assert torch.equal(mine, theirs[0] if isinstance(theirs, tuple) else theirs), name
    assert len(tracer.report.notices) == 2
