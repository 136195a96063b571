"""`%%sweep`: a loop over points gives the numbers of hand-written hooks, and keeps what it has."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.resident import STATUS
from nnsight_magic import LanguageModel
from tests.hooks import hooked_block
from tests.magics.conftest import PROMPT

ROOT = Path(__file__).parents[2]
OTHER = "The Eiffel Tower is of the city in"  # as many tokens


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Handing work to a second thread takes longer than it does where others want that core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


PATCH = """
for layer, position in grid(layer=layers, position=tokens):
    corrupt.layers[layer].output[:, position] = clean.layers[layer].output[:, position]
    effect = corrupt.logits[0, -1, {a}] - corrupt.logits[0, -1, {b}]
best = effect.argmax(...)
"""
HEADS = """
for layer, head in grid(layer=layers, head=heads):
    layers[layer].attn.heads[head][:] = 0
    logprob = logits[0, -1].log_softmax(-1)[{a}]
"""


def two(clean, corrupt, line=""):
    return f'%%sweep clean="{clean}" corrupt="{corrupt}" {line}'


def one(body, line=""):
    return f'%%sweep "{PROMPT}" {line}\n{body}'


class ByHand:
    """The same numbers by hooks on a transformers model."""

    def __init__(self, module, tokenizer):
        self.module, self.tokenizer = module, tokenizer
        self.blocks = module.model.layers

    def ids(self, prompt):
        return self.tokenizer(prompt, return_tensors="pt").input_ids

    def logits(self, ids):
        with torch.no_grad():
            return self.module(ids, use_cache=False).logits[0, -1]

    def patched(self, clean, corrupt, layer, position):
        kept = []

        def put(hidden):
            hidden = hidden.clone()
            hidden[:, position] = kept[0][:, position]
            return hidden

        with hooked_block(self.blocks[layer], lambda hidden: kept.append(hidden.clone())):
            self.logits(self.ids(clean))
        with hooked_block(self.blocks[layer], put):
            return self.logits(self.ids(corrupt))

    def without_head(self, prompt, layer, head):
        config = self.module.config
        size = config.hidden_size // config.num_attention_heads

        def silence(module, args):
            given = args[0].clone()
            given[..., head * size : (head + 1) * size] = 0
            return (given, *args[1:])

        handle = self.blocks[layer].self_attn.o_proj.register_forward_pre_hook(silence)
        try:
            return self.logits(self.ids(prompt))
        finally:
            handle.remove()


@pytest.fixture
def by_hand(module, tiny_tokenizer):
    return ByHand(module, tiny_tokenizer)


def compare(effect, expected, axes, count=12):
    """Some points of a result, drawn at random, are what `expected(*places)` gives."""
    places = [(a, b) for a in effect[axes[0]].values for b in effect[axes[1]].values]
    for a, b in random.Random(0).sample(places, min(count, len(places))):
        found = float(effect.sel({axes[0]: a, axes[1]: b}))
        assert found == pytest.approx(float(expected(int(a), int(b))), abs=2e-4)


def check_patching(shell, hand, clean, corrupt, a, b, name_a, name_b):
    shell.run(two(clean, corrupt) + PATCH.format(a=name_a, b=name_b))
    effect = shell.ns["effect"]
    assert effect.dims == ("layer", "position")
    words = [hand.tokenizer.decode(each) for each in hand.ids(corrupt)[0]]
    assert effect["position_text"].values.tolist() == words

    def expected(layer, position):
        logits = hand.patched(clean, corrupt, layer, position)
        return logits[a] - logits[b]

    compare(effect, expected, effect.dims)
    for kind, prompt in (("baseline", corrupt), ("reference", clean)):
        logits = hand.logits(hand.ids(prompt))
        assert float(effect[kind]) == pytest.approx(float(logits[a] - logits[b]), abs=2e-4)
    best = {name: int(each) for name, each in shell.ns["best"].items()}
    assert float(effect.isel(best)) == float(effect.max())


def check_heads(shell, hand, a, name_a):
    shell.run(one(HEADS.format(a=name_a)))
    logprob = shell.ns["logprob"]
    assert logprob.dims == ("layer", "head")
    assert logprob.shape == (len(hand.blocks), hand.module.config.num_attention_heads)

    def expected(layer, head):
        return hand.without_head(PROMPT, layer, head).log_softmax(-1)[a]

    compare(logprob, expected, logprob.dims)
    plain = hand.logits(hand.ids(PROMPT)).log_softmax(-1)[a]
    assert float(logprob.baseline) == pytest.approx(float(plain), abs=2e-4)


def test_patching_gives_the_numbers_of_hooks(shell, by_hand):
    check_patching(shell, by_hand, PROMPT, OTHER, 5, 6, "5", "6")


def test_heads_give_the_numbers_of_hooks(shell, by_hand):
    check_heads(shell, by_hand, 7, "7")


@pytest.mark.demo
def test_both_give_them_on_the_demo_model(bare, demo_model, demo_tokenizer):
    bare.ns["model"] = LanguageModel(demo_model, demo_tokenizer)
    hand = ByHand(demo_model, demo_tokenizer)
    paris, rome = (demo_tokenizer.encode(text)[0] for text in (" Paris", " Rome"))
    corrupt = "The Colosseum is in the city of"
    check_patching(bare, hand, PROMPT, corrupt, paris, rome, '" Paris"', '" Rome"')
    effect = bare.ns["effect"]
    assert effect.max() > 2 > effect.baseline  # the fact goes over from one place to another
    check_heads(bare, hand, paris, '" Paris"')


# ── what it keeps ────────────────────────────────────────────────────────────────────────

STOPPING = """
for layer, head in grid(layer=layers, head=heads):
    flags.ran.append((layer, head))
    layers[layer].attn.heads[head][:] = 0
    logprob = logits[0, -1].log_softmax(-1)[7]
    if flags.stop is not None and layer == 1 and head == 2:
        raise flags.stop
