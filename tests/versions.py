"""Runs the fast tests with other versions of the libraries that the package rests on.

    python -m tests.versions colab     what Google's Colab ships, exactly
    python -m tests.versions oldest    the lower bounds of pyproject.toml
    python -m tests.versions newest    the newest releases

Each has a file in tests/constraints, whose first line names the Python, and an environment of its
own. Before the tests it is asked of pip that installing the package there replaces nothing. Some
minutes each and several gigabytes: for a release, see `make test-versions`. With `--write` each
ring writes its line of the table in docs/versions.md: the versions, and what its tests gave.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from datetime import date
from pathlib import Path

from tests.pythons import ROOT, environment, find_pythons, run

CONSTRAINTS = ROOT / "tests" / "constraints"
RINGS = ("tests/language", "tests/engine", "tests/analyses", "tests/magics")
TABLE = ROOT / "docs" / "versions.md"
SHOWN = ("torch", "transformers", "ipython", "ipykernel", "ipywidgets", "traitlets", "anywidget")
NAMES = sorted(path.stem for path in CONSTRAINTS.glob("*.txt"))


def python_for(name: str) -> str | None:
    """A Python of this machine of the version that a file of constraints asks for."""
    first = (CONSTRAINTS / f"{name}.txt").read_text().partition("\n")[0]
    major, minor = map(int, re.fullmatch(r"# Python (\d+)\.(\d+)", first).groups())
    if sys.version_info[:2] == (major, minor):
        return sys.executable
    return find_pythons(except_for=(0, 0))[0].get((major, minor))


def installed_in_colab() -> list[list[str]]:
    """What each `%pip install` of the README's cell for Colab is given; this tree is the clone."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^%pip install --quiet (.+)$", readme, re.M)
    return [shlex.split(line.replace("./nnsight_magic", str(ROOT))) for line in lines]


def replaced_by_installing(own: Path) -> list[str]:
    """The installed packages that the README's cell for Colab would put others in the place of."""
    installed = subprocess.run(
        [own, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    here = {line.partition("==")[0].lower() for line in installed.stdout.splitlines()}
    names: list[str] = []
    for what in installed_in_colab():
        would = subprocess.run(
            [own, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", *what],
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(would.stdout)["install"]
        names += [each["metadata"]["name"] for each in found]
    return [name for name in names if name.lower() in here]


def installed_versions(own: Path) -> dict[str, str]:
    """The versions in an environment of its Python and of what the table shows."""
    code = (
        "import platform; from importlib.metadata import version\n"
        f"print(platform.python_version(), *map(version, {SHOWN!r}))"
    )
    found = subprocess.run([own, "-c", code], capture_output=True, text=True, check=True)
    return dict(zip(("python", *SHOWN), found.stdout.split(), strict=True))


def counted(report: Path) -> str:
    """What a run of pytest gave, out of the report that `--junit-xml` writes.

    A report of 5 tests, of which 1 failed, 1 was an error and 1 was skipped, is
    "2 passed, 2 failed, 1 skipped".
    """
    (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    every, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    return f"{every - failed - skipped:,} passed, {failed:,} failed, {skipped:,} skipped"


def with_line(page: str, name: str, line: str) -> str:
    """The page with the line of a ring in place of the one that it has."""
    changed, count = re.subn(rf"(?m)^\| {name} \|.*$", lambda _: line, page)
    if count != 1:
        raise ValueError(f"docs/versions.md has {count} lines of {name!r} in its table, not one")
    return changed


def write_line(name: str, own: Path, report: Path) -> None:
    """Write what a ring gave into the page of the documentation."""
    found = installed_versions(own)
    cells = [name, *found.values(), counted(report), f"{date.today():%d %B %Y}"]
    TABLE.write_text(with_line(TABLE.read_text(), name, f"| {' | '.join(cells)} |"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="|".join(NAMES))
    parser.add_argument("--folder", type=Path, default=Path(sys.prefix, "versions"))
    parser.add_argument("--write", action="store_true", help="write the table in docs/versions.md")
    options, arguments = parser.parse_known_args()
    if unknown := {*options.names} - {*NAMES}:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    failed = []
    for name in options.names or NAMES:
        python = python_for(name)
        if python is None:
            print(f"── {name}: its Python is not on this machine; nothing was tested.")
            failed.append(name)
            continue
        print(f"── {name}: {python}", flush=True)
        own = environment(python, options.folder / name, CONSTRAINTS / f"{name}.txt")
        if replaced := replaced_by_installing(own):
            print(f"Installing the package would replace {', '.join(replaced)}.")
            failed.append(name)
            continue
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.xml")
            if run(own, [*arguments, f"--junit-xml={report}"], RINGS):
                failed.append(name)
            if options.write and report.is_file():
                write_line(name, own, report)
    print(f"Failed: {', '.join(failed)}" if failed else "All passed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
