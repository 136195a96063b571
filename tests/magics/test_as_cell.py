"""A point of a result as a cell: run, it gives the number that stands at that point."""

from __future__ import annotations

import ast
import json
import random
import re

import pytest
import torch

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.analyses import Along, with_axes
from nnsight_magic.analyses.cell_of_point import quoted
from nnsight_magic.errors import BadInputError
from tests.architectures import models
from tests.magics.conftest import PROMPT

OTHER = "The Eiffel Tower is of the city in"  # as many tokens
SHORTER = "The Eiffel Tower"
QUIET = {"progress": False}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def check(shell, found, count=2, **fixed):
    """At points drawn at random the cell gives the number, and leaves the notebook's as it was."""
    drawn = random.Random(0)
    for _ in range(count):
        at = {dim: drawn.choice(found[dim].values.tolist()) for dim in found.dims} | fixed
        cell = found.as_cell(**at)
        before = dict(shell.ns)
        shell.run(cell.replace("\n", " -q\n", 1))
        name = f"{found.name}_here"
        assert float(shell.ns[name]) == pytest.approx(float(found.sel(at)), abs=2e-4), cell
        changed = [n for n in before if not n.startswith("_") and shell.ns[n] is not before[n]]
        assert all(n.endswith("_here") or n in ("layer", "direction") for n in changed), cell


SITES = {
    "resid_pre": {}, "resid_mid": {}, "resid_post": {"align": "same"}, "attn": {}, "mlp": {},
    "neurons": {}, "heads": {"reverse": True}, "q": {}, "k": {}, "v": {}, "pattern": {},
    "two": {"site": "heads", "by": ("position", "head")},
    "rows": {"site": "pattern", "by": ("position", "head")},
}  # fmt: skip


@pytest.mark.parametrize("site", SITES)
def test_patching_at_every_site(shell, site):
    options = {"site": site} | SITES[site]
    clean = SHORTER if "align" in options else OTHER
    found = analyses.patch(shell.ns["model"], clean, PROMPT, 7, 9, **options, **QUIET)
    check(shell, found)
    check(shell, analyses.normalized(found), count=1)


@pytest.mark.parametrize("of", ["resid", "attn", "mlp"])
def test_the_lens_s_numbers_in_every_row(shell, of):
    found = analyses.lens(shell.ns["model"], PROMPT, 7, of=of)
    for numbers in (found.logprob, found.rank, found.entropy, found.probability, found.token):
        check(shell, numbers)
        for row in {found.rows[0], found.rows[-1]}:
            check(shell, numbers, count=1, row=row)
    with pytest.raises(BadInputError, match="read off all rows"):
        found.settled.as_cell(position=1)
    cell = analyses.lens(shell.ns["model"], PROMPT).entropy.as_cell(row=found.rows[0], position=2)
    assert cell.startswith(f"%%trace {json.dumps(PROMPT)}\n")


def run_cell(shell, cell):
    shell.run(cell.replace("\n", " -q\n", 1))
    return {name: float(shell.ns[f"{name}_here"]) for name in re.findall(r"(\w+)_here =", cell)}


def test_a_place_of_the_lens_s_grid_gives_its_token_and_all_its_numbers(shell):
    """As the view asks for it, and in Python."""
    found = analyses.lens(shell.ns["model"], PROMPT, 7)
    view = found.view()
    for row, position in ((0, 1), (2, 3), (-1, -1)):
        at = [row % len(found.rows), position % len(found.tokens)]
        text = view.answers["cell"]({"at": at})[0]["text"]
        assert text == found.as_cell(row=found.rows[row], position=at[1])
        numbers = run_cell(shell, text)
        for name, number in numbers.items():
            there = getattr(found, name)
            there = there.isel(place=0) if "place" in there.dims else there
            assert number == pytest.approx(float(there[tuple(at)]), abs=2e-4), name
        assert list(numbers) == ["token", "probability", "entropy", "rank", "logprob"]
    assert "rank_here" not in analyses.lens(shell.ns["model"], PROMPT).as_cell(row=0, position=0)
    for wrong in ([0, 99], [0], None, ["0", 1]):
        with pytest.raises(BadInputError, match="no place"):
            view.answers["cell"]({"at": wrong})
    assert view.can == ["cell"] and view.modules[0] == "" and view.modules[-1].endswith("2")
    with pytest.raises(BadInputError, match="no place '9'"):
        found.as_cell(row=9, position=0)


