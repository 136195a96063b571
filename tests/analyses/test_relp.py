"""relp against the same rules by hand, as functions of autograd in a copy of the model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel, analyses
from tests import tiny


class Norm(torch.autograd.Function):
    """RMSNorm forward; back by its weight and its scale as a constant."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        scale = (x.pow(2).mean(-1, keepdim=True) + epsilon).rsqrt()
        ctx.save_for_backward(weight, scale)
        return weight * (x * scale)

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[Any, ...]:
        weight, scale = ctx.saved_tensors
        return slopes[0] * weight * scale, None, None


class Gated(torch.autograd.Function):
    """silu(gate) · up forward; back by the secant sigmoid(gate), half to each factor."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return nn.functional.silu(gate) * up

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[Any, ...]:
        gate, up = ctx.saved_tensors
        half = slopes[0] / 2
        return half * up * gate.sigmoid(), half * nn.functional.silu(gate)


class Constant(torch.autograd.Function):
    """What a softmax gives, without a way back."""

    @staticmethod
    def forward(ctx: Any, pattern: torch.Tensor) -> torch.Tensor:
        return pattern.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(slopes[0])


@pytest.fixture(params=["tiny", "demo"])
def case(request: pytest.FixtureRequest) -> tuple[LanguageModel, Any, Any, Any]:
    if request.param == "tiny":
        module, tokenizer = tiny.build("llama"), None
        pair = torch.tensor([[5, 6, 7, 8, 9, 10]]), torch.tensor([[5, 11, 12, 8, 9, 13]])
        return LanguageModel(module, tokenizer), *pair, (40, 41)
    module, tokenizer = (
        request.getfixturevalue("demo_model"),
        request.getfixturevalue("wrapped").tokenizer,
    )
    texts = ("The Eiffel Tower is in the city of", "The Colosseum is in the city of")
    pair = [tokenizer(text, return_tensors="pt")["input_ids"] for text in texts]
    answers = [tokenizer.encode(each)[0] for each in (" Paris", " Rome")]
    return LanguageModel(module, tokenizer), *pair, tuple(answers)


SITES = {
    "resid_pre": lambda block: (block, True),
    "resid_mid": lambda block: (block.post_attention_layernorm, True),
    "attn": lambda block: (block.self_attn, False),
    "mlp": lambda block: (block.mlp, False),
}


def by_hand(hf: Any, ids: torch.Tensor, site: str, answers: Any) -> tuple[list, list]:
    """What stands at a site in every block, and the metric's gradient by the rules there."""
    seen: list[torch.Tensor] = []

    def keep(_: Any, args: Any, kwargs: Any, *out: Any) -> None:
        value = out[0] if out else (args[0] if args else kwargs["hidden_states"])
        seen.append(value if isinstance(value, torch.Tensor) else value[0])

    hooks = []
    for block in hf.model.layers:
        module, before = SITES[site](block)
        add = module.register_forward_pre_hook if before else module.register_forward_hook
        hooks.append(add(keep, with_kwargs=True))
    embedded = hf.model.embed_tokens(ids).detach().requires_grad_()
    logits = hf(inputs_embeds=embedded, use_cache=False).logits[0, -1]
    for hook in hooks:
        hook.remove()
    slopes = torch.autograd.grad(logits[answers[0]] - logits[answers[1]], seen)
    return [each.detach() for each in seen], list(slopes)


@pytest.mark.parametrize("site", SITES)
def test_relp_is_what_functions_of_autograd_give(
    case: tuple[LanguageModel, Any, Any, Any], site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, clean, corrupt, answers = case
    found = analyses.attribute(
        model, clean, corrupt, *answers, site=site, method="relp", check=0, progress=False
    )
    hf: Any = copy.deepcopy(model.module)
    hf.set_attn_implementation("eager")

    def norm(self: Any, x: torch.Tensor) -> Any:
        return Norm.apply(x, self.weight, self.variance_epsilon)

    def mlp(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(Gated.apply(self.gate_proj(x), self.up_proj(x)))

    softmax = nn.functional.softmax
    monkeypatch.setattr(type(hf.model.norm), "forward", norm)
    monkeypatch.setattr(type(hf.model.layers[0].mlp), "forward", mlp)
    monkeypatch.setattr(nn.functional, "softmax", lambda *a, **k: Constant.apply(softmax(*a, **k)))
    there, _ = by_hand(hf, clean, site, answers)
    here, slopes = by_hand(hf, corrupt, site, answers)
    each = zip(there, here, slopes, strict=True)
    expected = torch.stack([((a - b) * slope).sum((0, 2)) for a, b, slope in each])
    scores = torch.tensor(found.values)
    assert torch.allclose(scores, expected, atol=1e-3 * float(expected.abs().max()))


def test_without_its_rule_for_patterns_relp_is_another_number() -> None:
    """What is held does cut: nothing goes back to the queries, and much does without it."""
    from nnsight_magic.analyses.rules import followed

    model = LanguageModel(tiny.build("llama"))
    clean, corrupt = torch.tensor([[5, 6, 7, 8, 9, 10]]), torch.tensor([[5, 11, 12, 8, 9, 13]])
    options: Any = {"site": "resid_pre", "check": 0}
    whole = analyses.attribute(model, clean, corrupt, 40, 41, method="relp", **options)
    slopes = []
    with model.trace(clean):
        there = [block.resid_pre.value for block in model.layers]
    with followed(model, "relp"), model.trace(corrupt, grad=True):
        for block in model.layers:
            value = block.resid_pre
            slopes.append(value if value.requires_grad else value.requires_grad_())
        (model.logits[0, -1, 40] - model.logits[0, -1, 41]).backward()
    part = [((a - b.detach()) * b.grad).sum((0, 2)) for a, b in zip(there, slopes, strict=True)]
    model.module.zero_grad(set_to_none=True)
    assert float((torch.stack(part) - torch.tensor(whole.values)).abs().max()) > 0.05
