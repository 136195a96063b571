"""What somebody may have meant who wrote something else."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(
    word: str, candidates: Iterable[str], count: int = 1, likeness: float = 0.6
) -> list[str]:
    """The candidates that `word` may be a misspelling of, best first; case does not count."""
    by_folded: dict[str, str] = {}
    for candidate in candidates:
        by_folded.setdefault(candidate.casefold(), candidate)
    found = difflib.get_close_matches(word.casefold(), list(by_folded), n=count, cutoff=likeness)
    return [by_folded[folded] for folded in found]


def did_you_mean(word: str, candidates: Iterable[str], likeness: float = 0.6) -> str:
    """`did you mean 'x'?` where something is near, else an empty string."""
    found = nearest(word, candidates, likeness=likeness)
    return f"did you mean {found[0]!r}?" if found else ""


def asked_sentence(word: str, candidates: Iterable[str], likeness: float = 0.6) -> str:
    """The same behind a sentence, with the space before it: ` Did you mean 'x'?`."""
    found = did_you_mean(word, candidates, likeness)
    return f" D{found[1:]}" if found else ""


def listing(names: Iterable[str], most: int = 8) -> str:
    """`a, b, c, … (17 more)`."""
    names = list(names)
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names) - most} more)"
