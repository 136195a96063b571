"""What heads attend to: patterns, scores, sinks, and the heads that are known for what they do."""

from __future__ import annotations

import gc
import html
import subprocess
import sys

import numpy as np
import pytest
import torch

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.errors import BadInputError
from tests.architectures import models

PROMPT = "The Eiffel Tower is in the city of"
# Their own attentions are plain patterns by layer; those of one without attention are none.
KNOWN = ("gpt2", "llama", "gpt_neox", "mixtral", "gemma2", "olmo2", "opt", "qwen3_moe", "gptj")

# Mamba's kin; blocks of several layers whose attention is shared; one block for several layers.
NO_HEADS = ("mamba", "mamba2", "rwkv", "zamba2", "albert")
BOTH_WAYS = ("bert", "vit", "modernbert")


@pytest.mark.parametrize("name", KNOWN)
def test_patterns_and_scores_are_those_of_the_model_itself(name):
    module, inputs = models.build(name)
    if name == "gemma2":  # transformers 4 runs it with sdpa too, which leaves the softcap out
        module.set_attn_implementation("eager")
    found = analyses.attention(LanguageModel(module), inputs)
    module.set_attn_implementation("eager")
    with torch.no_grad():
        own = torch.stack(module(**inputs, output_attentions=True).attentions)[:, 0].numpy()
    np.testing.assert_allclose(found.patterns.values, own, atol=1e-5)
    tokens = own.shape[-1]
    previous = [[np.mean([p[i, i - 1] for i in range(1, tokens)]) for p in each] for each in own]
    np.testing.assert_allclose(found.scores.sel(score="previous"), previous, atol=1e-5)
    np.testing.assert_allclose(found.scores.sel(score="first"), own[..., 1:, 0].mean(-1), atol=1e-5)


@pytest.mark.parametrize("name", [name for name in models.CASES if name not in NO_HEADS])
def test_in_every_architecture_all_that_a_token_gives_out_is_there(name):
    """Rows sum to 1 with the sink, where there is one, and no head looks ahead where none may."""
    module, inputs = models.build(name)
    found = analyses.attention(LanguageModel(module), inputs)
    np.testing.assert_allclose(found.patterns.values.sum(-1), 1, atol=1e-5)
    if not getattr(module.config, "is_encoder_decoder", False) and name not in BOTH_WAYS:
        assert np.triu(found.patterns.values[..., : found.patterns.sizes["from"]], 1).max() == 0


@pytest.mark.parametrize("name", NO_HEADS)
def test_models_without_heads_that_are_known_are_refused(name):
    module, inputs = models.build(name)
    with pytest.raises(BadInputError, match="No block of this model attends"):
        analyses.attention(LanguageModel(module), inputs)


def test_a_sink_is_a_column_of_its_own_with_the_weight_that_the_softmax_gives_it():
    module, inputs = models.build("gpt_oss")
    model = LanguageModel(module)
    found = analyses.attention(model, inputs)
    assert found.patterns.shape[-2:] == (6, 7)
    assert found.patterns["to_text"].values.tolist()[-1] == "sink"
    for layer in range(2):
        with model.trace(inputs):
            attention = model.layers[layer].attn
            q, k = attention.q_rot.value[0], attention.k_rot.value[0]
        module_of = module.model.layers[layer].self_attn
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
        score = (q[:, :, None] * k[:1].transpose(0, 1)[None]).sum(-1)[..., 0] * module_of.scaling
        first = torch.tensor(found.patterns.sel(layer=layer, to=0).values)
        expected = (first * (module_of.sinks[:, None] - score.T).exp()).detach().numpy()[:, :4]
        assert expected.min() > 1e-3  # later tokens do not see the first, through a window
        sinks = found.patterns.sel(layer=layer, to=-1).values
        np.testing.assert_allclose(sinks[:, :4], expected, atol=1e-5)
        np.testing.assert_allclose(found.sinks.values[layer], sinks.mean(-1), atol=1e-6)
    view = found.view()
    assert "sink" in found.text() and "sink" in view.heads.scores
    assert view.large.axes[3]["labels"][-1] == "sink" and view.heads.small.shape[-2:] == (6, 7)


