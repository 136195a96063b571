"""Patching and ablation against loops of hand-written hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.errors import BadInputError, TokenTextError
from tests import tiny

CLEAN = torch.tensor([[5, 6, 7, 8, 9, 10]])
CORRUPT = torch.tensor([[5, 11, 12, 8, 9, 13]])
OTHER = torch.tensor([[5, 20, 21, 22, 23, 24]])
ANSWER, VERSUS, HEAD = 40, 41, tiny.HIDDEN // tiny.HEADS

# Where a site stands in a Llama: the module, whether its input is meant, and the axis of a head.
LLAMA = {
    "resid_pre": ("", True),
    "resid_post": ("", False),
    "attn": ("self_attn", False),
    "mlp": ("mlp", False),
    "heads": ("self_attn.o_proj", True),
    "neurons": ("mlp.down_proj", True),
    "q": ("self_attn.q_proj", False),
    "k": ("self_attn.k_proj", False),
    "v": ("self_attn.v_proj", False),
}


@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    return LanguageModel(tiny.build("llama"), tiny.tokenizer())


def run(
    hf: nn.Module, ids: torch.Tensor, path: str, before: bool, change: Callable[[torch.Tensor], Any]
) -> torch.Tensor:
    """The logits with a module's input or output changed by a hook."""

    def on_output(module: nn.Module, args: Any, out: Any) -> Any:
        whole = isinstance(out, torch.Tensor)
        new = (out if whole else out[0]).clone()
        change(new)
        return new if whole else (new, *out[1:])

    def on_input(module: nn.Module, args: Any, kwargs: Any) -> Any:
        new = (args[0] if args else kwargs["hidden_states"]).clone()
        change(new)
        return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

    module = hf.get_submodule(path)
    if before:
        handle = module.register_forward_pre_hook(on_input, with_kwargs=True)
    else:
        handle = module.register_forward_hook(on_output)
    with handle, torch.no_grad():
        return hf(ids).logits[0, -1]


def there(hf: nn.Module, ids: torch.Tensor, path: str, before: bool) -> torch.Tensor:
    found: list[torch.Tensor] = []
    run(hf, ids, path, before, lambda value: found.append(value.clone()))
    return found[0]


def difference(logits: torch.Tensor) -> float:
    return float(logits[ANSWER] - logits[VERSUS])


def columns(site: str, head: int) -> slice:
    return slice(head * HEAD, (head + 1) * HEAD)


@pytest.mark.parametrize("site", [name for name in LLAMA if name not in ("heads", "q", "k", "v")])
def test_by_position_it_is_a_loop_of_hooks(llama: LanguageModel, site: str) -> None:
    hf, (name, before) = llama.module, LLAMA[site]
    with torch.no_grad():
        plain = difference(hf(CORRUPT).logits[0, -1])
    found = analyses.patch(llama, CLEAN, CORRUPT, ANSWER, VERSUS, site=site)
    assert found.dims == ("layer", "position")
    assert found.attrs["baseline"] == pytest.approx(plain, abs=1e-5)
    for layer in range(tiny.LAYERS):
        path = f"model.layers.{layer}.{name}".rstrip(".")
        value = there(hf, CLEAN, path, before)
        for position in range(6):

            def change(new: torch.Tensor, value: Any = value, position: int = position) -> None:
                new[:, position] = value[:, position]

            expected = difference(run(hf, CORRUPT, path, before, change)) - plain
            assert float(found[layer, position]) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("site", ["heads", "q", "k", "v"])
def test_by_head_it_is_a_loop_of_hooks(llama: LanguageModel, site: str) -> None:
    hf, (name, before) = llama.module, LLAMA[site]
    with torch.no_grad():
        plain = difference(hf(CORRUPT).logits[0, -1])
    found = analyses.patch(llama, CLEAN, CORRUPT, ANSWER, VERSUS, site=site)
    heads = tiny.HEADS if site in ("heads", "q") else 2  # keys and values are shared by two
    assert dict(found.sizes) == {"layer": tiny.LAYERS, "head": heads}
    for layer in range(tiny.LAYERS):
        path = f"model.layers.{layer}.{name}"
        value = there(hf, CLEAN, path, before)
        for head in range(heads):
            own = columns(site, head)

            def change(new: torch.Tensor, value: Any = value, own: slice = own) -> None:
                new[..., own] = value[..., own]

            expected = difference(run(hf, CORRUPT, path, before, change)) - plain
            assert float(found[layer, head]) == pytest.approx(expected, abs=2e-4)


