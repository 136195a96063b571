"""Imports point down: the contracts in pyproject.toml hold, and are seen to break."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from docs.rooms import FILES, PICTURE, drawing, edges

ROOT = Path(__file__).resolve().parents[1]
ENGINE = "nnsight_magic/engine"
PAGE = ROOT / "docs" / "architecture.md"
# What files of before there were rooms are answered by, no room.
MOVED = "moved"
# A line too much: the file, and which contract it breaks.
TOO_MUCH = {
    "a type of a room above": (
        f"{ENGINE}/values/words.py",
        "if 0:\n    from nnsight_magic.engine.tracing.tracer import Tracer",
        "The engine's rooms",
    ),
    "a room above, when it is needed": (
        f"{ENGINE}/sites/report.py",
        "def later():\n    import nnsight_magic.engine.running.forward",
        "The engine's rooms",
    ),
    "a circle inside a room": (
        f"{ENGINE}/values/words.py",
        "def later():\n    from nnsight_magic.engine.values.pause import Pause",
        "No circle",
    ),
    "a folder above": (
        f"{ENGINE}/model/model.py",
        "def later():\n    from nnsight_magic.magics import load",
        "The package",
    ),
    "a notebook": (
        "nnsight_magic/loading/load.py",
        "def later():\n    import IPython",
        "without a notebook",
    ),
}


def contracts(folder: Path) -> tuple[int, str]:
    command = "from importlinter.cli import lint_imports_command as lint; lint()"
    arguments = ["--no-cache", "--no-logo"]
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments], cwd=folder, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_imports_point_down_and_there_is_no_circle():
    code, said = contracts(ROOT)
    assert code == 0, said
    assert ", 0 broken" in said


@pytest.mark.parametrize("what", TOO_MUCH)
def test_a_contract_breaks_by(what, tmp_path):
    file, line, contract = TOO_MUCH[what]
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    only_python = shutil.ignore_patterns("static", "__pycache__")
    shutil.copytree(ROOT / "nnsight_magic", tmp_path / "nnsight_magic", ignore=only_python)
    with (tmp_path / file).open("a") as source:
        source.write(f"\n\n{line}\n")
    code, said = contracts(tmp_path)
    assert code == 1, said
    broken = [row for row in said.splitlines() if " BROKEN" in row]
    assert any(contract in row for row in broken), said


def rooms():
    """The rooms of the page's table, from the top down: name, what to begin at, the files."""
    text = PAGE.read_text(encoding="utf-8").partition("## The engine, room by room")[2]
    rows = re.findall(r"^\| `(\w+)/` \|.*?\|(.*?)\|(.*)\|$", text, re.M)
    return {name: (begin, files) for name, begin, files in rows}


def test_the_page_has_the_rooms_in_the_order_of_the_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = contracts["tool"]["importlinter"]["contracts"][1]["layers"]
    folders = {each.name for each in (ROOT / ENGINE).iterdir() if (each / "__init__.py").exists()}
    assert list(rooms()) == layers
    assert folders - {MOVED} == set(layers)


@pytest.mark.parametrize("room", rooms())
def test_the_page_names_every_file_of_a_room_and_where_to_begin(room):
    begin, files = rooms()[room]
    here = {each.stem for each in (ROOT / ENGINE / room).glob("*.py")} - {"__init__"}
    told = set(re.findall(r"`(\w+)`", files))
    assert here == told
    source = "\n".join(
        each.read_text(encoding="utf-8") for each in (ROOT / ENGINE / room).glob("*.py")
    )
    for entry in re.findall(r"`([\w.]+)`", begin):
        owner, _, method = entry.partition(".")
        assert re.search(rf"^(class|def) {owner}\b", source, re.M), entry
        assert not method or re.search(rf"^    def {method}\b", source, re.M), entry


def test_the_picture_of_the_rooms_is_that_of_the_imports():
    assert PICTURE.read_text(encoding="utf-8") == drawing(), "draw it: python -m docs.rooms"
    assert f"](images/{PICTURE.name})" in PAGE.read_text(encoding="utf-8")


def test_an_import_of_any_kind_is_an_arc_of_the_picture(tmp_path):
    texts = {
        "upper/late": "def later():\n    from house.lower.thing import one",
        "upper/other": "if TYPE_CHECKING:\n    import house.cellar",
        "lower/thing": "from ..single import x",
        "lower/same": "from house.lower import thing\nimport json, lower, household.upper",
        "cellar/a": "",
        "single": "",
        "__init__": "from house.upper import late",
    }
    for name, text in texts.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    found = edges(tmp_path, "house", ["upper", "lower", "cellar", FILES])
    assert found == [("upper", "lower"), ("upper", "cellar"), ("lower", FILES)]
