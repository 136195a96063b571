"""The types of the package are checked, and the number of errors only goes down."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.types.checker import Ceiling, Finding, Findings, check

PACKAGE = Path(__file__).parents[2] / "nnsight_magic"
EXPRESSIONS = Path(__file__).with_name("expressions.py")


def test_there_are_no_more_errors_than_there_were(found: Findings) -> None:
    broken = Ceiling.read().broken_by(found)
    assert not broken, "\n".join(broken)


def test_users_editors_are_told_that_the_package_has_types() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_a_wrong_type_is_found(tmp_path: Path) -> None:
    wrong = EXPRESSIONS.with_name("_wrong.py")
    wrong.write_text("from nnsight_magic import errors\n\nnumber: int = errors.__name__\n")
    try:
        assert [each.rule for each in check(str(wrong)).errors] == ["reportAssignmentType"]
    finally:
        wrong.unlink()


def test_one_error_too_many_and_one_in_a_clean_folder_are_told() -> None:
    error = Finding("nnsight_magic/engine/sites/site.py", 3, "reportCallIssue", "wrong")
    moved = Finding("nnsight_magic/elsewhere/site.py", 3, "reportCallIssue", "wrong")
    assert Ceiling(1, ["nnsight_magic/engine/sites"]).broken_by(Findings([error], []))
    assert not Ceiling(1, ["nnsight_magic/engine/site"]).broken_by(Findings([error], []))
    assert not Ceiling(1, ["nnsight_magic/engine/sites"]).broken_by(Findings([moved], []))
    assert Ceiling(1, []).broken_by(Findings([error, moved], []))[-1].startswith("2 errors")


def _expected() -> list[tuple[int, str, str]]:
    """Line, expression and type of each that the file of expressions asks about."""
    asked = re.compile(r"\s*reveal_type\((.*)\)  # (.*)")
    lines = enumerate(EXPRESSIONS.read_text().splitlines(), 1)
    matches = [(number, asked.fullmatch(line)) for number, line in lines]
    return [(number, match[1], match[2]) for number, match in matches if match]


@pytest.mark.parametrize(
    ("line", "expression", "type_"), _expected(), ids=[each[1] for each in _expected()]
)
def test_the_checker_knows(found: Findings, line: int, expression: str, type_: str) -> None:
    file = EXPRESSIONS.relative_to(PACKAGE.parent).as_posix()
    said = [each.text for each in found.revealed if (each.file, each.line) == (file, line)]
    assert said == [f'Type of "{expression}" is "{type_}"']