"""


@pytest.fixture
def flags(shell):
    made = types.ModuleType("flags")
    made.ran, made.stop = [], None
    shell.ns["flags"] = made
    return made


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_stopped_cell_keeps_its_points_and_goes_on(shell, flags, by_hand, error):
    flags.stop = error
    cell = one(STOPPING, "--batch 1")
    said = shell.fails(cell)
    assert "raise flags.stop" in said
    assert "At the point layer=1, head=2. 6 of 12 points are finished" in said
    assert np.isfinite(shell.ns["logprob"].values).sum() == 6
    flags.ran.clear()
    flags.stop = None
    shell.run(cell)
    # One for the baseline, and each that had none.
    assert sorted(set(flags.ran)) == [(0, 0), (1, 2), (1, 3), *((2, head) for head in range(4))]
    compare(
        shell.ns["logprob"],
        lambda layer, head: by_hand.without_head(PROMPT, layer, head).log_softmax(-1)[7],
        ("layer", "head"),
    )


@pytest.mark.parametrize("how", ["fresh", "code", "weights", "variable"])
def test_another_cell_begins_anew(shell, flags, how, module):
    shell.ns["factor"] = torch.ones(3)
    body = STOPPING.replace("= 0\n", "= 0 * factor[0]\n")
    flags.stop = ValueError
    shell.fails(one(body, "--batch 1"))
    flags.ran.clear()
    flags.stop = None
    line = "--batch 1"
    if how == "fresh":
        line += " --fresh"
    elif how == "code":
        body = body.replace("[7]", "[8]")
    elif how == "weights":
        with torch.no_grad():
            module.lm_head.weight.mul_(2)
    else:
        shell.ns["factor"][0] = 2
    shell.run(one(body, line))
    assert len(set(flags.ran)) == 12


def test_points_that_fail_are_empty_with_keep_going(shell, flags):
    flags.stop = ValueError("no such thing")
    result = shell.run(one(STOPPING, "--keep-going"))
    missing = np.argwhere(np.isnan(shell.ns["logprob"].values)).tolist()
    assert missing == [[1, 2]]
    assert "1 points failed and are empty; the first, layer=1, head=2" in repr(result)


# ── the rules of the loop ────────────────────────────────────────────────────────────────


def test_continue_leaves_a_point_empty_and_scratch_is_not_collected(shell):
    shell.run(
        one(
            "for layer in grid(layer=layers):\n"
            "    if layer == 1:\n"
            "        continue\n"
            "    _hidden = layers[layer].output\n"
            "    size = _hidden[0, -1].norm()\n"
        )
    )
    assert np.isnan(shell.ns["size"].values).tolist() == [False, True, False]
    assert "_hidden" not in shell.ns and "layer" not in shell.ns


def test_code_before_the_loop_runs_once_and_may_read_the_prompts(shell, by_hand):
    shell.run(
        two(PROMPT, OTHER) + "\n"
        "wanted = clean.layers[1].output[:, -1]\n"
        "import math\n"
        "for layer in grid(layer=layers[1:]):\n"
        "    corrupt.layers[layer].output[:, -1] = wanted\n"
        "    logit = corrupt.logits[0, -1, 3]\n"
    )
    assert type(shell.ns["wanted"]) is torch.Tensor
    assert shell.ns["logit"].layer.values.tolist() == [1, 2]
    found = float(shell.ns["logit"].sel(layer=1))
    assert found == pytest.approx(float(by_hand.patched(PROMPT, OTHER, 1, -1)[3]), abs=2e-4)


def test_tokens_are_written_by_their_texts_and_an_axis_may_begin_at_one(shell, by_hand):
    shell.run(
        two(PROMPT, OTHER) + "\n"
        'for position in grid(position=corrupt.tokens["Tow":" in"]):\n'
        "    corrupt.layers[1].output[:, position] = clean.layers[1].output[:, position]\n"
        "    logit = corrupt.logits[0, -1, 3]\n"
    )
    words = [by_hand.tokenizer.decode(each) for each in by_hand.ids(OTHER)[0]]
    assert shell.ns["logit"].position.values.tolist()[0] == words.index("Tow")
    last = words.index(" in") - 1
    assert shell.ns["logit"].position.values.tolist()[-1] == last
    found = float(shell.ns["logit"].sel(position=last))
    assert found == pytest.approx(float(by_hand.patched(PROMPT, OTHER, 1, last)[3]), abs=2e-4)


def test_prompts_are_an_axis(shell, by_hand):
    prompts = [PROMPT, OTHER, "The city of"]
    shell.run(
        f"%%sweep {' '.join(map(repr, prompts))}\n"
        "for text, layer in grid(prompt=prompt, layer=layers):\n"
        "    layers[layer].output[:, -1] *= 0.5\n"
        "    logit = logits[0, -1, 3]\n"
        "    same = float(text == prompt)\n"
        "    count = tokens.shape[1]\n"
    )
    for text in prompts:

        def halve(hidden):
            hidden = hidden.clone()
            hidden[:, -1] *= 0.5
            return hidden

        with hooked_block(by_hand.blocks[1], halve):
            expected = float(by_hand.logits(by_hand.ids(text))[3])
        assert float(shell.ns["logit"].sel(prompt=text, layer=1)) == pytest.approx(
            expected, abs=2e-4
        )
        count = shell.ns["count"].sel(prompt=text).values
        assert set(count.tolist()) == {by_hand.ids(text).shape[1]}
    assert shell.ns["same"].values.min() == 1


def test_gradients_are_of_each_point(shell, by_hand):
    shell.run(
        one(
            "for layer in grid(layer=layers):\n"
            "    hidden = layers[layer].output\n"
            "    logits[0, -1, 3].backward()\n"
            "    size = hidden.grad[0].norm()\n"
        )
    )
    kept = []
    with hooked_block(
        by_hand.blocks[1], lambda hidden: kept.append(hidden) or hidden.retain_grad()
    ):
        by_hand.module(by_hand.ids(PROMPT), use_cache=False).logits[0, -1, 3].backward()
    by_hand.module.zero_grad()
    assert float(shell.ns["size"].sel(layer=1)) == pytest.approx(
        float(kept[0].grad.norm()), rel=1e-4
    )


def test_only_the_logits_that_are_read_are_computed(shell, module):
    widths = []
    handle = module.lm_head.register_forward_hook(lambda m, args, out: widths.append(out.shape[1]))
    shell.run(one(HEADS.format(a=7)))
    assert set(widths) == {1}
    widths.clear()
    shell.run("def other(): return model.logits[0, 2, 7]")
    shell.run(one(HEADS.format(a=7) + "    more = other()\n"))
    handle.remove()
    assert min(widths) > 1


def test_dry_says_how_long_it_takes_and_binds_nothing(shell):
    shell.run(one(HEADS.format(a=7), "--dry"))
    assert re.search(r"3 × 4: 12 points in \d+ forwards. \d+ of them took", shell.text)
    assert "logprob" not in shell.ns


SEVERAL = """
for text, layer in grid(prompt=prompt, layer=layers):
    layers[layer].output[:, -1] *= 0.5
    logit = logits[0, -1, 3]