def test_between_the_halves_the_mlp_and_the_stream_behind_it_get_it(llama: LanguageModel) -> None:
    """What is changed there is what the attention's output, added to the stream, would change."""
    hf, layer, position = llama.module, 1, 3
    norm, attention = (
        f"model.layers.{layer}.{name}" for name in ("post_attention_layernorm", "self_attn")
    )
    moved = there(hf, CLEAN, norm, True) - there(hf, CORRUPT, norm, True)

    def change(new: torch.Tensor) -> None:
        new[:, position] += moved[:, position]

    with torch.no_grad():
        plain = difference(hf(CORRUPT).logits[0, -1])
    expected = difference(run(hf, CORRUPT, attention, False, change)) - plain
    found = analyses.patch(llama, CLEAN, CORRUPT, ANSWER, VERSUS, site="resid_mid")
    assert float(found.sel(layer=layer, position=position)) == pytest.approx(expected, abs=2e-4)


def test_both_axes_at_once_and_the_other_way(llama: LanguageModel) -> None:
    both = analyses.patch(
        llama, CLEAN, CORRUPT, ANSWER, VERSUS, site="heads", by=("head", "position"), reverse=True
    )
    assert dict(both.sizes) == {"layer": tiny.LAYERS, "position": 6, "head": tiny.HEADS}
    hf, path = llama.module, "model.layers.1.self_attn.o_proj"
    value = there(hf, CORRUPT, path, True)

    def change(new: torch.Tensor) -> None:
        new[:, 2, columns("heads", 3)] = value[:, 2, columns("heads", 3)]

    with torch.no_grad():
        plain = difference(hf(CLEAN).logits[0, -1])
    expected = difference(run(hf, CLEAN, path, True, change)) - plain
    assert float(both.sel(layer=1, position=2, head=3)) == pytest.approx(expected, abs=2e-4)


def test_the_last_block_at_the_last_position_carries_everything(llama: LanguageModel) -> None:
    effect = analyses.patch(llama, CLEAN, CORRUPT, ANSWER, VERSUS)
    share = analyses.normalized(effect)
    assert float(share.sel(layer=tiny.LAYERS - 1, position=5)) == pytest.approx(1, abs=1e-4)
    assert float(share.sel(layer=0, position=0)) == pytest.approx(0, abs=1e-4)  # the same token


def test_prompts_of_different_length_are_aligned_or_refused(llama: LanguageModel) -> None:
    longer = torch.tensor([[5, 30, 6, 7, 8, 9, 10]])
    with pytest.raises(BadInputError, match=r"7 and 6 tokens(.|\n)*align"):
        analyses.patch(llama, longer, CORRUPT, ANSWER, VERSUS)
    effect = analyses.patch(llama, longer, CORRUPT, ANSWER, VERSUS, align="same")
    assert effect["position"].values.tolist() == [0, 3, 4]  # 5, 8 and 9
    with pytest.raises(BadInputError, match="at all tokens at once"):
        analyses.patch(llama, longer, CORRUPT, ANSWER, VERSUS, align="same", site="heads")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"site": "resid_pots"}, "Did you mean 'resid_post'"),
        ({"by": "head"}, "no axis 'head'"),
        ({"layers": []}, "layers is empty"),
        ({"layers": [3]}, "There is no block 3"),
        ({"align": [(0, 9)]}, "There is no position 9"),
    ],
)
def test_what_is_not_there_is_said(
    llama: LanguageModel, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInputError, match=said):
        analyses.patch(llama, CLEAN, CORRUPT, ANSWER, VERSUS, **options)


def test_an_answer_that_is_no_token(llama: LanguageModel) -> None:
    with pytest.raises(TokenTextError):
        analyses.patch(llama, CLEAN, CORRUPT, 10**6)


