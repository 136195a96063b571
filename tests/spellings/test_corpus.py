"""Cells as users of nnsight write them run as they stand, or by the rules of the page on it."""

from __future__ import annotations

from functools import cache

import pytest
import torch

import nnsight_magic
from nnsight_magic import LanguageModel, NnsightError
from tests import tiny as tiny_models
from tests.spellings.corpus import Cell, cells, error_of, rules, run
from tests.spellings.reference import Reference, same

CELLS = {cell.title: cell for cell in cells()}
UNCHANGED, BY_RULES = 0.80, 0.95  # the shares that are promised


@pytest.fixture(scope="module")
def outcome(folders, tiny_tokenizer):
    """How a cell ends, once as it stands and once by the rules; `None` where it holds."""
    reference, llama = (
        Reference(tiny_models.build(name), tiny_tokenizer) for name in ("gpt2", "llama")
    )
    about = {"same": same, "hf": reference.hf, "llama": llama, "tokenizer": tiny_tokenizer}
    about |= {name: getattr(reference, name) for name in ("plain", "generated", "ids")}

    def attempt(cell: Cell, code: str) -> None:
        hf = tiny_models.build("gpt2")
        namespace = {
            "torch": torch,
            "nnsight": nnsight_magic,
            "LanguageModel": LanguageModel,
            "model": LanguageModel(hf, tiny_tokenizer),
        }
        run(code, f"<{cell.title}>", namespace)
        run(cell.holds, f"<what holds of {cell.title}>", {**about, **namespace})

    @cache
    def tried(title: str, ruled: bool) -> Exception | None:
        cell = CELLS[title]
        code = cell.changed(folders, rules() if ruled else ())
        return error_of(lambda: attempt(cell, code))

    return tried


def in_words(error: Exception) -> bool:
    """Whether the user is told what to write: nothing gives other values without a word."""
    notes = getattr(error, "__notes__", ())
    return isinstance(error, NnsightError) or any("Write: " in note for note in notes)


@pytest.mark.parametrize("title", CELLS)
def test_a_cell_runs_or_is_refused_in_words(title, outcome):
    first = error = outcome(title, ruled=False)
    if error is not None:
        assert CELLS[title].means_otherwise or in_words(error), repr(error)
        error = outcome(title, ruled=True)
    refused = CELLS[title].refused
    if refused is None:
        assert error is None
    else:
        assert error is not None and refused in f"{first}{error}"


def test_the_promised_shares_of_the_corpus_run(outcome):
    assert len(CELLS) >= 120
    unchanged = [title for title in CELLS if outcome(title, ruled=False) is None]
    by_rules = [t for t in CELLS if t in unchanged or outcome(t, ruled=True) is None]
    print(f"{len(unchanged)} and {len(by_rules)} of {len(CELLS)}")
    assert len(unchanged) >= UNCHANGED * len(CELLS)
    assert len(by_rules) >= BY_RULES * len(CELLS)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.theirs)
def test_a_rule_makes_cells_run(rule, outcome):
    refused = [title for title in CELLS if outcome(title, ruled=False) is not None]
    mended = [title for title in refused if outcome(title, ruled=True) is None]
    assert any(rule.apply(CELLS[title].code) != CELLS[title].code for title in mended)