def test_blocks_without_attention_are_left_out():
    module, inputs = models.build("jamba")
    assert analyses.attention(LanguageModel(module), inputs).scores["layer"].values.tolist() == [1]


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_around_a_prompt_changes_nothing(name, side):
    module, inputs = models.build(name)
    ids = inputs["input_ids"]
    padding = torch.zeros(1, 3, dtype=torch.long)
    parts = [padding, ids] if side == "left" else [ids, padding]
    mask = [torch.ones_like(part) * (part is ids) for part in parts]
    padded = {"input_ids": torch.cat(parts, 1), "attention_mask": torch.cat(mask, 1)}
    model = LanguageModel(module)
    one, other = (analyses.attention(model, given) for given in (inputs, padded))
    # Where a tensor begins in memory may change the last bit.
    np.testing.assert_allclose(one.patterns.values, other.patterns.values, atol=1e-6)
    one, other = (analyses.lens(model, given, 7) for given in (inputs, padded))
    np.testing.assert_allclose(one.logprob.values, other.logprob.values, atol=1e-5)


def test_a_batch_and_a_mask_with_holes_are_refused_in_words():
    module, inputs = models.build("llama")
    ids, model = inputs["input_ids"], LanguageModel(module)
    for function in (analyses.attention, analyses.lens):
        with pytest.raises(BadInputError, match="one prompt; found 2"):
            function(model, {"input_ids": ids.repeat(2, 1)})
        mask = torch.tensor([[1, 1, 0, 1, 1, 1]])
        with pytest.raises(BadInputError, match="between others"):
            function(model, {"input_ids": ids, "attention_mask": mask})


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_oss"])
def test_rows_of_a_generated_text_are_what_each_step_attended_to(name):
    """With its cache a step has one query: the row of its token in the pattern of the whole."""
    module, inputs = models.build(name)
    model, length = LanguageModel(module), inputs["input_ids"].shape[1]
    rows, tokens = [], []
    with model.generate(inputs["input_ids"], max_new_tokens=3, do_sample=False) as tracer:
        for _step in tracer.steps:
            rows.append(model.layers[1].attn.pattern.value[0, :, -1])
            tokens.append(int(model.logits[0, -1].argmax()))
    text = torch.cat([inputs["input_ids"], torch.tensor([tokens])], 1)
    found, lens = analyses.attention(model, text), analyses.lens(model, text)
    for step, row in enumerate(rows):
        own = found.patterns.sel(layer=1).values[:, length - 1 + step, : row.shape[-1]]
        np.testing.assert_allclose(row.detach().numpy(), own, atol=1e-5)
        assert int(lens.token.isel(row=-1, position=length - 1 + step, place=0)) == tokens[step]


@pytest.fixture(scope="module")
def model():
    from tests import tiny

    return LanguageModel(tiny.build("llama"), tiny.tokenizer())


def test_induction_scores_are_means_of_the_pattern_over_the_second_copy(model):
    found = analyses.attention(model, induction=True, repeated=7, seed=3)
    ids = model.tokenizer.convert_tokens_to_ids
    assert len(found.tokens) == 15 and ids("<|endoftext|>") == 0
    assert found.tokens[1:8] == found.tokens[8:] and len({*found.tokens}) == 8
    pattern = found.patterns.values
    induction = np.mean([pattern[..., i, i - 6] for i in range(8, 15)], axis=0)
    duplicate = np.mean([pattern[..., i, i - 7] for i in range(8, 15)], axis=0)
    np.testing.assert_allclose(found.scores.sel(score="induction"), induction, atol=1e-6)
    np.testing.assert_allclose(found.scores.sel(score="duplicate"), duplicate, atol=1e-6)
    again = analyses.attention(model, induction=True, repeated=7, seed=3)
    assert again.tokens == found.tokens
    assert analyses.attention(model, induction=True, repeated=7, seed=4).tokens != found.tokens


@pytest.fixture
def few(monkeypatch):
    """Patterns of more than ten values are too many to be kept."""
    from nnsight_magic.analyses import attention_patterns
    from nnsight_magic.views.live import heads

    monkeypatch.setattr(attention_patterns, "KEPT", 10)
    monkeypatch.setattr(heads, "STORED", 10)


