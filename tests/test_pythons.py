"""The command that runs tests with other Pythons says what it found, and fails where it must."""

from __future__ import annotations

import sys

import pytest

from tests import pythons


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_a_machine_without_a_second_python_fails_in_ci_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ci: str, code: int
) -> None:
    monkeypatch.setattr(pythons, "candidates", lambda: [sys.executable])
    monkeypatch.setattr(sys, "argv", ["pythons", "--newest"])
    monkeypatch.setenv("CI", ci)
    assert pythons.main() == code
    said = capsys.readouterr().out
    assert "here beside it: none" in said and "nothing more was tested" in said


def test_what_does_not_run_is_passed_over_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'not switched on' >&2\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setattr(pythons, "candidates", lambda: [str(shim), sys.executable])
    found, passed = pythons.find_pythons(except_for=(0, 0))
    assert found == {sys.version_info[:2]: sys.executable}
    assert passed == {str(shim): "does not run (not switched on)"}