"""
BACK = """
for layer in grid(layer=layers[1:]):
    layers[layer].output[:, 2] = 0
    logit = layers[layer - 1].output[0, -1, 3]
"""


@pytest.mark.parametrize("line", ["", "--batch 2", "--no-pack", "--batch 5 --no-pack"])
@pytest.mark.parametrize(
    ("first", "body"),
    [
        (two(PROMPT, OTHER), PATCH.format(a=5, b=6).rpartition("best")[0]),
        (f'%%sweep "{PROMPT}"', HEADS.format(a=7)),
        (f'%%sweep "{PROMPT}" "{OTHER}" "The city of"', SEVERAL),
    ],
    ids=["patching", "heads", "prompts"],
)
def test_dry_says_exactly_how_many_forwards_the_cell_takes(shell, monkeypatch, first, body, line):
    from nnsight_magic.magics import sweeping

    shell.run(f"{first} {line} --dry\n{body}")
    said = re.search(r"in (\d+) forwards?\.", shell.text)
    assert said is not None, shell.text
    cells = []
    collect = sweeping.collect
    monkeypatch.setattr(sweeping, "collect", lambda cell: cells.append(cell) or collect(cell))
    shell.run(f"{first} {line}\n{body}")
    assert cells[0].found.forwards == int(said[1])


def test_dry_gives_a_range_where_points_look_back(shell):
    shell.run(one(BACK, "--dry"))
    assert re.search(r"in \d+ (to \d+ )?forwards", shell.text)


# A process of its own: one that has run other tests has memory to spare, which does not grow.
MEMORY = """
import sys
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from benchmarks.resident import growth