def test_patterns_that_are_too_many_are_run_again_by_the_block(model, few):
    kept = analyses.attention(model, "Hello world", keep=True)
    found = analyses.attention(model, "Hello world")
    assert found.patterns is None
    np.testing.assert_allclose(found.block(1).values, kept.block(1).values, atol=1e-6)
    assert np.array_equal(found.scores.values, kept.scores.values)


def plane(view, block, head, window=None, side=400):
    """What the view's page is answered: the numbers of a plane, or a part of it."""
    asked = {"drawn": [2, 3], "index": [block, head, 0, 0], "size": [side, side], "window": window}
    facts, (levels, codes, *_) = view.large.answers["plane"](asked)
    table = np.frombuffer(levels, np.float64)
    shape = (1 + facts["pair"], facts["rows"], facts["columns"])
    return table[np.frombuffer(codes, np.uint8).reshape(shape)][-1]


def test_a_view_reads_the_block_that_is_looked_at_and_no_other(model, few):
    kept = analyses.attention(model, "Hello world, this is a test", keep=True)
    found = analyses.attention(model, "Hello world, this is a test")
    view = found.view()
    ran = []
    read = view.large.array._read
    view.large.array._read = lambda block: ran.append(block) or read(block)
    assert view.at == list(found.ranked()[0][:2])
    first = plane(view, *view.at)
    np.testing.assert_allclose(first, kept.patterns.values[*view.at], atol=0.01)
    assert not ran  # the head that is shown first is kept
    for head in (0, 1, 3):
        own = kept.patterns.values[2, head]
        np.testing.assert_allclose(plane(view, 2, head), own, atol=0.01)
        part = plane(view, 2, head, [4, 8, 1, 6])
        np.testing.assert_allclose(part, own[4:8, 1:6], atol=0.01)
    assert ran == [2]
    weight = view.large.answers["text"]({"index": [2, 3, 5, 1]})[0]["text"]
    np.testing.assert_allclose(float(weight), kept.patterns.values[2, 3, 5, 1], rtol=1e-5)
    with pytest.raises(BadInputError, match="keep=True"):
        view.large.answers["plane"](
            {"drawn": [0, 3], "index": [0, 0, 0, 0], "size": [9, 9], "window": None}
        )


def test_the_heads_of_one_block_are_those_of_all_blocks(model):
    whole = analyses.attention(model, "Hello world, this")
    found = analyses.attention(model, "Hello world, this", layers=[2])
    assert found.scores["layer"].values.tolist() == [2]
    assert np.array_equal(found.patterns.values[0], whole.patterns.values[2])
    assert np.array_equal(found.scores.sel(layer=2), whole.scores.sel(layer=2))
    assert found.view().at[0] == 0 and "1 block of 4 heads" in found.view().text()
    for layers in ([3], [-1]):
        with pytest.raises(BadInputError, match="There is no block"):
            analyses.attention(model, "Hello", layers=layers)


def test_figures_of_patterns_have_the_numbers_the_tokens_and_the_names_of_the_axes(
    model, few, tmp_path
):
    kept = analyses.attention(model, "Hello world, this", keep=True)
    found = analyses.attention(model, "Hello world, this")
    sheet = found.figure(layer=1)
    planes = [axes for axes in sheet.axes if axes.images]
    assert [axes.get_title() for axes in planes] == [f"head {k}" for k in range(4)]
    for head, axes in enumerate(planes):
        drawn = np.asarray(axes.images[0].get_array())
        np.testing.assert_allclose(drawn, kept.patterns.values[1, head], atol=1e-6)
        assert axes.images[0].get_clim() == (0, 1)
    words = [each.get_text() for each in planes[0].get_yticklabels()]
    assert words == [each.replace(" ", "·") for each in found.tokens]
    sheet.savefig(tmp_path / "heads.svg")
    assert "from (query)" in (tmp_path / "heads.svg").read_text()
    one = found.figure(layer=1, head=2).axes[0]
    assert (one.get_xlabel(), one.get_ylabel()) == ("to", "from")
    for wrong in ({"layer": 3}, {"layer": 1, "head": 4}):
        with pytest.raises(BadInputError, match=r"no patterns of a block|there is no 4"):
            found.figure(**wrong)


