"""Runs the fast tests with every Python of this machine that the package is for.

    python -m tests.pythons            every one of them: `make test-pythons`
    python -m tests.pythons --newest   the newest alone, and fewer tests: what `make test` ends with
    python -m tests.pythons --list     what would be run, and what was passed over and why

Each gets an environment of its own beside the one that runs this, with the same pins. That costs
more than the tests: where torch comes with CUDA it is three minutes and five gigabytes. So `make
test` takes one other Python, the newest, and of the tests those that a Python can break: what reads
and compiles cells, tracebacks, and coroutines (the kernel must not die of an error of torch, see
tests/engine/provoke). Under `CI` it fails where no second Python is found: there nobody would see
that nothing was tested.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
RINGS = ("tests/language", "tests/engine", "tests/architectures", "tests/model", "tests/magics")
SHORT = (
    "tests/language/test_check.py",
    "tests/language/test_parse.py",
    "tests/language/test_problems.py",
    "tests/language/test_read.py",
    "tests/language/test_run.py",
    "tests/language/test_tokens.py",
    "tests/engine/test_suspended_in_torch.py",
    "tests/engine/test_torch_errors.py",
    "tests/engine/test_trace.py",
    "tests/engine/test_generate.py",
    "tests/engine/test_gradients.py",
    "tests/engine/places/test_operations_read.py",
    "tests/engine/places/test_operations_written.py",
    "tests/engine/places/test_operations_in_order.py",
    "tests/magics/test_cells.py",
    "tests/magics/test_errors.py",
    "tests/magics/test_protocol.py",
)
# Formatters and linters on notebooks: nothing of theirs is another with another Python.
LEFT_OUT = "tests/magics/test_tools.py"
VERSIONS = ((3, 11), (3, 12), (3, 13), (3, 14))
PLACES = (
    "$PYENV_ROOT/versions/*/bin/python",
    "~/.pyenv/versions/*/bin/python",
    "~/.local/share/uv/python/*/bin/python3",
    "/opt/hostedtoolcache/Python/*/*/bin/python",
    "/usr/bin/python3.1[1-4]",
    "/usr/local/bin/python3.1[1-4]",
)
# A shim of pyenv for a version that is not switched on exits with an error: it is none.
PROBE = "import sys, venv, ensurepip; print(*sys.version_info[:3], sys.base_prefix)"

Version = tuple[int, int, int]


def candidates() -> Iterator[str]:
    """Paths of what may be a Python, each once, those on the PATH first."""
    for folder in os.get_exec_path():
        for minor in range(11, 15):
            if (path := Path(folder, f"python3.{minor}")).is_file():
                yield str(path)
    for place in PLACES:
        pattern = str(Path(os.path.expandvars(place)).expanduser())
        yield from sorted(map(str, Path("/").glob(pattern.lstrip("/"))))


def probe(python: str) -> tuple[Version, str] | str:
    """Version and prefix of a Python, or why it is none that can be used."""
    try:
        answer = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return f"does not run ({type(problem).__name__})"
    found = re.fullmatch(r"(\d+) (\d+) (\d+) (.*)\n", answer.stdout)
    if answer.returncode or not found:
        lines = answer.stderr.strip().splitlines() or ["says nothing"]
        return f"does not run ({lines[-1][:80]})"
    return tuple(map(int, found.groups()[:3])), found[4]


def find_pythons(except_for: tuple[int, int]) -> tuple[dict[tuple[int, int], str], dict[str, str]]:
    """The newest Python of each version that is to be tested, and what was passed over."""
    newest: dict[tuple[int, int], tuple[Version, str]] = {}
    passed: dict[str, str] = {}
    for python in dict.fromkeys(candidates()):
        found = probe(python)
        if isinstance(found, str):
            passed[python] = found
            continue
        version, _ = found
        if version[:2] in VERSIONS and version > newest.get(version[:2], ((0, 0, 0), ""))[0]:
            newest[version[:2]] = (version, python)
    newest.pop(except_for, None)
    return {minor: python for minor, (_, python) in sorted(newest.items())}, passed


def requirements() -> list[str]:
    """What the tests of the rings need: all but the browsers' and the notebooks'.

    Without TransformerLens: it asks for transformers 5, and only the demo model's tests meet it.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["demo"], *extras["notebook"], *extras["test"]]
    leave = ("nnsight_magic", "jupyterlab", "notebook", "playwright", "ruff", "nbqa", "black")
    leave = (*leave, "transformer-lens")
    return [each for each in wanted if not re.match(rf"({'|'.join(leave)})\b", each)]


def environment(python: str, folder: Path, constraints: Path = ROOT / "constraints.txt") -> Path:
    """The Python of an environment with the packages as constrained; made once."""
    own, stamp = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join([python, *requirements(), constraints.read_text()])
    if stamp.is_file() and stamp.read_text() == wanted:
        return own
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    # What is never imported need not be compiled.
    pip = [own, "-m", "pip", "install", "-q", "-q", "--no-compile", "--constraint", constraints]
    subprocess.run([*pip, "torch"], check=True)
    subprocess.run([*pip, *requirements()], check=True)
    stamp.write_text(wanted)
    return own


def run(own: Path, arguments: list[str], rings: Iterable[str] = RINGS) -> int:
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = ["-q", "-p", "no:cacheprovider", "-m", "not demo and not browser"]
    options += [f"--ignore={LEFT_OUT}", *arguments]
    return subprocess.run(
        [own, "-m", "pytest", *rings, *options], cwd=ROOT, env=variables
    ).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="say what would be run")
    parser.add_argument("--newest", action="store_true", help="the newest alone, with fewer tests")
    parser.add_argument("--folder", type=Path, default=Path(sys.prefix, "pythons"))
    options, arguments = parser.parse_known_args()
    found, passed = find_pythons(except_for=sys.version_info[:2])
    here = ".".join(map(str, sys.version_info[:2]))
    names = [f"{major}.{minor}" for major, minor in found]
    print(f"This is Python {here}; here beside it: {', '.join(names) or 'none'}.")
    for python, why in passed.items():
        print(f"Passed over: {python} {why}")
    if options.list:
        return 0
    if not found:
        print("There is no second Python from 3.11 to 3.14 here: nothing more was tested.")
        return 1 if os.environ.get("CI") else 0
    rings = RINGS
    if options.newest:
        names, found, rings = names[-1:], dict([max(found.items())]), SHORT
    failed = []
    for name, python in zip(names, found.values(), strict=True):
        print(f"── Python {name}: {python}", flush=True)
        if run(environment(python, options.folder / name), arguments, rings):
            failed.append(name)
    print(
        f"Ran with Python {', '.join(names)}; "
        + (f"failed: {', '.join(failed)}" if failed else "all passed")
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
