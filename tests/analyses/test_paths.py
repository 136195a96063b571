"""Path patching against hooks, and what a path may be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.errors import BadInputError
from tests import tiny

CLEAN = torch.tensor([[5, 6, 7, 8, 9, 10]])
CORRUPT = torch.tensor([[5, 11, 12, 8, 9, 13]])
ANSWER, VERSUS, SIZE = 40, 41, tiny.HIDDEN // tiny.HEADS


@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    return LanguageModel(tiny.build("llama"), tiny.tokenizer())


def seen(hf: nn.Module, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What every module is given and gives in a plain forward, and the logits."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            found[f"{name} in"] = args[0] if args else next(iter(kwargs.values()))
            found[f"{name} out"] = out if isinstance(out, torch.Tensor) else out[0]

        return hook

    hooks = [
        module.register_forward_hook(keep(name), with_kwargs=True)
        for name, module in hf.named_modules()
        if name.startswith("model.layers.")
    ]
    with torch.no_grad():
        found["logits"] = hf(ids).logits[0, -1]
    for hook in hooks:
        hook.remove()
    return found


def head_change(hf: nn.Module, layer: int, head: int) -> torch.Tensor:
    """Clean minus corrupt of what one head writes."""
    path, own = f"model.layers.{layer}.self_attn.o_proj", slice(head * SIZE, (head + 1) * SIZE)
    z = seen(hf, CLEAN)[f"{path} in"] - seen(hf, CORRUPT)[f"{path} in"]
    return z[..., own] @ hf.get_submodule(path).weight[:, own].T


def difference(logits: torch.Tensor) -> float:
    return float(logits[ANSWER] - logits[VERSUS])


@torch.no_grad()
def test_to_the_logits_it_is_a_change_of_the_last_residual(llama: LanguageModel) -> None:
    hf = llama.module
    plain = seen(hf, CORRUPT)
    stream = plain[f"model.layers.{tiny.LAYERS - 1} out"] + head_change(hf, 0, 2)
    expected = difference(hf.lm_head(hf.model.norm(stream))[0, -1]) - difference(plain["logits"])
    found = analyses.path_patch(llama, CLEAN, CORRUPT, "0.2:logits", ANSWER, VERSUS)
    assert float(found[0]) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("part", ["q", "k", "v"])
@torch.no_grad()
def test_to_queries_keys_and_values_of_a_head(llama: LanguageModel, part: str) -> None:
    hf, head = llama.module, 3
    plain = seen(hf, CORRUPT)
    block = hf.model.layers[2]
    stream = plain["model.layers.2 in"] + head_change(hf, 0, 1)
    projection = getattr(block.self_attn, f"{part}_proj")
    new = projection(block.input_layernorm(stream))
    own = head if part == "q" else head // 2  # two query heads share a key and a value
    columns = slice(own * SIZE, (own + 1) * SIZE)

    def put(_: nn.Module, args: Any, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        out[..., columns] = new[..., columns]
        return out

    with projection.register_forward_hook(put):
        logits = hf(CORRUPT).logits[0, -1]
    expected = difference(logits) - difference(plain["logits"])
    found = analyses.path_patch(llama, CLEAN, CORRUPT, f"0.1:2.3.{part}", ANSWER, VERSUS)
    assert float(found[0]) == pytest.approx(expected, abs=2e-4)


@torch.no_grad()
def test_to_an_mlp_from_an_mlp(llama: LanguageModel) -> None:
    hf = llama.module
    plain, clean = seen(hf, CORRUPT), seen(hf, CLEAN)
    change = clean["model.layers.0.mlp out"] - plain["model.layers.0.mlp out"]
    block = hf.model.layers[1]
    stream = plain["model.layers.1.post_attention_layernorm in"] + change
    new = block.mlp(block.post_attention_layernorm(stream))
    with block.mlp.register_forward_hook(lambda *_: new):
        logits = hf(CORRUPT).logits[0, -1]
    expected = difference(logits) - difference(plain["logits"])
    found = analyses.path_patch(llama, CLEAN, CORRUPT, ["0.mlp:1.mlp"], ANSWER, VERSUS)
    assert float(found[0]) == pytest.approx(expected, abs=2e-4)


def test_all_writers_to_the_logits_make_the_whole_residual(llama: LanguageModel) -> None:
    """Linear up to the norm: with its scale held they would sum; each is what its change does."""
    paths = ["embed:logits", *(f"{k}.{half}:logits" for k in range(3) for half in ("attn", "mlp"))]
    found = analyses.path_patch(llama, CLEAN, CORRUPT, paths, ANSWER, VERSUS)
    assert found["path"].values.tolist() == paths
    assert bool(torch.isfinite(torch.tensor(found.values)).all())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("0.1", "a sender and a receiver"),
        ("0.1:0.2.q", "no later than"),
        ("1.mlp:1.mlp", "no later than"),
        ("2.0:1.mlp", "no later than"),
        ("0.7:logits", "There is no head 7"),
        ("5.0:logits", "There is no block 5"),
        ("logits:1.mlp", "sends nothing"),
        ("0.1:2.3", "is no receiver"),
        ("0.x:logits", "is no end of a path"),
    ],
)
def test_what_is_no_path_is_said(llama: LanguageModel, path: str, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        analyses.path_patch(llama, CLEAN, CORRUPT, path, ANSWER, VERSUS)
