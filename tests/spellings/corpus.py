"""The cells of the corpus, the rules of the page, and what running a cell comes to.

In a file of the corpus each cell has a heading, stands in a code block as the field writes it, and
is followed by a second block: the assertions that it has to stand. What is right is computed there
by plain transformers and torch (`reference.py`). A line `refused: …` gives words of the message
that a user reads where a cell runs by no rule either; `means otherwise: …` says why a cell of an
older version is read otherwise, as it is by nnsight itself.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "coming-from-nnsight.md"

# What changes in every cell: where names are imported from, and which model is loaded.
_IMPORTS = (
    (r"^import nnsight$", "import nnsight_magic as nnsight"),
    (r"^from nnsight import ", "from nnsight_magic import "),
)
_MODELS = {"gpt2": '"openai-community/gpt2"', "llama": '"meta-llama/Llama-3.1-8B"'}
# Placeholders of rules, and what they stand for.
_ANYTHING = {
    "NAME": r"\w+",
    "STEP": r"\w+",
    "MODULE": r"[\w.\[\]-]+",
    "STEPS": r"[^\n]+?",
    "VALUE": r"[^\n]+?",
}


@dataclass(frozen=True)
class Cell:
    """One cell, what has to hold after it, and the refusal where it does not run.

    `means_otherwise`: it is of a time when nnsight itself gave it another meaning.
    """

    title: str
    code: str
    holds: str
    refused: str | None
    means_otherwise: bool

    def changed(self, folders: dict[str, str], rules: list[Rule] = ()) -> str:
        """The code with its imports and its models changed, and the rules applied."""
        code = self.code
        for rule in rules:
            code = rule.apply(code)
        for theirs, ours in _IMPORTS:
            code = re.sub(theirs, ours, code, flags=re.MULTILINE)
        return with_models(code, folders)


@dataclass(frozen=True)
class Rule:
    """A textual rewrite of the page; its placeholders are words in capitals."""

    theirs: str
    ours: str

    def apply(self, code: str) -> str:
        """The code with every place respelt."""
        pattern, known = "", set()
        for piece in re.split(rf"\b({'|'.join(_ANYTHING)})\b", self.theirs):
            if piece not in _ANYTHING:
                pattern += re.escape(piece)
            elif piece in known:
                pattern += f"(?P={piece})"
            else:
                pattern += f"(?P<{piece}>{_ANYTHING[piece]})"
                known.add(piece)
        pieces = re.split(rf"\b({'|'.join(known) or '$.'})\b", self.ours)
        return re.sub(
            pattern, lambda found: "".join(found[p] if p in known else p for p in pieces), code
        )


def with_models(code: str, folders: dict[str, str]) -> str:
    """The code, loading models from these folders."""
    for name, folder in folders.items():
        code = code.replace(_MODELS[name], repr(folder))
    return code


def cells() -> list[Cell]:
    """All cells of the corpus, file by file."""
    found = []
    for file in sorted(HERE.glob("*.md")):
        for part in re.split(r"^## ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            title = f"{file.stem}: {part.splitlines()[0]}"
            blocks = re.findall(r"^```python\n(.*?)^```", part, re.DOTALL | re.MULTILINE)
            refused = re.search(r"^refused: (.+)$", part, re.MULTILINE)
            assert len(blocks) == 2, title
            otherwise = re.search(r"^means otherwise: ", part, re.MULTILINE) is not None
            found.append(Cell(title, *blocks, refused and refused[1], otherwise))
    return found


@cache
def rules() -> tuple[Rule, ...]:
    """The rows of the page's table of rules, in their order."""
    page = PAGE.read_text(encoding="utf-8")
    (table,) = re.findall(r"^## Rules\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^\| `(.+?)` \| (?:`(.+?)`|\*nothing\*) \|", table, re.MULTILINE)
    return tuple(Rule(*row) for row in rows)


def run(code: str, name: str, namespace: dict[str, Any]) -> None:
    """Execute code whose lines tracebacks and `inspect` can find."""
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    exec(compile(code, name, "exec"), namespace)


def error_of(call: Callable[[], Any]) -> Exception | None:
    """What a call raises, if it does."""
    try:
        call()
    except Exception as error:
        return error
    return None
