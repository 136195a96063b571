"""What crosses to the browser has the forms that `wire` names, and the front end names the same.

The examples are read by `widgets/test/wire.test.ts` too.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NotRequired, get_origin, get_type_hints

import numpy as np
import pytest
import torch

from nnsight_magic.views import ModuleNote, describe, show
from nnsight_magic.views.data import wire
from nnsight_magic.views.data.modules import packed_tree
from nnsight_magic.views.data.strips import Step, TokenGrid, TokenStrip
from nnsight_magic.views.data.two_texts import two_texts
from tests.views import every_kind

WIDGETS = Path(__file__).parents[2] / "widgets"
EXAMPLES = json.loads((WIDGETS / "test/fixtures/wire.json").read_text(encoding="utf-8"))
VIEWS = json.loads((WIDGETS / "test/fixtures/views.json").read_text(encoding="utf-8"))


def a_tree(linear: list[int], repeated: int) -> Any:
    alike = torch.nn.Sequential(*(torch.nn.Linear(*linear) for _ in range(repeated)))
    return json.loads(
        packed_tree(describe(torch.nn.Sequential(alike, torch.nn.Linear(*linear))), 9999)
    )


MADE = {
    "StripForm": lambda given: TokenStrip(**given).packed(),
    "GridForm": lambda given: TokenGrid.of(**given).packed(),
    "StepForm": lambda given: Step(**given).packed(),
    "TextsForm": lambda given: two_texts(**given).packed(),
    "TreeForm": lambda given: a_tree(**given),
    "NoteForm": lambda given: ModuleNote(**given).packed(),
}


@pytest.mark.parametrize("form", MADE)
def test_what_the_kernel_sends_is_what_both_ends_agree_on(form: str) -> None:
    example = EXAMPLES[form]
    assert json.loads(json.dumps(MADE[form](example["given"]))) == example["wire"]


def test_the_state_of_a_tensor_view_is_what_both_ends_agree_on() -> None:
    example = EXAMPLES["TensorState"]
    view = show(example["given"], "x", axes=("token", "feature"), tokens=["a", "b"])
    for name in ("about", "axes", "stored"):
        assert json.loads(json.dumps(getattr(view, name))) == example[name]
    values = np.array(example["given"])
    stats = dict(view.stats)
    assert stats.pop("std") == pytest.approx(values.std())
    assert stats.pop("norm") == pytest.approx(np.linalg.norm(values))
    assert sum(stats.pop("histogram")) == values.size
    assert stats == example["stats"]


def near(found: Any) -> Any:
    """The same, with all of its fractions compared up to rounding."""
    if isinstance(found, dict):
        return {name: near(each) for name, each in found.items()}
    if isinstance(found, list):
        return [near(each) for each in found]
    return pytest.approx(found) if isinstance(found, float) else found


def test_the_states_of_all_kinds_of_views_are_what_both_ends_agree_on() -> None:
    assert near(every_kind.states()) == VIEWS["states"]


def test_every_kind_of_view_has_an_example() -> None:
    text = (WIDGETS / "src/kinds.ts").read_text(encoding="utf-8")
    assert {*re.findall(r'register\("(\w+)"', text), "selection"} == set(VIEWS["states"])


def test_answers_are_what_both_ends_agree_on() -> None:
    assert near(every_kind.answers()) == VIEWS["answers"]


def test_every_question_that_a_view_can_answer_has_an_example() -> None:
    can = {what for view in every_kind.every_kind().values() for what in view.answers}
    assert can - {"npy"} == set(VIEWS["answers"]), "what npy is answered with is a file"


def fields_in_typescript() -> dict[str, dict[str, bool]]:
    """The fields of each interface of `wire.ts`, and whether they may be missing."""
    text = (WIDGETS / "src/core/wire.ts").read_text(encoding="utf-8")
    found: dict[str, dict[str, bool]] = {}
    interfaces = re.finditer(r"export interface (\w+)(?: extends (\S+))? \{(.*?)\n\}", text, re.S)
    for name, base, body in (each.groups() for each in interfaces):
        inherited = re.fullmatch(r"Partial<(\w+)>", base or "")
        found[name] = dict.fromkeys(found[inherited[1]], True) if inherited else {}
        found[name] |= {f: bool(m) for f, m in re.findall(r"^  (\w+)(\??):", body, re.M)}
    return found


# What older kernels do not send, and what a type of total fields cannot say in Python.
LOOSER_IN_TYPESCRIPT = {"StripForm": {"heads"}}
TIGHTER_IN_TYPESCRIPT = {"StoredPicture": {"form"}, "Statistics": {"count"}}


@pytest.mark.parametrize("form", fields_in_typescript())
def test_both_languages_name_the_same_fields(form: str) -> None:
    theirs, ours = fields_in_typescript()[form], getattr(wire, form)
    hints = get_type_hints(ours, include_extras=True)
    assert set(theirs) == set(hints)
    optional = {name for name, may_be_missing in theirs.items() if may_be_missing}
    left_out = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
    if not ours.__total__:
        left_out = set(hints)
    expected = left_out | LOOSER_IN_TYPESCRIPT.get(form, set())
    assert optional == expected - TIGHTER_IN_TYPESCRIPT.get(form, set())


def test_every_form_of_a_record_has_its_twin() -> None:
    ours = {name for name, each in vars(wire).items() if hasattr(each, "__required_keys__")}
    assert set(fields_in_typescript()) == ours