def test_an_answer_of_several_tokens_is_teacher_forced(llama: LanguageModel) -> None:
    effect = analyses.patch(llama, CLEAN, CORRUPT, [40, 41, 42], layers=[1])
    forced = torch.cat([CORRUPT, torch.tensor([[40, 41]])], 1)
    with torch.no_grad():
        logprobs = llama.module(forced).logits[0, -3:].log_softmax(-1)
    expected = float(sum(logprobs[k, token] for k, token in enumerate([40, 41, 42])))
    assert effect.attrs["baseline"] == pytest.approx(expected, abs=1e-4)
    assert effect.sizes["position"] == 6


@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_ablation_of_heads_is_a_loop_of_hooks(llama: LanguageModel, how: str) -> None:
    hf = llama.module
    over = [] if how == "zero" else [OTHER] if how == "resample" else [OTHER, CORRUPT]
    found = analyses.ablate(llama, CLEAN, ANSWER, VERSUS, how=how, over=over, repeats=1)
    with torch.no_grad():
        plain = difference(hf(CLEAN).logits[0, -1])
    for layer in range(tiny.LAYERS):
        path = f"model.layers.{layer}.self_attn.o_proj"
        others = [there(hf, ids, path, True) for ids in over]
        instead = torch.stack(others).mean(0) if others else torch.zeros(1, 6, tiny.HIDDEN)
        for head in range(tiny.HEADS):
            own = columns("heads", head)

            def change(new: torch.Tensor, instead: Any = instead, own: slice = own) -> None:
                new[..., own] = instead[..., own]

            expected = difference(run(hf, CLEAN, path, True, change)) - plain
            assert float(found[layer, head]) == pytest.approx(expected, abs=2e-4)


def test_a_mean_over_texts_of_other_lengths_leaves_the_first_token_out(
    llama: LanguageModel,
) -> None:
    short = torch.tensor([[5, 50, 51]])
    found = analyses.ablate(
        llama, CLEAN, ANSWER, VERSUS, how="mean", over=[short], site="mlp", layers=[1]
    )
    hf, path = llama.module, "model.layers.1.mlp"
    instead = there(hf, short, path, False)[:, 1:].mean(1)

    def change(new: torch.Tensor) -> None:
        new[:, 4] = instead

    with torch.no_grad():
        plain = difference(hf(CLEAN).logits[0, -1])
    expected = difference(run(hf, CLEAN, path, False, change)) - plain
    assert float(found.sel(layer=1, position=4)) == pytest.approx(expected, abs=2e-4)


def test_ablation_refuses_what_it_cannot_take_from(llama: LanguageModel) -> None:
    with pytest.raises(BadInputError, match="needs texts"):
        analyses.ablate(llama, CLEAN, ANSWER, how="mean")
    with pytest.raises(BadInputError, match="another text of 6 tokens"):
        analyses.ablate(llama, CLEAN, ANSWER, how="resample", over=[CLEAN, [5, 6, 7]])
    with pytest.raises(BadInputError, match="zero needs no text"):
        analyses.ablate(llama, CLEAN, ANSWER, over=[OTHER])


def test_resampling_says_how_far_its_draws_lie_apart(llama: LanguageModel) -> None:
    over = [OTHER, CORRUPT, torch.tensor([[5, 60, 61, 62, 63, 64]])]
    one = analyses.ablate(llama, CLEAN, ANSWER, how="resample", over=over, repeats=6, seed=3)
    same = analyses.ablate(llama, CLEAN, ANSWER, how="resample", over=over, repeats=6, seed=3)
    assert one.attrs["standard_error"] > 0
    assert one.equals(same)


def test_blocks_may_be_numbers_of_another_results_axis(tiny, tiny_tokenizer):
    import numpy as np

    from nnsight_magic.analyses.site_run import chosen_layers

    model = LanguageModel(tiny("gpt2"), tiny_tokenizer)
    assert chosen_layers(model, np.array([0, -1])) == [0, len(model.layers) - 1]
    with pytest.raises(BadInputError, match="There is no block True"):
        chosen_layers(model, [True])
