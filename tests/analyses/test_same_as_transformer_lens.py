"""The demo model beside TransformerLens: patching, ablation, attribution; and a known finding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nnsight_magic import LanguageModel, analyses

CLEAN = "The Eiffel Tower is in the city of"
CORRUPT = "The Colosseum is in the city of"
PARIS, ROME = " Paris", " Rome"
pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def ids(wrapped: LanguageModel) -> dict[str, torch.Tensor]:
    return {
        text: wrapped.tokenizer(text, return_tensors="pt")["input_ids"] for text in (CLEAN, CORRUPT)
    }


@pytest.fixture(scope="module")
def answers(wrapped: LanguageModel) -> list[int]:
    return [wrapped.tokenizer.encode(each)[0] for each in (PARIS, ROME)]


@pytest.fixture(scope="module")
def clean_cache(bridge: Any, ids: dict[str, torch.Tensor]) -> Any:
    with torch.no_grad():
        return bridge.run_with_cache(ids[CLEAN])[1]


def with_hook(bridge: Any, ids: torch.Tensor, answers: list[int], name: str, change: Any) -> float:
    def hook(value: torch.Tensor, hook: Any) -> torch.Tensor:
        change(value)
        return value

    with torch.no_grad():
        logits = bridge.run_with_hooks(ids, fwd_hooks=[(name, hook)])
    return float(logits[0, -1, answers[0]] - logits[0, -1, answers[1]])


@pytest.mark.parametrize(
    ("site", "name"),
    [
        ("resid_pre", "hook_in"),
        ("resid_post", "hook_out"),
        ("attn", "hook_attn_out"),
        ("mlp", "hook_mlp_out"),
    ],
)
def test_patches_by_position(
    demo: LanguageModel, bridge: Any, clean_cache: Any, ids: Any, answers: Any, site: str, name: str
) -> None:
    layers = [4, 17]
    effect = analyses.patch(demo, CLEAN, CORRUPT, PARIS, ROME, site=site, layers=layers)
    for layer, position in ((4, 3), (17, 8), (17, 3)):
        point = f"blocks.{layer}.{name}"

        def change(value: torch.Tensor, point: str = point, position: int = position) -> None:
            value[:, position] = clean_cache[point][:, position]

        theirs = with_hook(bridge, ids[CORRUPT], answers, point, change)
        ours = float(effect.sel(layer=layer, position=position)) + effect.attrs["baseline"]
        assert ours == pytest.approx(theirs, abs=1e-3)


def test_patches_and_ablations_of_heads(
    demo: LanguageModel, bridge: Any, clean_cache: Any, ids: Any, answers: Any
) -> None:
    effect = analyses.patch(demo, CLEAN, CORRUPT, PARIS, ROME, site="heads", layers=[12])
    gone = analyses.ablate(demo, CLEAN, PARIS, ROME, layers=[12])
    point = "blocks.12.attn.hook_z"
    for head in (0, 5):

        def put(value: torch.Tensor, head: int = head) -> None:
            value[:, :, head] = clean_cache[point][:, :, head]

        def take(value: torch.Tensor, head: int = head) -> None:
            value[:, :, head] = 0

        for result, prompt, change in ((effect, CORRUPT, put), (gone, CLEAN, take)):
            theirs = with_hook(bridge, ids[prompt], answers, point, change)
            ours = float(result.sel(layer=12, head=head)) + result.attrs["baseline"]
            assert ours == pytest.approx(theirs, abs=1e-3)


def test_direct_attribution_of_every_half(
    demo: LanguageModel, clean_cache: Any, answers: Any
) -> None:
    parts = analyses.dla(demo, CLEAN, PARIS, ROME)
    hf = demo.module
    stream = clean_cache["blocks.29.hook_out"][0, -1]
    scale = (stream.square().mean() + hf.model.norm.variance_epsilon).rsqrt()
    weight = hf.lm_head.weight
    u = scale * hf.model.norm.weight * (weight[answers[0]] - weight[answers[1]])
    for layer in range(30):
        for half in ("attn", "mlp"):
            theirs = float(clean_cache[f"blocks.{layer}.hook_{half}_out"][0, -1] @ u)
            assert float(parts.sel(part=f"{half} {layer}")) == pytest.approx(theirs, abs=1e-3)


def test_the_gradient_attributes_as_theirs_does(
    demo: LanguageModel, bridge: Any, clean_cache: Any, ids: Any, answers: Any
) -> None:
    found: dict[str, torch.Tensor] = {}
    names = [f"blocks.{layer}.hook_mlp_out" for layer in (3, 20)]

    def keep(value: torch.Tensor, hook: Any) -> None:
        value.retain_grad()
        found[names[len(found)]] = value

    logits = bridge.run_with_hooks(ids[CORRUPT], fwd_hooks=[(name, keep) for name in names])[0, -1]
    (logits[answers[0]] - logits[answers[1]]).backward()
    bridge.zero_grad()
    scores = analyses.attribute(
        demo, CLEAN, CORRUPT, PARIS, ROME, site="mlp", method="grad", layers=[3, 20], check=0
    )
    for layer, name in zip((3, 20), names, strict=True):
        value = found[name]
        theirs = ((clean_cache[name] - value) * value.grad).sum(-1)[0].detach()
        assert torch.allclose(torch.tensor(scores.sel(layer=layer).values), theirs, atol=1e-3)


def test_where_the_demo_model_keeps_the_capital(demo: LanguageModel) -> None:
    """At the subject's tokens early, at the last token late; of what was in between it is moved."""
    effect = analyses.patch(demo, CLEAN, CORRUPT, PARIS, ROME, layers=[2, 28])
    share = analyses.normalized(effect)
    subject = slice(1, share["position_text"].values.tolist().index(" is") - 1)
    assert float(share.sel(layer=2, position=subject).max()) > 0.5
    assert float(share.sel(layer=2, position=8)) < 0.2
    assert float(share.sel(layer=28, position=subject).max()) < 0.1
    assert float(share.sel(layer=28, position=8)) > 0.7
