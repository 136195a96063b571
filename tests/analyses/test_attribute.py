"""Attribution against plain autograd, its rules against formulas, and its own check."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.analyses.readout import norm_shape
from nnsight_magic.analyses.rules import activation_rule, followed, halved, norm_rule
from nnsight_magic.errors import BadInputError, WrongValueError
from tests import tiny
from tests.hooks import hook_count

CLEAN = torch.tensor([[5, 6, 7, 8, 9, 10]])
CORRUPT = torch.tensor([[5, 11, 12, 8, 9, 13]])
ANSWER, VERSUS = 40, 41


@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    return LanguageModel(tiny.build("llama"), tiny.tokenizer())


def with_gradient(hf: nn.Module, path: str, before: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What stands at a module in the corrupt run, and the logit difference's gradient there."""
    found: list[torch.Tensor] = []

    def keep(value: torch.Tensor) -> None:
        value.retain_grad()
        found.append(value)

    module = hf.get_submodule(path)
    if before:
        hook = module.register_forward_pre_hook(lambda _, args: keep(args[0]))
    else:
        hook = module.register_forward_hook(
            lambda _, args, out: keep(out if isinstance(out, torch.Tensor) else out[0])
        )
    with hook:
        logits = hf(CORRUPT).logits[0, -1]
    (logits[ANSWER] - logits[VERSUS]).backward()
    hf.zero_grad()
    return found[0].detach(), found[0].grad


@pytest.mark.parametrize(
    ("site", "name", "before"),
    [
        ("resid_post", "", False),
        ("mlp", "mlp", False),
        ("attn", "self_attn", False),
        ("neurons", "mlp.down_proj", True),
        ("heads", "self_attn.o_proj", True),
    ],
)
def test_by_the_gradient_it_is_autograd(
    llama: LanguageModel, site: str, name: str, before: bool
) -> None:
    hf = llama.module
    found = analyses.attribute(
        llama, CLEAN, CORRUPT, ANSWER, VERSUS, site=site, method="grad", by="position", check=0
    )
    clean = LanguageModel(hf)
    for layer in range(tiny.LAYERS):
        path = f"model.layers.{layer}.{name}".rstrip(".")
        here, slope = with_gradient(hf, path, before)
        with clean.trace(CLEAN):
            module = clean
            for part in path.split("."):
                module = module[part]
            there = (module.input if before else module.output).value
            there = there if isinstance(there, torch.Tensor) else there[0]
        expected = ((there - here) * slope).sum((0, 2))
        assert torch.allclose(torch.tensor(found.values[layer]), expected, atol=1e-4)


def test_heads_sum_to_what_their_positions_do(llama: LanguageModel) -> None:
    options: dict[str, Any] = {"site": "heads", "method": "grad", "check": 0}
    heads = analyses.attribute(llama, CLEAN, CORRUPT, ANSWER, VERSUS, **options)
    both = analyses.attribute(
        llama, CLEAN, CORRUPT, ANSWER, VERSUS, by=("position", "head"), **options
    )
    assert both.dims == ("layer", "position", "head")
    assert torch.allclose(
        torch.tensor(both.sum("position").values), torch.tensor(heads.values), atol=1e-5
    )