def test_scores_are_a_map_in_a_terminal(monkeypatch):
    from nnsight_magic import terminal

    monkeypatch.setattr(terminal, "in_terminal", lambda: True)
    module, inputs = models.build("gemma3n")
    text = analyses.attention(LanguageModel(module), inputs).text()
    assert "previous:" in text and "layer ↓  head →" in text and "from " in text


def test_links_of_a_token_are_its_row_and_column_of_one_head_or_the_mean_of_several(model, few):
    kept = analyses.attention(model, "Hello world, this is a test", keep=True).patterns.values
    view = analyses.attention(model, "Hello world, this is a test").view()
    for heads in ([[1, 2]], [[1, 2], [0, 3], [2, 0]]):
        mean = np.mean([kept[block, head] for block, head in heads], axis=0)
        for token in (0, 4):
            _, (row, column) = view.answers["links"]({"heads": heads, "token": token})
            np.testing.assert_allclose(np.frombuffer(row, np.float32), mean[token], atol=1e-6)
            np.testing.assert_allclose(np.frombuffer(column, np.float32), mean[:, token], atol=1e-6)
    view.chosen = [[0, 1], [2, 3]]
    for wrong in ([[0, 4]], [[3, 0]], [[-1, 0]]):
        with pytest.raises(Exception, match="no heads"):
            view.chosen = wrong
        with pytest.raises(BadInputError, match="no heads"):
            view.answers["links"]({"heads": wrong, "token": 0})
    assert view.chosen == [[0, 1], [2, 3]]
    with pytest.raises(BadInputError, match="no token 99"):
        view.answers["links"]({"heads": [[0, 0]], "token": 99})
    with pytest.raises(BadInputError, match="pairs of numbers"):
        view.answers["links"]({"heads": None, "token": 0})


@pytest.mark.parametrize("keep", [True, False])
def test_a_still_tells_the_links_of_the_selected_token(model, few, keep):
    found = analyses.attention(model, "Hello world, this is a test", keep=keep)
    view = found.view()
    assert "attends to" not in view.still()
    view.selection.token = 4
    layer, head = found.ranked()[0][:2]
    row = found.block(layer).values[head, 4]
    still = html.unescape(view.still())
    word = found.tokens[int(row.argmax())].replace(" ", "·")
    assert f"head {layer}.{head}: attends to <bdi>{word}</bdi> {row.max():.2g}" in still
    view.at = [(layer + 1) % 3, 0]
    assert f"head {(layer + 1) % 3}.0: attends to" in view.still()


