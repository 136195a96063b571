"""Runs the fast tests with other versions of the libraries that the package rests on.

    python -m tests.versions colab     what Google's Colab ships, exactly
    python -m tests.versions oldest    the lower bounds of pyproject.toml
    python -m tests.versions newest    the newest releases

Each has a file in tests/constraints, whose first line names the Python, and an environment of its
own. Before the tests of `colab` it is asked of pip that installing the package there replaces
nothing. Some minutes each and several gigabytes: for a release, see `make test-versions`.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.pythons import ROOT, environment, find_pythons, run

CONSTRAINTS = ROOT / "tests" / "constraints"
RINGS = ("tests/language", "tests/engine", "tests/magics")
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="|".join(NAMES))
    parser.add_argument("--folder", type=Path, default=Path(sys.prefix, "versions"))
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
        elif run(own, arguments, RINGS):
            failed.append(name)
    print(f"Failed: {', '.join(failed)}" if failed else "All passed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