@pytest.mark.parametrize("method", ["norm", "relp"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
def test_the_rules_change_no_number_of_the_forward(name: str, method: Any) -> None:
    hf = tiny.build(name)
    model = LanguageModel(hf)
    with torch.no_grad():
        plain = hf(CORRUPT).logits
        with followed(model, method):
            assert torch.equal(hf(CORRUPT).logits, plain)
    assert hook_count(hf) == 0


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_relp_is_the_gradient_of_a_model_written_so(
    attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scales, patterns and slopes held by hand, in the modules themselves."""
    hf = tiny.build("llama")
    hf.set_attn_implementation(attention)
    model = LanguageModel(hf)
    found = analyses.attribute(
        model, CLEAN, CORRUPT, ANSWER, VERSUS, site="mlp", method="relp", check=0
    )
    names = [f"model.layers.{k}.mlp" for k in range(tiny.LAYERS)]
    clean: dict[str, torch.Tensor] = {}
    with model.trace(CLEAN):
        for k, name in enumerate(names):
            clean[name] = model.layers[k].mlp.output.value

    def norm(self: Any, x: torch.Tensor) -> torch.Tensor:
        return (
            self.weight * x * (x.square().mean(-1, True) + self.variance_epsilon).rsqrt().detach()
        )

    def mlp(self: Any, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        product = gate * gate.sigmoid().detach() * up
        return self.down_proj(product.detach() + (product - product.detach()) / 2)

    block = hf.model.layers[0]
    monkeypatch.setattr(type(block.input_layernorm), "forward", norm)
    monkeypatch.setattr(type(block.mlp), "forward", mlp)
    softmax = nn.functional.softmax
    monkeypatch.setattr(nn.functional, "softmax", lambda *a, **k: softmax(*a, **k).detach())
    hf.set_attn_implementation("eager")
    for layer, name in enumerate(names):
        here, slope = with_gradient(hf, name, False)
        expected = ((clean[name] - here) * slope).sum((0, 2))
        assert torch.allclose(torch.tensor(found.values[layer]), expected, atol=1e-4)


def test_it_checks_itself_by_patching(llama: LanguageModel) -> None:
    found = analyses.attribute(llama, CLEAN, CORRUPT, ANSWER, VERSUS, check=5)
    exact = analyses.patch(llama, CLEAN, CORRUPT, ANSWER, VERSUS)
    rows = found.attrs["exact"]
    assert len(rows) == 10
    for layer, position, estimate, effect in rows:
        where = {"layer": layer, "position": position}
        assert estimate == pytest.approx(float(found.sel(where)), abs=1e-6)
        assert effect == pytest.approx(float(exact.sel(where)), abs=2e-4)
    both = torch.tensor([row[-2:] for row in rows]).T
    assert found.attrs["correlation"] == pytest.approx(float(torch.corrcoef(both)[0, 1]), abs=1e-4)


@pytest.mark.parametrize("norm", [nn.LayerNorm(7), nn.RMSNorm(8), nn.LayerNorm(8)])
def test_a_norm_with_its_scale_held_is_linear(norm: nn.Module) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
    size = norm.normalized_shape[0]
    shape = norm_shape(norm, size, torch.zeros(1))
    before = torch.randn(1, 3, size, requires_grad=True)
    after = norm_rule(before, norm(before), shape)
    assert torch.equal(after, norm(before))
    slope = torch.randn(1, 3, size)
    (after * slope).sum().backward()
    mean = before.mean(-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else 0
    scale = ((before - mean).square().mean(-1, keepdim=True) + 1e-5).rsqrt().detach()
    expected = slope * norm.weight * scale
    if isinstance(norm, nn.LayerNorm):
        expected = expected - expected.mean(-1, keepdim=True)
    assert torch.allclose(before.grad, expected.detach(), atol=1e-4)


def test_an_activation_follows_its_secant_and_a_product_gives_halves() -> None:
    x = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
    after = activation_rule(x, nn.functional.silu(x))
    assert torch.equal(after, nn.functional.silu(x))
    after.sum().backward()
    assert torch.allclose(x.grad, torch.tensor([-2.0, 0.0, 3.0]).sigmoid())  # silu(x)/x, at 0 too
    gate, up = (torch.tensor(each, requires_grad=True) for each in (3.0, 5.0))
    halved(gate * up).backward()
    assert (float(gate.grad), float(up.grad)) == (2.5, 1.5)


def test_what_has_no_norm_is_said() -> None:
    model = LanguageModel(tiny.build("llama"))
    for block in model.layers:
        block.module.input_layernorm = block.module.post_attention_layernorm = nn.Identity()
    with pytest.raises(WrongValueError, match='Use method="grad"'):
        analyses.attribute(model, CLEAN, CORRUPT, ANSWER, VERSUS, method="norm", check=0)
    found = analyses.attribute(model, CLEAN, CORRUPT, ANSWER, VERSUS, check=0)
    assert found.attrs["method"].startswith("grad, since")


def integrated_by_hand(hf: Any, layer: int | None, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The clean minus corrupt value behind a block (at the embeddings), and the mean gradient."""
    ends, states = [], []

    def logits(embedded: torch.Tensor) -> torch.Tensor:
        states.clear()
        out = hf(inputs_embeds=embedded, output_hidden_states=True)
        states.extend(out.hidden_states)
        return out.logits[0, -1]

    place = 0 if layer is None else layer + 1
    embedded = [hf.model.embed_tokens(ids).detach() for ids in (CLEAN, CORRUPT)]
    for each in embedded:
        logits(each)
        ends.append(states[place].detach())
    slopes = []
    for k in range(steps):
        share = (k + 0.5) / steps
        found = logits((share * embedded[0] + (1 - share) * embedded[1]).requires_grad_())
        slopes.append(torch.autograd.grad(found[ANSWER] - found[VERSUS], states[place])[0])
    return ends[0] - ends[1], torch.stack(slopes).mean(0)


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_integrated_gradients_are_those_of_midpoints_between_the_embeddings(
    llama: LanguageModel, steps: int
) -> None:
    options: Any = {"method": "ig", "steps": steps, "check": 0}
    first = analyses.attribute(
        llama, CLEAN, CORRUPT, ANSWER, VERSUS, site="resid_pre", layers=[0], **options
    )
    change, slope = integrated_by_hand(llama.module, None, steps)
    assert torch.allclose(torch.tensor(first.values[0]), (change * slope).sum((0, 2)), atol=1e-5)
    assert first.attrs["complete"] == pytest.approx(float((change * slope).sum()), abs=1e-5)
    behind = analyses.attribute(llama, CLEAN, CORRUPT, ANSWER, VERSUS, layers=[1, 0], **options)
    for row, layer in ((0, 1), (1, 0)):
        change, slope = integrated_by_hand(llama.module, layer, steps)
        expected = (change * slope).sum((0, 2))
        assert torch.allclose(torch.tensor(behind.values[row]), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "mamba"])
def test_with_many_steps_the_sum_is_the_whole_difference_and_the_title_says_how_far_it_is(
    name: str,
) -> None:
    model = LanguageModel(tiny.build(name), tiny.tokenizer())
    options: Any = {"site": "resid_pre", "layers": [0], "method": "ig", "check": 0}
    gaps = []
    for steps in (2, 300):
        found = analyses.attribute(model, CLEAN, CORRUPT, ANSWER, VERSUS, steps=steps, **options)
        whole = found.attrs["reference"] - found.attrs["baseline"]
        assert float(found.sum()) == pytest.approx(found.attrs["complete"], abs=1e-4)
        told = f"{steps} steps, sum over tokens {found.attrs['complete']:.3g} of {whole:.3g}"
        assert told in found.attrs["title"]
        gaps.append(abs(found.attrs["complete"] - whole))
    assert gaps[1] < 2e-3 < gaps[0]


def test_no_line_leads_between_prompts_of_different_lengths(llama: LanguageModel) -> None:
    shorter = CLEAN[:, :4]
    with pytest.raises(BadInputError, match="as many tokens; found 4 and 6"):
        analyses.attribute(llama, shorter, CORRUPT, ANSWER, method="ig", align="same")
    for steps in (0, -3, 2.5, True):
        wrong: Any = steps
        with pytest.raises(BadInputError, match="1 or more"):
            analyses.attribute(llama, CLEAN, CORRUPT, ANSWER, method="ig", steps=wrong)


def test_a_method_that_is_none_and_one_that_reaches_nothing_are_refused(
    llama: LanguageModel,
) -> None:
    wrong: Any = "repl"
    with pytest.raises(BadInputError, match="Did you mean 'relp'"):
        analyses.attribute(llama, CLEAN, CORRUPT, ANSWER, method=wrong)
    with pytest.raises(BadInputError, match="nothing goes back to queries"):
        analyses.attribute(llama, CLEAN, CORRUPT, ANSWER, site="q", method="relp")


SITES = ("resid_pre", "resid_mid", "resid_post", "attn", "mlp", "heads", "q", "v", "pattern")


@pytest.mark.parametrize("method", ["grad", "norm", "relp", "ig"])
def test_every_site_by_every_method_leaves_the_weights_gradients_as_they_were(
    llama: LanguageModel, method: Any
) -> None:
    hf = llama.module
    for site in SITES if method != "relp" else (s for s in SITES if s != "q"):
        found = analyses.attribute(
            llama, CLEAN, CORRUPT, ANSWER, VERSUS, site=site, method=method, check=0
        )
        assert found.attrs["method"] == method
        assert bool(torch.isfinite(torch.tensor(found.values)).all())
    analyses.attribute_edges(llama, CLEAN, CORRUPT, ANSWER, VERSUS, check=0)
    assert all(each.grad is None and each.requires_grad for each in hf.parameters())


@pytest.mark.parametrize("count", [-1, 2.5, "all", True, None])
def test_how_many_are_checked_is_a_number(llama: LanguageModel, count: Any) -> None:
    for function in (analyses.attribute, analyses.attribute_edges):
        with pytest.raises(BadInputError, match="0 or more; found"):
            function(llama, CLEAN, CORRUPT, ANSWER, check=count)
