"""Edges against hand-written gradients, against the scores of their writers, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.errors import BadInputError, NnsightError, WrongValueError
from tests import tiny
from tests.architectures import families, models
from tests.hooks import hook_count

CLEAN = torch.tensor([[5, 6, 7, 8, 9, 10]])
CORRUPT = torch.tensor([[5, 11, 12, 8, 9, 13]])
ANSWER, VERSUS, SIZE = 40, 41, tiny.HIDDEN // tiny.HEADS
QUIET: Any = {"check": 0, "progress": False}

HAVE_EDGES = (
    "llama", "gpt2", "gpt_neox", "mixtral", "gpt_oss", "gpt_neo", "codegen", "gptj", "modernbert",
    "cohere", "granite", "phi", "phi3", "llama4", "mistral", "qwen3", "qwen2_moe", "qwen3_moe",
    "falcon", "bloom", "stablelm", "starcoder2",
)  # fmt: skip
REFUSED = {
    "gemma2": "no head has a write of its own",
    "gemma3": "no head has a write of its own",
    "olmo2": "no head has a write of its own",
    "glm4": "no head has a write of its own",
    "falcon_h1": "reads of the residual stream is more",
    "gemma3n": "several streams",
    "bart": "the sum is normalised",
    "mamba": "has no 'attn'",
    "opt": "has no 'mlp'",
    "jamba": "has no 'attn'",
    "qwen3_next": "has no q",
}


def seeded(name: str) -> LanguageModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module, _ = models.build(name)
    return LanguageModel(module.eval())


@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    return LanguageModel(tiny.build("llama"), tiny.tokenizer())


@pytest.mark.parametrize("method", ["norm", "grad"])
@pytest.mark.parametrize("name", HAVE_EDGES)
def test_the_edges_of_a_writer_sum_to_its_score(name: str, method: Any) -> None:
    model = seeded(name)
    options: Any = {"method": method, **QUIET}
    edges = analyses.attribute_edges(model, CLEAN, CORRUPT, ANSWER, VERSUS, **options)
    sums = edges.sum("reader")
    nodes = {}
    for site, by in (("heads", "head"), ("mlp", "position"), ("resid_pre", "position")):
        nodes[site] = analyses.attribute(
            model, CLEAN, CORRUPT, ANSWER, VERSUS, site=site, by=by, **options
        ).values
    layers, heads = nodes["heads"].shape
    expected = {"embed": nodes["resid_pre"][0].sum()}
    for layer in range(layers):
        expected |= {f"{layer}.{head}": nodes["heads"][layer, head] for head in range(heads)}
        expected[f"{layer}.mlp"] = nodes["mlp"][layer].sum()
    assert edges["writer"].values.tolist() == list(expected)
    largest = max(abs(float(each)) for each in expected.values())
    for writer, score in expected.items():
        assert float(sums.sel(writer=writer)) == pytest.approx(float(score), abs=1e-4 * largest)
    assert hook_count(model.module) == 0


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_edges_is_refused_in_words(name: str) -> None:
    with pytest.raises(NnsightError, match=REFUSED[name]):
        analyses.attribute_edges(
            seeded(name), CLEAN, CORRUPT, ANSWER, VERSUS, method="grad", **QUIET
        )


def writes(hf: Any, ids: torch.Tensor, layer: int, part: str) -> torch.Tensor:
    """What a head, or the MLP, of a block of the tiny Llama adds, by plain hooks."""
    found = []
    block = hf.model.layers[layer]
    module = block.mlp if part == "mlp" else block.self_attn.o_proj
    with (
        module.register_forward_hook(lambda _, args, out: found.append((args[0], out))),
        torch.no_grad(),
    ):
        hf(ids)
    given, gave = found[0]
    if part == "mlp":
        return gave
    own = slice(int(part) * SIZE, (int(part) + 1) * SIZE)
    return given[..., own] @ module.weight[:, own].T


def slope_at(hf: Any, layer: int, part: str, head: int) -> torch.Tensor:
    """The metric's gradient at one reader's own copy of the stream, of a model that has one."""
    block, nudge = hf.model.layers[layer], torch.zeros(1, 6, tiny.HIDDEN, requires_grad=True)
    norm = block.post_attention_layernorm if part == "mlp" else block.input_layernorm
    module = block.mlp if part == "mlp" else getattr(block.self_attn, f"{part}_proj")
    own = slice(None) if part == "mlp" else slice(head * SIZE, (head + 1) * SIZE)
    stream = []

    def put(_: Any, args: Any, out: torch.Tensor) -> torch.Tensor:
        inner = nn.Module.__call__  # the module itself, without this hook
        alone = module.forward(inner(norm, stream[0] + nudge)) - module.forward(args[0])
        moved = torch.zeros_like(out)
        moved[..., own] = alone[..., own]
        return out + moved

    with (
        norm.register_forward_pre_hook(lambda _, args: stream.append(args[0])),
        module.register_forward_hook(put),
    ):
        logits = hf(CORRUPT).logits[0, -1]
    (logits[ANSWER] - logits[VERSUS]).backward()
    hf.zero_grad()
    assert nudge.grad is not None
    return nudge.grad


@pytest.mark.parametrize(
    ("writer", "reader"),
    [("0.1", "1.2.q"), ("0.3", "2.2.k"), ("1.mlp", "2.0.v"), ("0.0", "0.mlp"), ("1.2", "2.mlp")],
)
def test_an_edge_is_the_gradient_at_the_reader_s_own_copy(
    llama: LanguageModel, writer: str, reader: str
) -> None:
    hf = llama.module
    edges = analyses.attribute_edges(llama, CLEAN, CORRUPT, ANSWER, VERSUS, method="grad", **QUIET)
    layer, part = writer.split(".")
    change = writes(hf, CLEAN, int(layer), part) - writes(hf, CORRUPT, int(layer), part)
    to, *rest = reader.split(".")
    kind = rest[-1]
    head = 0 if kind == "mlp" else int(rest[0]) // (1 if kind == "q" else 2)
    expected = float((change * slope_at(hf, int(to), kind, head)).sum())
    assert float(edges.sel(writer=writer, reader=reader)) == pytest.approx(expected, abs=1e-5)


def test_an_edge_is_a_path_and_the_exact_ones_are_those_of_path_patch(
    llama: LanguageModel,
) -> None:
    edges = analyses.attribute_edges(llama, CLEAN, CORRUPT, ANSWER, VERSUS, check=4)
    rows = edges.attrs["exact"]
    assert len(rows) == 8
    paths = [f"{writer}:{reader}" for writer, reader, _, _ in rows]
    exact = analyses.path_patch(llama, CLEAN, CORRUPT, paths, ANSWER, VERSUS, progress=False)
    for path, (writer, reader, estimate, found) in zip(paths, rows, strict=True):
        assert found == pytest.approx(float(exact.sel(path=path)), abs=1e-5)
        assert estimate == pytest.approx(float(edges.sel(writer=writer, reader=reader)), abs=1e-6)
    known = ~np.isnan(edges.values)
    assert not known[edges["writer"].values == "1.mlp"][0][:16].any()  # nothing reads backwards
    assert edges.view().map.empty == "no path"
    assert "no path" in edges.view().text() or "NaN" not in edges.text()


def test_queries_whose_norms_come_behind_all_projections() -> None:
    from transformers import StableLmConfig, StableLmForCausalLM

    sizes = {k: v for k, v in families._SIZES.items() if v is not None}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hf = StableLmForCausalLM(StableLmConfig(**sizes, qk_layernorm=True)).eval()
    model, options = LanguageModel(hf), {"method": "grad", **QUIET}
    edges = analyses.attribute_edges(model, CLEAN, CORRUPT, ANSWER, VERSUS, **options)
    heads = analyses.attribute(model, CLEAN, CORRUPT, ANSWER, VERSUS, site="heads", **options)
    sums = edges.sum("reader").sel(writer=[f"{k}.{h}" for k in range(2) for h in range(4)])
    np.testing.assert_allclose(sums.values, heads.values.ravel(), atol=1e-5)


@pytest.mark.parametrize("method", ["relp", "ig", "eap", ""])
def test_other_methods_are_refused_before_anything_runs(llama: LanguageModel, method: Any) -> None:
    with pytest.raises(BadInputError, match="Methods are norm, grad"):
        analyses.attribute_edges(llama, CLEAN, CORRUPT, ANSWER, VERSUS, method=method)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "olmo2", "glm4"])
def test_a_head_behind_whose_attention_a_norm_stands_sends_nothing_alone(name: str) -> None:
    model = seeded(name)
    with pytest.raises(WrongValueError, match="no head has a write of its own"):
        analyses.path_patch(model, CLEAN, CORRUPT, "0.1:logits", ANSWER, VERSUS)
    whole = analyses.path_patch(model, CLEAN, CORRUPT, "0.attn:logits", ANSWER, VERSUS)
    assert bool(np.isfinite(whole.values).all())


@torch.no_grad()
def test_a_head_of_granite_writes_what_its_block_multiplies() -> None:
    model = seeded("granite")
    hf: Any = model.module
    projection, own = hf.model.layers[0].self_attn.o_proj, slice(8, 16)
    given: list[torch.Tensor] = []
    with projection.register_forward_pre_hook(lambda _, args: given.append(args[0])):
        hf(CLEAN)
        hf(CORRUPT)
    change = (given[0] - given[1])[..., own] @ projection.weight[:, own].T
    change = change * hf.config.residual_multiplier

    def logits(more: Any) -> torch.Tensor:
        with hf.model.norm.register_forward_pre_hook(lambda _, args: (args[0] + more,)):
            return hf(CORRUPT).logits[0, -1]

    expected = (logits(change) - logits(0))[[ANSWER, VERSUS]]
    found = analyses.path_patch(model, CLEAN, CORRUPT, "0.1:logits", ANSWER, VERSUS)
    assert float(found[0]) == pytest.approx(float(expected[0] - expected[1]), abs=1e-5)
