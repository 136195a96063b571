"""The five checks of writes, against plain hooks of torch and models that break each of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel, Model, analyses
from nnsight_magic.errors import (
    BadInputError,
    CellError,
    NoSuchModuleError,
    NoSuchOperationError,
)
from tests import tiny
from tests.architectures import families, models
from tests.hooks import hook_count

PROMPT = "The Eiffel Tower is in the city of"
TWO = {"clean": PROMPT, "corrupt": "The Colosseum is in the city of"}


@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    return LanguageModel(tiny.build("llama"), tiny.tokenizer())


def states(found: analyses.Audit, at: int = 0) -> dict[str, str]:
    return {check.name: check.state for check in found[at].checks}


def changed(module: nn.Module, change: Callable[[torch.Tensor], None]) -> Any:
    """A plain hook that changes a copy of what a module gives."""

    def hook(_: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        change(output)
        return output

    return module.register_forward_hook(hook)


@torch.no_grad()
def test_its_numbers_are_those_of_plain_hooks(llama: LanguageModel) -> None:
    hf = llama.module
    ids = llama.tokenizer(PROMPT, return_tensors="pt")["input_ids"]

    def writes() -> None:
        llama.layers[1].mlp.output[:, -3:] *= 2
        llama.layers[2].attn.added[:, -1] = 0

    found = analyses.audit(llama, PROMPT, writes)
    block = hf.model.layers
    said, seen = [hf(ids).logits], []
    with changed(block[1].mlp, lambda out: (seen.append(out[0, -3:].clone()), out[:, -3:].mul_(2))):
        said.append(hf(ids).logits)
        hook = block[2].self_attn.register_forward_hook(
            lambda _, args, out: (silent(out[0]), out[1])
        )
        with hook:
            said.append(hf(ids).logits)
    assert found.holds and len(found.writes) == 2
    assert found[0].largest == pytest.approx(float(seen[0].abs().max()), rel=1e-5)
    assert found[0].tokens == {"prompt 0": [10, 11, 12]} and found[1].tokens == {"prompt 0": [12]}
    assert found.effect is not None and found.effect.dims == ("write", "position")
    for k, (before, after) in enumerate(pairwise(said)):
        assert found[k].moved == pytest.approx(float((after - before).abs().max()), abs=1e-5)
        p, q = before[0].log_softmax(-1), after[0].log_softmax(-1)
        expected = nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)
        assert torch.allclose(torch.tensor(found.effect.values[k]), expected, atol=1e-5)
    assert hook_count(hf) == 0


def silent(value: torch.Tensor) -> torch.Tensor:
    value = value.clone()
    value[:, -1] = 0
    return value


def test_what_an_earlier_write_made_of_a_value_belongs_to_the_earlier_write(
    llama: LanguageModel,
) -> None:
    """A later write of a whole value holds what came of the first, and is not blamed for it."""

    def first() -> None:
        llama.layers[0].output[:, 5] = 0

    def both() -> None:
        first()
        hidden = llama.layers[1].output
        hidden[:, 5] *= 1

    alone, found = (analyses.audit(llama, PROMPT, each) for each in (first, both))
    assert found[0].moved == alone[0].moved > 0
    assert states(found, 1)["changes"] == "warns" and found[1].moved == 0
    assert "1 warns" in found.title and not found.holds


def test_prompts_heads_and_tokens_are_named(llama: LanguageModel) -> None:
    """The clean prompt is the longer one, so the other one is padded."""
    found = analyses.audit(
        llama,
        TWO,
        "clean.layers[1].attn.pattern[0, 1, -1] = 0\n"
        "corrupt.layers[1].attn.heads[2][:, 4] = v\n"
        "corrupt.layers[2].output[:, 3] = clean.layers[2].output[:, 3]",
        names={"v": 7.0},
    )
    pattern, heads, stream = found.writes
    assert pattern.name == "clean.layers[1].attn.pattern"
    assert stream.name == "corrupt.layers[2].output"
    assert (pattern.heads, heads.heads) == ((1,), (2,))
    assert (pattern.tokens, heads.tokens) == ({"clean": [12]}, {"corrupt": [4]})
    assert stream.tokens == {"corrupt": [3]}
    assert all("1 other prompt" in write["stays"].words for write in found.writes)
    assert "of corrupt, of head 2" in heads["changes"].words
    assert found.effect is not None and found.effect.dims == ("write", "token")
    rows = found.effect.sel(write="line 3")
    assert not rows.values[:13].any() and not rows.sel(token=["corrupt.0", "corrupt.2"]).any()
    assert float(rows.sel(token="corrupt.3")) > 0


def test_a_function_and_the_text_of_a_cell_are_audited_alike(llama: LanguageModel) -> None:
    def writes() -> None:
        llama.layers[1].mlp.output[:, -1] = 0

    one = analyses.audit(llama, PROMPT, writes)
    names = {"number": 0, "kept": None}
    other = analyses.audit(
        llama, PROMPT, "kept = 3\nlayers[1].mlp.output[:, -1] = number", names=names
    )
    assert names == {"number": 0, "kept": None}
    assert [w.checks for w in one.writes] == [w.checks for w in other.writes]
    assert other[0].line == 2 and other["layers[1].mlp.output"] is other[0]
    with pytest.raises(CellError, match="layers has 3 modules"):
        analyses.audit(llama, PROMPT, "layers[9].output[:] = 0")
    with pytest.raises(BadInputError, match="Nothing was written"):
        analyses.audit(llama, PROMPT, lambda: llama.layers[1].output)
    with pytest.raises(BadInputError, match="for the text of a cell"):
        analyses.audit(llama, PROMPT, writes, names={})


# ── what each check finds ────────────────────────────────────────────────────────────────


def test_what_is_not_finite_is_said_with_its_way_to_earlier_tokens(llama: LanguageModel) -> None:
    def spoil() -> None:
        llama.layers[0].output[:, 6, 3] = torch.nan

    found = analyses.audit(llama, PROMPT, spoil)
    assert states(found) == {
        "put back": "holds",
        "stands": "fails",
        "changes": "holds",
        "reaches": "fails",
        "stays": "fails",
    }
    assert "1 of it are not finite" in found[0]["stands"].words
    assert "0 · NaN is NaN" in found[0]["stays"].words

    def close() -> None:
        llama.layers[1].attn.scores[:, 1, -1, 3] = -torch.inf

    found = analyses.audit(llama, PROMPT, close)
    assert found.holds, found


def test_what_rounding_alone_moves_is_a_warning_and_what_nothing_moves_fails() -> None:
    model = LanguageModel(tiny.build("gpt2"), tiny.tokenizer())

    def shift() -> None:
        model.layers[1].attn.scores[:] += 3  # a softmax does not see it

    assert states(analyses.audit(model, PROMPT, shift))["reaches"] == "warns"

    class Beside(nn.Module):
        """Beside the blocks something is computed that nobody uses."""

        def __init__(self) -> None:
            super().__init__()
            self.model, self.aside = tiny.build("gpt2"), nn.Linear(4, 4)
            self.config = self.model.config

        def forward(self, input_ids: torch.Tensor) -> Any:
            self.aside(torch.ones(1, 4))
            return self.model(input_ids=input_ids)

    beside = LanguageModel(Beside().eval(), tiny.tokenizer())

    def unused() -> None:
        beside.aside.output[:] = 5

    found = analyses.audit(beside, {"input_ids": torch.tensor([[5, 6, 7]])}, unused)
    assert states(found)["reaches"] == "fails"
    assert "the same to the bit without it" in found[0]["reaches"].words


class Mixing(nn.Module):
    """A model of tokens that is wrong in one way.

    Args:
        wrong: `"rows"` mixes the prompts, `"later"` writes into a value that it has passed on,
            `"random"` never gives the same.
    """

    def __init__(self, wrong: str):
        super().__init__()
        self.wrong, self.config = wrong, SimpleNamespace(vocab_size=11)
        self.embed, self.inner = nn.Embedding(11, 4), nn.Identity()
        self.lm_head = nn.Linear(4, 11)
        self.calls = 0

    def forward(self, input_ids: torch.Tensor) -> Any:
        hidden = self.embed(input_ids)
        inner = self.inner(hidden)
        if self.wrong == "later":
            hidden += 1  # and `inner` with it, unless it is a copy
        if self.wrong == "rows":
            inner = inner - inner.mean(0, keepdim=True)
        if self.wrong == "random":
            self.calls += 1
            inner = inner + self.calls
        return SimpleNamespace(logits=self.lm_head(inner))


@pytest.mark.parametrize(
    ("wrong", "check", "state", "words"),
    [
        ("rows", "stays", "fails", "other prompts move: prompt 0"),
        ("later", "put back", "fails", "it may write into it later on"),
        ("random", "put back", "none", "does not repeat itself"),
    ],
)
@torch.no_grad()
def test_a_model_that_is_wrong_in_a_way_is_found(
    wrong: str, check: str, state: str, words: str
) -> None:
    torch.manual_seed(0)
    model = Model(Mixing(wrong).eval())
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])

    def writes() -> None:
        model.inner.output[1, -1] = 0

    found = analyses.audit(model, {"input_ids": ids}, writes)
    assert found[0][check].state == state and words in found[0][check].words
    clean = Model(Mixing("nothing").eval())
    model = clean
    assert analyses.audit(model, {"input_ids": ids}, writes).holds


def test_a_model_that_looks_both_ways_is_not_blamed_for_it() -> None:
    model = LanguageModel(tiny.build("bert"), tiny.tokenizer())

    def writes() -> None:
        model.layers[1].output[:, 4] *= 2

    found = analyses.audit(model, PROMPT, writes)
    assert found.holds and states(found)["stays"] == "none"
    assert "whenever a later token is another one" in found[0]["stays"].words


def test_a_model_without_tokens_has_no_map() -> None:
    model = Model(tiny.build("vit"))

    def writes() -> None:
        model.layers[1].output[:, 4] = 0

    found = analyses.audit(model, torch.ones(1, 3, 32, 32), writes)
    assert found.effect is None and found.view().map is None and found[0].moved > 0
    with pytest.raises(BadInputError, match="nothing to draw"):
        found.figure()


@torch.no_grad()
def test_edits_are_in_force_with_and_without_the_writes() -> None:
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    model.edit("loud", model.layers[0].mlp, scale=3)

    def writes() -> None:
        model.layers[2].mlp.output[:, -1] = 0

    found = analyses.audit(model, PROMPT, writes)
    block = model.module.model.layers
    ids = model.tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with changed(block[0].mlp, lambda out: out.mul_(3)):
        before = model.module(ids).logits
        with changed(block[2].mlp, lambda out: out[:, -1].zero_()):
            after = model.module(ids).logits
    assert found[0].moved == pytest.approx(float((after - before).abs().max()), abs=1e-5)
    assert "edits in force" in found.notices[0]


def turn(value: torch.Tensor) -> None:
    """Other numbers in place: a norm behind would take a factor away again."""
    value[...] = value.flip(-1) + 0.5


PARTS: dict[str, Callable[[Any], None]] = {
    "resid_pre": lambda block: turn(block.resid_pre[:, 4]),
    "attn.added": lambda block: turn(block.attn.added[:, 4]),
    "mlp.added": lambda block: turn(block.mlp.added[:, 4]),
    "attn.q": lambda block: turn(block.attn.q[:, 4, 1]),
    "attn.k": lambda block: turn(block.attn.k[:, 4, 0]),
    "attn.v": lambda block: turn(block.attn.v[:, 4, 0]),
    "attn.z": lambda block: turn(block.attn.z[:, 4, 1]),
    "mlp.neurons": lambda block: turn(block.mlp.neurons[:, 4]),
}


@pytest.mark.parametrize(
    "name", [n for n in (*tiny.ARCHITECTURES, *families.FAMILIES) if n != "vit"]
)
def test_in_every_architecture_named_values_are_written_where_they_are_said_to_be(
    name: str,
) -> None:
    """What an architecture has not is refused in words elsewhere; what it has passes the checks."""
    module, inputs = models.build(name)
    model = LanguageModel(module)
    tried = 0
    for part, write in PARTS.items():
        try:
            found = analyses.audit(model, inputs, lambda w=write: w(model.layers[1]))
        except (NoSuchModuleError, NoSuchOperationError):
            continue
        tried += 1
        told = states(found)
        assert told["put back"] == told["stands"] == told["changes"] == "holds", (part, found)
        assert told["reaches"] == "holds", (part, found)
        assert told["stays"] in ("holds", "none"), (part, found)
        if part != "resid_pre" and found[0].tokens:
            assert found[0].tokens == {"prompt 0": [4]}, (part, found)
    assert tried
    assert hook_count(module) == 0


# ── forms ────────────────────────────────────────────────────────────────────────────────


def test_its_forms_say_the_same(llama: LanguageModel) -> None:
    found = analyses.audit(llama, PROMPT, "layers[1].output[:, 2] = 0\nlayers[2].output *= 1")
    text, view = found.text(), found.view()
    assert text.splitlines()[0] == found.title == view.title
    assert found.title == "audit of 2 writes: 7 of 8 checks hold, 1 warns"
    for line in ("layers[1].output (line 1)", "✓ stays", "! changes", "· reaches"):
        assert line in text
    assert view.text() == text and "not finite" not in view.still()
    assert "<td class='w'>it changed nothing" in view.still()
    assert next(axes.get_ylabel() for axes in found.figure().axes) == "write"
    assert repr(found) == text
