"""What goes wrong inside transformers, told in a few lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nnsight_magic.errors import LoadError, NnsightError

if TYPE_CHECKING:
    from nnsight_magic.loading.found import Found


# How transformers begins what it says of a model that brings code of its own.
_OWN_CODE = ("contains custom code", "trust_remote_code=True")


def require_place(name: str, found: Found) -> None:
    """The folder or file that a model was found in, looked at again before it is read.

    Raises:
        LoadError: it has been moved or deleted since.
    """
    places = [Path(found.place, found.gguf_file or "")] if found.local else []
    places += [Path(found.adapter)] if found.adapter else []
    for place in places:
        if not place.exists():
            again = "demo" if found.demo else "…"
            raise LoadError(
                f"{name} was there when the model was named, and is gone now: nothing stands at\n"
                f'    {place}\nPut it back, or name the model anew: LanguageModel("{again}").'
            )


@contextmanager
def failures_explained(name: str, next_step: str = "") -> Iterator[None]:
    """An error inside becomes a `LoadError` about the model `name`.

    Its traceback is not shown; it stays in `__context__` for whoever wants it.

    Args:
        next_step: what to do about it, where that is known whatever went wrong.
    """
    try:
        yield
    except NnsightError:
        raise
    except Exception as problem:
        if all(words in str(problem) for words in _OWN_CODE):
            raise LoadError(_comes_with_code(name)) from None
        lines = [f"{name} was found, and cannot be loaded.", first_lines(problem)]
        if isinstance(problem, TypeError) and "unexpected keyword argument" in str(problem):
            lines.append("Check the spelling of the options: they go to from_pretrained.")
        raise LoadError("\n".join(filter(None, (*lines, next_step)))) from None


def _comes_with_code(name: str) -> str:
    return (
        f"{name} brings Python code of its own, which loading it would run.\n"
        "Nothing of it was run. Read the .py files beside its config.json, and where you trust "
        f'them:\n    LanguageModel("{name}", trust_remote_code=True)'
    )


def remedy(found: Found) -> str:
    """What to do where a model's files cannot be read, as far as their place tells."""
    if not found.local:
        return ""
    if found.demo:
        return (
            f"It lies converted in\n    {found.place}\n"
            "Delete that folder, and the next use makes it again."
        )
    return f"Its files are in\n    {found.place}"


def first_lines(problem: Exception, count: int = 4) -> str:
    """The beginning of an error's text, indented; its kind where it has none."""
    lines = [line.strip()[:200] for line in str(problem).splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[:count] or [type(problem).__name__])
