"""Direct logit attribution against sums written by hand, and the logits themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.errors import BadInputError, NnsightError, TokenTextError
from tests import tiny
from tests.architectures import families

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
ANSWER, VERSUS = 40, 41
CAUSAL = [name for name, (_, ending, _) in families.FAMILIES.items() if "CausalLM" in ending]
# Where the logits are no sum of what the blocks add, or a head's write is not z W_O: these refuse.
REFUSED = {"gemma3n"}  # four streams


def outputs(hf: nn.Module, *names: str) -> dict[str, torch.Tensor]:
    """What modules give in a plain forward."""
    found: dict[str, torch.Tensor] = {}
    hooks = [
        hf.get_submodule(name).register_forward_hook(
            lambda _, args, out, name=name: found.update(
                {name: out if isinstance(out, torch.Tensor) else out[0]}
            )
        )
        for name in names
    ]
    with torch.no_grad():
        found["logits"] = hf(IDS).logits
    for hook in hooks:
        hook.remove()
    return found


def test_each_part_of_a_llama_by_hand() -> None:
    hf = tiny.build("llama")
    model = LanguageModel(hf, tiny.tokenizer())
    halves = [
        f"model.layers.{k}.{half}" for k in range(tiny.LAYERS) for half in ("self_attn", "mlp")
    ]
    seen = outputs(hf, "model.embed_tokens", *halves)
    stream = sum(seen[name][0, -1] for name in ("model.embed_tokens", *halves))
    norm = hf.model.norm
    scale = (stream.square().mean() + norm.variance_epsilon).rsqrt()
    direction = hf.lm_head.weight[ANSWER] - hf.lm_head.weight[VERSUS]
    u = scale * norm.weight * direction
    found = analyses.dla(model, IDS, ANSWER, VERSUS)
    expected = [float(seen[name][0, -1] @ u) for name in ("model.embed_tokens", *halves)]
    assert found["part"].values.tolist()[:3] == ["embed", "attn 0", "mlp 0"]
    assert torch.allclose(torch.tensor(found.values[:-2]), torch.tensor(expected), atol=1e-4)
    logits = seen["logits"][0, -1]
    assert float(found.sum()) == pytest.approx(float(logits[ANSWER] - logits[VERSUS]), abs=1e-4)


def test_each_head_of_a_gpt2_by_hand() -> None:
    hf = tiny.build("gpt2")
    model = LanguageModel(hf, tiny.tokenizer())
    found = analyses.dla(model, IDS, ANSWER, by="head")
    ln, size = hf.transformer.ln_f, tiny.HIDDEN // tiny.HEADS
    inputs: dict[str, torch.Tensor] = {}
    names = ["transformer.ln_f", *(f"transformer.h.{k}.attn.c_proj" for k in range(tiny.LAYERS))]
    for name in names:
        hf.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: inputs.update({name: args[0][0, -1]})
        )
    with torch.no_grad():
        hf(IDS)
        stream = inputs["transformer.ln_f"]
        scale = (stream.var(unbiased=False) + ln.eps).rsqrt()
        u = scale * ln.weight * hf.lm_head.weight[ANSWER]
        u = u - u.mean()
        for layer in range(tiny.LAYERS):
            weight = hf.transformer.h[layer].attn.c_proj.weight  # (in, out)
            z = inputs[f"transformer.h.{layer}.attn.c_proj"]
            for head in range(tiny.HEADS):
                own = slice(head * size, (head + 1) * size)
                expected = float(z[own] @ weight[own] @ u)
                assert float(found[layer, head]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "mixtral", "mamba", *CAUSAL])
def test_all_parts_sum_to_the_logits_in_every_architecture(name: str) -> None:
    torch.manual_seed(0)
    hf = tiny.build(name) if name in tiny.ARCHITECTURES else families.make(name)[0].eval()
    model = LanguageModel(hf)
    if name in REFUSED:
        with pytest.raises(NnsightError):
            analyses.dla(model, IDS, ANSWER, VERSUS)
        return
    found = analyses.dla(model, IDS, ANSWER, VERSUS)
    with torch.no_grad():
        logits = hf(IDS).logits[0, -1]
    expected = float(logits[ANSWER] - logits[VERSUS])
    if "softcap" not in found.attrs["metric"]:
        assert float(found.sum()) == pytest.approx(expected, abs=1e-3, rel=1e-3)
    assert found.attrs["logit"] == pytest.approx(float(found.sum()), abs=1e-3)


def test_what_a_block_adds_besides_stands_by_itself() -> None:
    torch.manual_seed(0)
    hf = families.make("opt")[0].eval()
    found = analyses.dla(LanguageModel(hf), IDS, ANSWER)
    assert found["part"].values.tolist()[:5] == ["embed", "attn 0", "rest 0", "attn 1", "rest 1"]
    seen = outputs(hf, "model.decoder.layers.1.fc2", "model.decoder.layers.1")
    stream, ln = seen["model.decoder.layers.1"][0, -1], hf.model.decoder.final_layer_norm
    u = ln.weight * hf.lm_head.weight[ANSWER] * (stream.var(unbiased=False) + ln.eps).rsqrt()
    mlp = seen["model.decoder.layers.1.fc2"].reshape(-1, 32)[-1]
    expected = float(mlp @ (u - u.mean()))
    assert float(found.sel(part="rest 1")) == pytest.approx(expected, abs=1e-3)


def test_a_model_with_an_encoder_is_refused() -> None:
    with pytest.raises(BadInputError, match="encoder"):
        analyses.dla(LanguageModel(tiny.build("t5")), IDS, ANSWER)


def test_another_position_and_one_answer() -> None:
    hf = tiny.build("llama")
    found = analyses.dla(LanguageModel(hf), IDS, ANSWER, position=2)
    with torch.no_grad():
        expected = float(hf(IDS).logits[0, 2, ANSWER])
    assert float(found.sum()) == pytest.approx(expected, abs=1e-4)


def test_what_cannot_be_taken_apart_is_said() -> None:
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    with pytest.raises(TokenTextError, match="tokens"):
        analyses.dla(model, IDS, "The Eiffel Tower and all")
    with pytest.raises(BadInputError, match="no position 6"):
        analyses.dla(model, IDS, ANSWER, position=6)
    with pytest.raises(BadInputError, match='"part" or "head"'):
        analyses.dla(model, IDS, ANSWER, by="layer")