def test_a_head_s_cell_gives_its_pattern(shell):
    found = analyses.attention(shell.ns["model"], PROMPT)
    view = found.view()
    text = view.answers["cell"]({"at": [2, 3]})[0]["text"]
    shell.run(text.replace("\n", " -q\n", 1))
    expected = torch.tensor(found.patterns.sel(layer=2, head=3).values)
    torch.testing.assert_close(shell.ns["pattern_here"].float(), expected, atol=1e-5, rtol=0)
    assert all(path.endswith("attn") for path in view.modules)
    with pytest.raises(BadInputError, match="no place"):
        found.as_cell(layer=9, head=0)


def test_a_lens_through_a_file_names_it_and_maps_without_one_have_no_cell(shell, tmp_path):
    size = shell.ns["model"].hidden_size
    maps = analyses.LensMap("tuned lens", {"0": torch.ones(size, size) / size})
    maps.save(tmp_path / "lens.safetensors")
    path = str(tmp_path / "lens.safetensors")
    check(shell, analyses.lens(shell.ns["model"], PROMPT, 7, through=path).logprob, row="0")
    with pytest.raises(BadInputError, match="maps that are in no file"):
        analyses.lens(shell.ns["model"], PROMPT, 7, through=maps).logprob.as_cell(
            row="0", position=0
        )


def test_weights_and_scores_of_heads(shell):
    model = shell.ns["model"]
    found = analyses.attention(model, PROMPT)
    check(shell, found.patterns)
    check(shell, found.block(1))
    for score in ("previous", "first"):
        check(shell, found.scores, count=1, score=score)
    seeds = range(40)
    runs = (analyses.attention(model, induction=True, repeated=3, seed=each) for each in seeds)
    # Of random tokens few are read as just these again when they stand in a text.
    repeated = next(each for each in runs if '"no"' not in each.scores.attrs["cell"])
    for score in ("induction", "duplicate"):
        check(shell, repeated.scores, count=1, score=score)


def test_the_weight_on_a_sink(shell, monkeypatch):
    module, _ = models.build("gpt_oss")
    size = module.config.vocab_size
    text = next(
        t for t in ("One", "A", "The", "of") if int(shell.ns["model"].tokens(t).ids.max()) < size
    )
    monkeypatch.setitem(shell.ns, "model", LanguageModel(module, shell.ns["model"].tokenizer))
    found = analyses.attention(shell.ns["model"], text)
    check(shell, found.patterns, to=-1)
    check(shell, found.sinks)


ABLATED = {
    "zero": {"site": "mlp"},
    "mean at each position": {"how": "mean", "over": [OTHER, PROMPT[::-1]], "site": "attn"},
    "mean over positions": {"how": "mean", "over": [OTHER, SHORTER], "by": ("position", "head")},
    "with the first token": {"how": "mean", "over": [OTHER, "A"], "first": True},
    "resampled": {"how": "resample", "over": [OTHER, PROMPT.replace("city", "in"), SHORTER]},
}


@pytest.mark.parametrize("how", ABLATED)
def test_ablation_in_every_way(shell, how):
    texts = [PROMPT]
    tokenizer = shell.ns["model"].tokenizer
    options = dict(ABLATED[how])
    if how in ("mean at each position", "resampled"):
        options["over"] = [t for t in options["over"] if same_length(tokenizer, t, texts[0])]
    found = analyses.ablate(shell.ns["model"], PROMPT, 7, **options, **QUIET)
    check(shell, found)


def same_length(tokenizer, one, other):
    return len(tokenizer(one).input_ids) == len(tokenizer(other).input_ids)


def test_an_answer_of_several_tokens(shell):
    model = shell.ns["model"]
    answer = model.tokenizer(" Tower").input_ids * 2
    options = {"over": [OTHER, SHORTER], "how": "mean", **QUIET}
    check(shell, analyses.ablate(model, PROMPT, answer, **options), count=1)
    check(shell, analyses.patch(model, OTHER, PROMPT, answer, **QUIET), count=1)


@pytest.mark.parametrize("method", ["grad", "norm", "relp", "ig"])
@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "resid_post", "heads"])
def test_attribution_by_every_rule(shell, method, site):
    options = {"site": site, "method": method, "check": 0, **QUIET}
    check(shell, analyses.attribute(shell.ns["model"], OTHER, PROMPT, 7, 9, **options))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mamba"])
def test_direct_attribution_by_part_and_by_head(shell, tiny, tiny_tokenizer, architecture):
    model = shell.ns["model"] = LanguageModel(tiny(architecture), tiny_tokenizer)
    parts = analyses.dla(model, PROMPT, 7, 9)
    names = parts["part"].values.tolist()
    for part in ("embed", names[2], "norm bias", "unembedding bias"):
        check(shell, parts, count=1, part=part)
    if architecture != "mamba":
        check(shell, analyses.dla(model, PROMPT, 7, position=3, by="head"))


