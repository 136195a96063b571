"""The doctor finds what was broken on purpose, says what mends it, and reaches all other checks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nnsight_magic.__main__ import main
from nnsight_magic.doctor import CHECKS, OK, WRONG, Finding, as_json, as_text, examine

PACKAGE = Path(__file__).parents[1] / "nnsight_magic"


def about(findings: list[Finding], name: str) -> list[Finding]:
    found = [each for each in findings if each.about == name]
    assert found, f"nothing was said of {name}"
    return found


def kernel_at(folder: Path, python: str) -> None:
    spec = folder / "kernels/python3"
    spec.mkdir(parents=True)
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3"}))


@pytest.fixture
def own_jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which Jupyter looks first."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    return tmp_path


def test_nothing_is_wrong_here(own_jupyter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel_at(own_jupyter, sys.executable)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "Nothing is wrong." in said
    assert "✓ torch" in said
    assert "✓ views" in said
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {each["state"] for each in told["findings"]} <= {"ok", "note"}


def test_a_package_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "tqdm-1.0.dist-info"
    fake.mkdir()
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: tqdm\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    (found,) = about(examine(), "tqdm")
    assert found.state == WRONG
    assert found.found == "1.0, and >=4.66 is needed"
    assert found.mend == 'pip install "tqdm>=4.66"'


def test_a_kernel_of_another_python(own_jupyter: Path) -> None:
    kernel_at(own_jupyter, "/usr/bin/python3.99")
    (found,) = about(examine(), "kernel")
    assert found.state == WRONG
    assert "/usr/bin/python3.99, which is another Python" in found.found
    assert found.mend.endswith("-m ipykernel install --sys-prefix")


def test_a_panel_of_another_version(own_jupyter: Path) -> None:
    panel = own_jupyter / "labextensions/nnsight-magic"
    panel.mkdir(parents=True)
    (panel / "package.json").write_text('{"version": "0.0.1"}')
    (found,) = about(examine(), "side panel")
    assert found.state == WRONG
    assert "of version 0.0.1" in found.found
    (panel / "package.json").write_text("{")
    findings = examine()
    (broken,) = about(findings, "front end")
    assert broken.state == WRONG
    assert about(findings, "cache")


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNSIGHT_MAGIC_CACHE", "/proc/nowhere")
    (found,) = about(examine(), "cache")
    assert found.state == WRONG
    assert "NNSIGHT_MAGIC_CACHE" in found.mend


def test_a_torch_that_cannot_be_imported_and_views_that_are_missing(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "nnsight_magic", ignore=shutil.ignore_patterns("static"))
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so: cannot open')")
    ran = subprocess.run(
        [sys.executable, "-m", "nnsight_magic", "doctor", "--json"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    found = {each["about"]: each for each in json.loads(ran.stdout)["findings"]}
    assert found["views"]["state"] == WRONG
    assert "loader.js, views.js, page.js missing" in found["views"]["found"]
    assert "libtorch.so: cannot open" in json.dumps(found)
    assert "devices" in found
    assert found["cache"]["state"] == OK


def test_the_remedy_stands_below_what_is_wrong() -> None:
    text = as_text([Finding("a", OK, "1.0"), Finding("bcd", WRONG, "gone", "pip install bcd")])
    assert text.splitlines()[:3] == ["✓ a    1.0", "✗ bcd  gone", "       → pip install bcd"]
    assert text.endswith("1 wrong: do what stands behind the arrows.")
    assert json.loads(as_json([]))["findings"] == []
    assert len(CHECKS) > 5