def test_a_bright_cell_is_seen_however_far_one_is_away():
    from nnsight_magic.analyses.attention_blocks import pooled
    from nnsight_magic.views.data.in_blocks import InBlocks
    from nnsight_magic.views.live.heads import HeadsView

    patterns = torch.zeros(2, 2000, 2000)
    patterns[1, 1234, 777] = 0.9
    small = np.stack([pooled(head) for head in patterns])[None]
    assert small.shape == (1, 2, 16, 16) and small[0, 1, 1234 // 125, 777 // 125] == np.float32(0.9)
    tokens = [str(k) for k in range(2000)]
    array = InBlocks((1, 2, 2000, 2000), lambda block: patterns)
    view = HeadsView(small, [0], tokens, {"first": np.zeros((1, 2))}, array, at=[0, 1])
    assert plane(view, 0, 1).max() == pytest.approx(0.9, abs=0.01)
    assert len(view.large.codes) + len(view.small) < 20_000


def test_a_view_says_why_a_block_cannot_be_run_again(few):
    from tests import tiny

    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    found = analyses.attention(model, "Hello world")
    view = found.view()
    with torch.no_grad():
        model.module.model.layers[0].self_attn.q_proj.weight.mul_(3)
    with pytest.raises(BadInputError, match="attends otherwise now"):
        found.block(1)
    with pytest.raises(BadInputError, match="attends otherwise now"):
        view.large.array.block(1)
    with model.trace("Hello"), pytest.raises(BadInputError, match="running in a cell"):
        view.large.array.block(2)
    del model, found
    gc.collect()
    with pytest.raises(BadInputError, match="model was deleted"):
        view.large.array.block(2)
    assert "pattern" in view.large.still()


IN_A_PROCESS = """
import ctypes, gc, re
from pathlib import Path
import torch
from nnsight_magic import LanguageModel, analyses
from tests import tiny

def resident(field):
    return int(re.search(rf"{field}:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))

def growth(layers, **options):
    model = LanguageModel(tiny.llama(layers).eval())
    model.resume.enabled = False
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark, back to now
    before = resident("VmRSS")
    found = analyses.attention(model, torch.arange(2000)[None] % 300, **options)
    return (resident("VmHWM") - before) / 1e3

growth(1)
print(growth(2), growth(8), growth(8, keep=True))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no other system sets its high-water mark back")
def test_at_2000_tokens_no_more_stands_in_memory_than_one_block_takes():
    """4 heads of 2,000 tokens are 64 MB a block."""
    shown = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS], capture_output=True, text=True, check=True
    )
    few, many, kept = map(float, shown.stdout.split())
    assert many < few + 64, shown.stdout
    assert kept > few + 6 * 64, shown.stdout


def test_all_heads_are_shown_with_the_one_that_scores_highest_large(model):
    found = analyses.attention(model, "Hello world, this is a test")
    view = found.view(score="first")
    layer, head, value = found.ranked("first")[0]
    assert view.at == [layer, head] and view.large.index[:2] == [layer, head]
    assert [axis["role"] for axis in view.large.axes] == ["layer", "head", "from", "to"]
    assert list(view.large.axes[3]["labels"]) == found.tokens
    view.at = [0, 1]
    assert view.large.index[:2] == [0, 1]
    view.large.index = [2, 3, 0, 0]
    assert view.at == [2, 3]
    still = html.unescape(view.still())
    assert f"<td class='m'>{layer}.{head}</td>" in still and "large below: head 2.3" in still
    assert f"{layer}.{head}" in view.text() and value == float(
        found.scores.sel(score="first").max()
    )
    with pytest.raises(Exception, match="no head"):
        view.at = [3, 0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "Give a prompt, or ask for induction"),
        ({"prompt": "Hello", "induction": True}, "one of them"),
        ({"prompt": ["Hello", "world"]}, "one prompt; found 2"),
        ({"induction": True, "repeated": 1}, "1 random tokens of a vocabulary of 3"),
        ({"induction": True, "repeated": 400}, "400 random tokens"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(model, arguments, words):
    with pytest.raises(BadInputError, match=words):
        analyses.attention(model, **arguments)
    with pytest.raises(BadInputError, match="need induction=True"):
        analyses.attention(model, "Hello").ranked("induction")


@pytest.mark.demo
def test_patterns_are_those_of_transformer_lens(demo, bridge):
    found = analyses.attention(demo, PROMPT)
    ids = demo.tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        _, cache = bridge.run_with_cache(ids, names_filter=lambda name: "pattern" in name)
    for layer in range(30):
        own = cache[f"blocks.{layer}.attn.hook_pattern"][0].numpy()
        np.testing.assert_allclose(found.block(layer).values, own, atol=1e-3)


@pytest.mark.demo
def test_the_demo_model_has_induction_heads_behind_its_previous_token_heads(demo):
    """Olsson et al. 2022: heads that look behind the earlier occurrence of the present token, in
    blocks behind heads that look at the previous token, whatever the random tokens are."""
    runs = [analyses.attention(demo, induction=True, seed=seed) for seed in (0, 1)]
    for found in runs:
        (layer, head, value), (_, _, second), *_ = found.ranked("induction")
        assert (layer, head) == (18, 6) and value > 0.6 and second > 0.35
        assert float(found.scores.sel(score="induction").median()) < 0.05
        assert found.ranked("previous")[0][0] < layer
        heads = {(layer, head) for layer, head, _ in found.ranked("induction")[:4]}
        assert heads == {(18, 6), (17, 4), (17, 5), (17, 3)}
