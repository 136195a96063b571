"""The wheel holds what a notebook needs, and nothing of the workshop; its page on PyPI is whole."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from readme_renderer import markdown
from trove_classifiers import classifiers

import nnsight_magic

ROOT = Path(__file__).parents[1]
STATIC = ("loader.js", "views.js", "page.js")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [each for each in wheel.namelist() if each.endswith("dist-info/METADATA")]
    return message_from_string(wheel.read(name).decode())


def test_the_wheel_brings_the_front_end(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    for name in STATIC:
        assert f"nnsight_magic/views/static/{name}" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"nnsight_magic"}
    assert not [
        name for name in names if name.startswith("nnsight_magic/") and "/lab/built" in name
    ]


def test_the_wheel_brings_jupyterlabs_panel_to_where_jupyterlab_looks_for_it(
    wheel: zipfile.ZipFile,
) -> None:
    data = f"nnsight_magic-{nnsight_magic.__version__}.data/data/"
    place = f"{data}share/jupyter/labextensions/nnsight-magic/"
    there = {name.removeprefix(place) for name in wheel.namelist() if name.startswith(data)}
    about = json.loads(wheel.read(f"{place}package.json"))
    assert about["version"] == nnsight_magic.__version__
    entry = about["jupyterlab"]["_build"]["load"]
    schema = "schemas/nnsight-magic/"
    assert there == {
        "package.json",
        "install.json",
        entry,
        f"{schema}plugin.json",
        f"{schema}package.json.orig",
    }
    assert b"_JUPYTERLAB" in wheel.read(place + entry)
    assert sum(each.compress_size for each in wheel.infolist()) < 5_000_000


def test_no_wheel_is_made_without_the_panel(tmp_path: Path) -> None:
    files = ("pyproject.toml", "README.md", "LICENSE", "hatch_build.py")
    ignored = shutil.ignore_patterns("node_modules", "__pycache__", "built")
    for name in ("nnsight_magic", "widgets", *files):
        source, target = ROOT / name, tmp_path / name
        shutil.copytree(source, target, ignore=ignored) if source.is_dir() else shutil.copy(
            source, target
        )
    (tmp_path / "widgets/build.py").write_text("def build() -> None: ...\n")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "its files are not where they belong" in done.stdout + done.stderr
    assert not list(tmp_path.glob("dist/*.whl"))


def test_the_licences_of_all_that_is_bundled_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    (kept,) = [name for name in wheel.namelist() if name.endswith("views/NOTICES.txt")][1:]
    assert ".dist-info/licenses/" in kept
    notices = wheel.read(kept).decode()
    assert notices == wheel.read("nnsight_magic/views/NOTICES.txt").decode()
    packages = json.loads((ROOT / "widgets/package-lock.json").read_text())["packages"]
    bundled = [name for name, each in packages.items() if name and not each.get("dev")]
    assert "node_modules/preact" in bundled
    for name in bundled:
        licence = (ROOT / "widgets" / name / "LICENSE").read_text().strip()
        assert f"contains {name.removeprefix('node_modules/')} " in notices
        assert licence in notices


def test_every_classifier_is_one_that_pypi_knows(metadata: Message) -> None:
    given = metadata.get_all("Classifier") or []
    assert set(given) <= set(classifiers)
    assert {"Framework :: Jupyter", "Framework :: IPython", "Typing :: Typed"} <= set(given)
    minors = [each.rpartition(".")[2] for each in given if "Python :: 3." in each]
    assert minors == ["11", "12", "13", "14"]


class Targets(HTMLParser):
    """What a page links to and shows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [v for k, v in attrs if k in ("href", "src", "srcset") and v]


def test_the_page_on_pypi_links_to_what_is_there(metadata: Message) -> None:
    rendered = markdown.render(str(metadata.get_payload()))
    assert rendered, "PyPI would show the text as it is written"
    urls = dict(each.split(", ", 1) for each in metadata.get_all("Project-URL") or [])
    source = urls["Source"]
    assert all(each.startswith(source) for each in urls.values())
    targets = [each for each in Targets(rendered).found if not each.startswith("#")]
    assert len(targets) > 10
    for target in targets:
        assert urlsplit(target).scheme == "https", target
        if target.startswith(source):
            kind, tag, path = target.removeprefix(source + "/").split("/", 2)
            assert (kind in ("blob", "raw"), tag) == (True, f"v{nnsight_magic.__version__}")
            assert (ROOT / path).exists(), target
    assert any("/raw/" in each and each.endswith(".png") for each in targets)


def test_there_is_one_version_and_every_file_that_names_it_says_the_same(
    metadata: Message,
) -> None:
    version = nnsight_magic.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert "version" in project["dynamic"]
    lock = json.loads((ROOT / "widgets/package-lock.json").read_text())
    named = {
        "the wheel": metadata["Version"],
        "widgets/package.json": json.loads((ROOT / "widgets/package.json").read_text())["version"],
        "widgets/package-lock.json": lock["version"],
        "its packages": lock["packages"][""]["version"],
        "CITATION.cff": yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"],
    }
    assert {name: found for name, found in named.items() if found != version} == {}
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest is not None
    assert newest[1] == version