torch.set_num_threads(1)
shell = InteractiveShell.instance(colors="nocolor")
cell = sys.stdin.read()
with capture_output() as shown:
    shell.run_cell("%load_ext nnsight_magic").raise_error()
    shell.run_cell("%model demo").raise_error()
    shell.run_cell(cell.replace('of"', 'of" --dry', 1)).raise_error()
print(shown.stdout)
with capture_output():
    grown = growth(lambda: shell.run_cell(cell).raise_error())
print("grown", grown)
"""


@pytest.mark.demo
@pytest.mark.skipif(not STATUS.exists(), reason="Linux tells how much a process takes at most")
@pytest.mark.parametrize("body", [HEADS, HEADS.replace("logits[0, -1]", "logits[0, -2]")])
def test_dry_says_between_which_bounds_the_memory_lies(demo_model, tmp_path, body):
    cell = one(body.format(a=7).replace("layer=layers", "layer=range(0, 30, 3)"))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        input=cell,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "IPYTHONDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    said = re.search(r"and ([\d.]+) to ([\d.]+) MB beside the weights", done.stdout)
    grown = re.search(r"grown ([\d.]+)", done.stdout)
    assert said and grown, done.stdout
    assert float(said[1]) <= float(grown[1]) <= float(said[2])


def test_it_says_the_largest_points_and_the_baseline(shell):
    result = shell.run(one(HEADS.format(a=7)))
    lines = repr(result).splitlines()
    assert lines[0] == "logprob (layer 3, head 4)" and lines[1].startswith("baseline -")
    assert len([line for line in lines if line.startswith("layer ")]) == 5


LOOP = (
    "for layer, head in grid(layer=layers, head=heads):\n"
    "    layers[layer].attn.heads[head][:] = 0\n"
)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("h = layers[0].output", "a sweep is a loop over points"),
        (LOOP, "the loop collects nothing"),
        (LOOP + "    x = logits[0, -1, 3]\n    break", "points run in batches"),
        (LOOP + "    x = logits[0, -1, 3]\nelse:\n    y = 1", "has no else"),
        (LOOP + "    total += 1.0", "no value yet"),
        ("total = 0\n" + LOOP + "    total = logits[0, -1, 3]", "there before the loop"),
        ("layers[0].output[:] = 0\n" + LOOP + "    x = logits[0, -1, 3]", "belongs into the loop"),
        (LOOP + "    x = logits[0, -1, 3]\n" + LOOP + "    y = 1", "one loop over grid"),
        ("for layer in grid(layers):\n    x = layer", "axes of a grid have names"),
        ("for layer in grid(layer=layers, head=heads):\n    x = layer", "has 2 axes"),
        ("for layer, head in grid(layer=layers, head=heads):\n    x = layer", "never uses 'head'"),
        ("for layer in grid(layer=[]):\n    x = layer", "axis layer is empty"),
        ("for layer in grid(layer=7):\n    x = layer", "axis layer takes a range"),
        ("for layer in grid.pairs(layer=layers):\n    x = layer", "grid has no 'pairs'"),
        ("for step in steps:\n    x = 1\n" + LOOP + "    x = 1", "have no steps"),
        ("def f():\n    for layer in grid(layer=layers):\n        x = 1", "stands at the top"),
    ],
)
def test_what_is_no_sweep_is_refused_on_its_line(shell, body, said, module):
    ran = []
    handle = module.register_forward_hook(lambda *a: ran.append(1))
    text = shell.fails(one(body))
    handle.remove()
    assert said in text and "Cell In" in text
    assert not ran


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("    corrupt.layers[layer].output[:] = 0\n    x = logits[0, -1, 3]", "of which prompt"),
        (
            "    corrupt.layers[layer].output[:] = 0\n    clean.layers[layer].output[:] = 0\n"
            "    x = 1.0",
            "a sweep changes one prompt",
        ),
    ],
)
def test_prompts_are_told_apart(shell, body, said):
    text = shell.fails(two(PROMPT, OTHER) + f"\nfor layer in grid(layer=layers):\n{body}")
    assert said in text


def test_prompts_of_several_lengths_have_no_positions_in_common(shell):
    text = shell.fails(two(PROMPT, "The city of") + PATCH.format(a=5, b=6))
    assert "no positions in common" in text and "' city'" in text
    assert "effect" not in shell.ns


def test_values_of_several_shapes_are_told_after_the_first_batch(shell):
    body = "for layer in grid(layer=layers):\n    part = layers[layer].output[0, : layer + 1]\n"
    text = shell.fails(one(body))
    assert "shape (1, 32) at layer=0" in text
    assert len(shell.ns["part"]) == 3


# ── beside it ────────────────────────────────────────────────────────────────────────────


def test_runs_and_saved_list_sweeps(shell, flags):
    shell.run(one(HEADS.format(a=7)))
    shell.run("%runs")
    line = next(each for each in shell.text.splitlines() if "sweep" in each)
    assert "12 points" in line and PROMPT[:12] in line and "attn.head" in line
    shell.run("%saved")
    assert re.search(r"logprob +Result \(3, 4\) +float32", shell.text)
    flags.stop = KeyboardInterrupt
    shell.fails(one(STOPPING, "--batch 1"))
    shell.run("%runs 1 2")
    assert re.search(r"extent +12 points +interrupted", shell.text)
    assert "farthest" in shell.text


def test_a_question_in_a_sweep_says_what_a_name_is(shell):
    for name, said in [
        ("grid", "the points of a sweep"),
        ("heads", "the attention heads of a block, as an axis"),
        ("tokens", "the positions of the prompt"),
        ("layers", "the numbers of the blocks"),
    ]:
        shell.run(one(f"{name}?"))
        assert shell.text.startswith(f"{name}: ") and said in shell.text
    shell.run(f'%%trace "{PROMPT}"\nlogits?\nx = logits[0, -1]')
    assert "final logits" in shell.text
    assert "not found" in shell.shown("grid?")


# ── points that are generations ──────────────────────────────────────────────────────────

TEXTS = (
    "for layer, strength in grid(layer=[0, 2], strength=[0.0, 4.0, -9.0]):\n"
    "    for step in steps:\n"
    "        layers[layer].output[:, -1] += strength * way\n"
    "        top = logits[0, -1].max()\n"
    "        seen = float(tokens.shape[1])\n"
    "    whole = top.sum()\n"
)


@pytest.fixture
def way(shell, module):
    made = torch.randn(module.config.hidden_size, generator=torch.Generator().manual_seed(1))
    shell.ns["way"] = made
    return made


def steered_by_hand(hand, way, layer, strength, **options):
    """The new ids by a hook and a call of `generate`, and the greatest logit of each step."""

    def move(hidden):
        hidden = hidden.clone()
        hidden[:, -1] += strength * way
        return hidden

    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, **options}
    ids = hand.ids(PROMPT)
    with torch.no_grad(), hooked_block(hand.blocks[layer], move):
        found = hand.module.generate(
            ids, attention_mask=torch.ones_like(ids), return_dict_in_generate=True,
            output_logits=True, **options,
        )  # fmt: skip
    return found.sequences[0, ids.shape[1] :], torch.stack([x[0].max() for x in found.logits])


def test_each_point_is_a_generation(shell, by_hand, way):
    result = shell.run(one(TEXTS, "-n 5"))
    text, top, whole = (shell.ns[name] for name in ("text", "top", "whole"))
    assert text.dims == ("layer", "strength") and top.dims == ("layer", "strength", "step")
    length = by_hand.ids(PROMPT).shape[1]
    for layer in (0, 2):
        for strength in (0.0, 4.0, -9.0):
            ids, logits = steered_by_hand(by_hand, way, layer, strength)
            at = {"layer": layer, "strength": strength}
            wanted = by_hand.tokenizer.decode(ids, skip_special_tokens=True)
            assert text.sel(at).item() == wanted
            np.testing.assert_allclose(top.sel(at).values, logits.numpy(), atol=2e-4)
            assert float(whole.sel(at)) == pytest.approx(float(logits.sum()), abs=1e-3)
            seen = shell.ns["seen"].sel(at).values
            assert seen.tolist() == [length + k for k in range(5)]
            shown = re.sub("[‹›]", "", repr(result))  # what differs from the baseline is marked
            assert repr(wanted) in shown or "'" in wanted
    assert len(set(text.values.ravel())) > 1
    assert text.baseline.item() == text.sel(layer=0, strength=0.0).item()


def test_a_text_that_ends_early_leaves_its_last_steps_empty(shell, by_hand, way, monkeypatch):
    texts = [steered_by_hand(by_hand, way, 2, s)[0].tolist() for s in (0.0, 4.0, -9.0)]
    end = next(t for text in texts for t in text[:-1] if any(t not in other for other in texts))
    monkeypatch.setattr(by_hand.module.generation_config, "eos_token_id", end)
    shell.run(one(TEXTS.replace("[0, 2]", "[2]"), "-n 5"))
    for strength in (0.0, 4.0, -9.0):
        _, logits = steered_by_hand(by_hand, way, 2, strength, eos_token_id=end)
        found = shell.ns["top"].sel(layer=2, strength=strength).values
        assert np.isfinite(found).sum() == len(logits)
        np.testing.assert_allclose(found[: len(logits)], logits.numpy(), atol=2e-4)


def test_texts_alone_are_enough_and_are_sampled_by_a_seed(shell, by_hand, way):
    body = "\n".join(TEXTS.splitlines()[:3])
    line = "-n 5 --seed 4 --do-sample True --temperature 2.0 --top-k 0"
    shell.run(one(body, line))
    torch.manual_seed(4)
    ids, _ = steered_by_hand(by_hand, way, 2, 4.0, do_sample=True, temperature=2.0, top_k=0)
    wanted = by_hand.tokenizer.decode(ids, skip_special_tokens=True)
    assert shell.ns["text"].sel(layer=2, strength=4.0).item() == wanted


@pytest.mark.parametrize(
    ("body", "line", "said"),
    [
        (TEXTS, "", "-n 12 on the line makes each a generation"),
        (TEXTS + "for step in steps:\n    x = 1", "-n 2", "the steps are those of a point's text"),
        (
            "for layer in grid(layer=layers):\n    h = layers[layer].output\n"
            "    logits[0, -1, 3].backward()\n    g = h.grad.norm()",
            "-n 2",
            "records no gradients in a sweep",
        ),
        (TEXTS, "-n 0", "nothing to generate"),
        (TEXTS, "--temperature 1", "unknown option"),
    ],
)
def test_what_is_no_generation_is_refused_before_anything_runs(
    shell, way, module, body, line, said
):
    ran = []
    handle = module.register_forward_hook(lambda *a: ran.append(1))
    text = shell.fails(one(body, line))
    handle.remove()
    assert said in text and not ran


# ── points on disk ───────────────────────────────────────────────────────────────────────


def anew(shell):
    """As in a kernel that was started anew: nothing is remembered."""
    shell.ip.magics_manager.registry["NNsightMagic"]._unfinished = None


def test_a_folder_has_the_points_for_a_kernel_that_was_started_anew(shell, by_hand, tmp_path):
    folder, body = (
        tmp_path / "new" / "points",
        STOPPING.replace("flags.ran.append((layer, head))", "pass"),
    )
    body = body.replace("flags.stop is not None and ", "").replace("raise flags.stop", "1 / stop")
    shell.ns["stop"] = 1
    shell.run(one(body, f"--batch 1 --out {folder}"))
    whole = shell.ns["logprob"].values
    kept = torch.load(folder / "points.pt", weights_only=True)
    assert sorted(kept) == [*range(12)]
    torch.save({n: kept[n] for n in range(6)}, folder / "points.pt")
    anew(shell)
    result = shell.run(one(body, f"--batch 1 --out {folder}"))
    assert "went on behind 6 points" in repr(result)
    np.testing.assert_array_equal(shell.ns["logprob"].values, whole)
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("how", ["foreign", "damaged", "points", "code", "weights", "object"])
def test_a_folder_that_is_not_this_sweep_s_is_refused_and_left_alone(shell, module, tmp_path, how):
    folder, body = tmp_path / "points", HEADS.format(a=7)
    if how == "foreign":
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
    elif how != "object":
        shell.run(one(body, f"--out {folder}"))
    if how == "damaged":
        (folder / "sweep.json").write_text("{")
    elif how == "points":
        whole = (folder / "points.pt").read_bytes()
        (folder / "points.pt").write_bytes(whole[: len(whole) // 2])
    elif how == "code":
        body = HEADS.format(a=8)
    elif how == "weights":
        with torch.no_grad():
            module.lm_head.weight.mul_(2)
    elif how == "object":
        shell.ns["thing"] = object()
        body += "    _ = thing\n"
    before = {each.name: each.read_bytes() for each in folder.glob("*")} if folder.exists() else {}
    anew(shell)
    said = shell.fails(one(body, f"--out {folder}"))
    told = {
        "foreign": "something else than a sweep", "damaged": "sweep.json is damaged",
        "points": "points.pt is damaged", "code": "another sweep (cell differ",
        "weights": "another sweep (weights differ", "object": "cannot be told from another",
    }  # fmt: skip
    assert told[how] in " ".join(said.split())
    now = {each.name: each.read_bytes() for each in folder.glob("*")} if folder.exists() else {}
    assert now == before