SWEEPS = {
    "layer and position": (
        f'clean="{OTHER}" corrupt="{PROMPT}"',
        "for layer, position in grid(layer=layers, position=corrupt.tokens):\n"
        "    # what stands there\n"
        "    there = clean.layers[layer].output[:, position]\n"
        "    corrupt.layers[layer].output[:, position] = there\n"
        "    v = corrupt.logits[0, -1, 7] - corrupt.logits[0, -1, 9]  # a difference\n"
        "best = v.argmax(...)",
    ),
    "layer and head, some left out": (
        f'"{PROMPT}"',
        "answer = 7\n"
        "for layer, head in grid(layer=layers, head=heads):\n"
        "    if head == 1 and layer:\n"
        "        continue\n"
        "    layers[layer].attn.heads[head][:] = 0\n"
        "    v = logits[0, -1].log_softmax(-1)[answer]",
    ),
    "several axes, prompts as points": (
        f'"{PROMPT}" "{SHORTER}" "{OTHER}"',
        "for _text, layer, strength in grid(prompt=prompt, layer=layers, strength=[-1.5, 0.5]):\n"
        "    layers[layer].output[:, -1] *= strength\n"
        "    v = logits[0, -1].log_softmax(-1)[7]",
    ),
    "pairs, tensors and names that are used again": (
        f'"{PROMPT}"',
        "for layer, direction in grid.points(layer=[0, 2], direction=directions):\n"
        "    layers[layer].output[:, -1] += direction\n"
        "    v = logits[0, -1, 7]\n"
        "    layer = 3",
    ),
    "a loop on one line": (
        f'"{PROMPT}"',
        "for layer in grid(layer=layers): layers[layer].mlp.output[:] = 0; v = logits[0, -1, 7]",
    ),
    "gradients, and values with axes of their own": (
        f'"{PROMPT}"',
        "for layer in grid(layer=layers):\n"
        "    h = layers[layer].output\n"
        "    h.requires_grad_()\n"
        "    logits[0, -1, 7].backward()\n"
        "    v = h.grad.norm(dim=-1)[0]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", SWEEPS)
def test_sweeps_of_every_form(shell, form):
    line, body = SWEEPS[form]
    generator = torch.Generator().manual_seed(0)
    size = shell.ns["model"].module.config.hidden_size
    shell.ns["directions"] = [torch.randn(size, generator=generator) for _ in range(2)]
    shell.run(f"%%sweep {line} -q\n{body}")
    found = shell.ns["v"]
    if "left out" in form:
        found = found.isel(head=[0, 2])
    check(shell, found, count=3)


def test_a_loop_variable_stands_filled_in(shell):
    line, body = SWEEPS["layer and position"]
    shell.run(f"%%sweep {line} -q\n{body}")
    cell = shell.ns["v"].as_cell(layer=1, position=2)
    assert cell.split("\n")[0] == f"%%trace {line}"
    assert "corrupt.layers[1].output[:, 2] = there_here" in cell
    assert "v_here = corrupt.logits[0, -1, 7] - corrupt.logits[0, -1, 9]  # a difference" in cell
    assert "grid" not in cell and "best" not in cell


def test_it_is_read_from_a_file_again(shell, tmp_path):
    found = analyses.patch(shell.ns["model"], OTHER, PROMPT, 7, **QUIET)
    path = tmp_path / "found.json"
    path.write_text(json.dumps(found.to_dict()))
    again = analyses.Result.from_dict(json.loads(path.read_text()))
    assert again.as_cell(layer=1, position=2) == found.as_cell(layer=1, position=2)
    assert found.sel(layer=1).as_cell(position=2) == found.as_cell(layer=1, position=2)


def test_a_console_shows_the_text_as_it_is(shell):
    found = analyses.patch(shell.ns["model"], OTHER, PROMPT, 7, **QUIET)
    shell.ns["found"] = found
    shell.run("found.as_cell(layer=1, position=2)")
    assert f'%%trace clean="{OTHER}" corrupt="{PROMPT}"\n' in shell.text


def test_what_has_no_cell_says_why(shell):
    model = shell.ns["model"]
    found = analyses.patch(model, OTHER, PROMPT, 7, **QUIET)
    for other in (found - 1, -found, found.max("position")):
        with pytest.raises(BadInputError, match="computed from numbers"):
            other.as_cell(**dict.fromkeys(other.dims, 0))
    with pytest.raises(BadInputError, match=r"position is missing: as_cell\(layer=0, position=0\)"):
        found.as_cell(layer=1)
    with pytest.raises(BadInputError, match="no axis 'head': the axes are layer, position"):
        found.as_cell(layer=1, head=2)
    with pytest.raises(BadInputError, match="no place 99 on the axis layer"):
        found.as_cell(layer=99, position=1)
    with pytest.raises(BadInputError, match="text that is read as just these"):
        bare = LanguageModel(model.module)
        analyses.patch(bare, [1, 2, 3], [3, 2, 1], 7, **QUIET).as_cell(layer=0, position=0)
    points = analyses.grid(layer=model.layers)
    swept = analyses.sweep(model, PROMPT, lambda layer: model.logits[0, -1, 7], points, **QUIET)
    with pytest.raises(BadInputError, match="a function in Python measured it"):
        swept.as_cell(layer=0)
    empty = with_axes([float("nan")], [Along("layer", [0])], "x", found.attrs)
    with pytest.raises(BadInputError, match="Nothing was measured at layer 0"):
        empty.as_cell(layer=0)


@pytest.mark.parametrize(
    "text", ['say "it"', "a {name} and $name", "two\nlines", "back\\slash", "it's {", "naïve 你"]
)
def test_any_prompt_stands_on_the_line_as_it_is(shell, text):
    shell.ns["name"] = "replaced"
    found = analyses.ablate(shell.ns["model"], text, 7, **QUIET)
    check(shell, found, count=1)
    shell.run(found.as_cell(layer=0, head=0).split("\n")[0] + " -q\nused = prompt")
    assert shell.ns["used"] == text


def test_a_point_is_opened_beside_the_run_without_its_writes(shell):
    found = analyses.patch(shell.ns["model"], OTHER, PROMPT, 7, site="heads", **QUIET)
    view = found.view()
    assert view.can == ["cell", "open"]
    before = dict(shell.ns)
    view.answers["open"]({"at": [1, 2]})
    assert {name for name in shell.ns if name not in before} == set()
    (opened,) = view.opened
    assert opened.title == "layer 1, head 2" and opened.selection is view.selection
    assert opened.wrote == ["corrupt.layers[1].attn.z"]
    assert [strip.name for strip in opened.tokens.strips] == ["clean", "corrupt"]
    tensors = {each.title: each for each in opened.tensors}
    assert float(tensors["patched_here"].array.tensor) == pytest.approx(
        float(found.sel(layer=1, head=2)), abs=2e-4
    )
    with shell.ns["model"].trace(PROMPT):
        pattern = shell.ns["model"].layers[1].attn.pattern[:, 2]
    seen = tensors["pattern_here"].array.tensor[1].double()
    assert torch.allclose(seen, pattern[0].double(), atol=1e-5)
    change = tensors["behind the last block"].difference.stats
    assert max(abs(change["min"]), abs(change["max"])) > 0


def test_a_point_of_a_sweep_is_opened_too(shell):
    line, body = SWEEPS["layer and head, some left out"]
    shell.run(f"%%sweep {line} -q\n{body}")
    view = shell.ns["v"].view()
    assert view.map.empty == "not run" and "10 of 12 points were run" in view.note
    view.answers["open"]({"at": [1, 2]})
    assert view.opened[0].wrote
    with pytest.raises(BadInputError, match="Nothing was measured"):
        view.answers["open"]({"at": [1, 1]})


def test_without_its_model_a_point_is_only_written(shell, tiny, tiny_tokenizer):
    model = LanguageModel(tiny("llama"), tiny_tokenizer)
    found = analyses.ablate(model, PROMPT, 7, **QUIET)
    view = found.view()
    del model
    import gc

    gc.collect()
    assert found.view().can == ["cell"]
    with pytest.raises(BadInputError, match="not here"):
        view.answers["open"]({"at": [0, 0]})
    assert view.answers["cell"]({"at": [0, 0]})[0]["text"].startswith("%%trace")


@pytest.mark.parametrize(
    "text",
    ['{"a": $b}', "it's $b", "\"x\" 'y' $b {b}", "$5 and ${b}", '\\$b "q"', "$$b", "{b}", "a\tb\n"],
)
def test_a_prompt_on_a_line_stays_what_it_is(bare, text: str) -> None:
    """IPython replaces `$b` and `{b}` there by variables."""
    bare.ns["b"] = "REPLACED"
    assert ast.literal_eval(bare.ip.var_expand(quoted(text))) == text
