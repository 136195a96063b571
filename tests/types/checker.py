"""Runs the type checker once over the package and over the expressions whose types users see.

The checker is Pyright, which is what Pylance shows in a user's editor. It reads transformers from
the short stub beside this file: four fifths of its time would go into transformers' own files, and
little in them is typed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

TOP = Path(__file__).parents[2]
CEILING = Path(__file__).with_name("ceiling.json")


class Finding(NamedTuple):
    """One thing that the checker says, of a file as it is called from the top of the project."""

    file: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text} [{self.rule}]"


class Findings(NamedTuple):
    """What the checker found wrong, and what it was asked to reveal."""

    errors: list[Finding]
    revealed: list[Finding]

    def among(self, path: str) -> list[Finding]:
        """The errors in one file, or anywhere in one folder."""
        return [each for each in self.errors if f"{each.file}/".startswith(f"{path}/")]

    def by_folder(self) -> Counter[str]:
        """How many errors there are in each folder."""
        return Counter(each.file.rpartition("/")[0] for each in self.errors)


class Ceiling(NamedTuple):
    """How many errors there may be in all, and the files and folders that have none.

    The number is that of the whole package, so that no file has to keep its place; it goes down.
    """

    errors: int
    none_in: list[str]

    @classmethod
    def read(cls) -> Ceiling:
        """As it stands in the file beside this one."""
        return cls(**json.loads(CEILING.read_text()))

    def write(self) -> None:
        """Put it into the file beside this one."""
        CEILING.write_text(json.dumps(self._asdict(), indent=2) + "\n")

    def broken_by(self, findings: Findings) -> list[str]:
        """What is wrong, a line each; none if all is as it should be."""
        found = [str(each) for path in self.none_in for each in findings.among(path)]
        if len(findings.errors) > self.errors:
            found += [str(each) for each in findings.errors]
            found.append(f"{len(findings.errors)} errors; there may be {self.errors}.")
        return found


def check(*files: str) -> Findings:
    """Run the checker; on all that pyproject.toml names, or on these files alone.

    Raises:
        RuntimeError: it could not be run.
    """
    options = ["--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(
        [sys.executable, "-m", "pyright", *options, *files],
        cwd=TOP,
        capture_output=True,
        text=True,
        env=os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )
    try:
        said = json.loads(done.stdout)["generalDiagnostics"]
    except ValueError:
        raise RuntimeError(f"Pyright did not run:\n{done.stdout}{done.stderr}") from None
    return Findings(
        [_finding(each) for each in said if each["severity"] == "error"],
        [_finding(each) for each in said if each["severity"] == "information"],
    )


def _finding(said: dict[str, Any]) -> Finding:
    file = Path(said["file"]).resolve().relative_to(TOP.resolve()).as_posix()
    line = said["range"]["start"]["line"] + 1
    return Finding(file, line, said.get("rule", ""), " ".join(said["message"].split()))
