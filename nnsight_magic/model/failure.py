"""What goes wrong inside transformers, told in a few lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nnsight_magic.errors import LoadError, NnsightError


@contextmanager
def told(name: str) -> Iterator[None]:
    """An error inside becomes a `LoadError` about the model `name`.

    Its traceback is not shown; it stays in `__context__` for whoever wants it.
    """
    try:
        yield
    except NnsightError:
        raise
    except Exception as problem:
        lines = [f"{name} was found, and cannot be loaded.", first_lines(problem)]
        if isinstance(problem, TypeError) and "unexpected keyword argument" in str(problem):
            lines.append("Check the spelling of the options: they go to from_pretrained.")
        raise LoadError("\n".join(lines)) from None


def first_lines(problem: Exception, count: int = 4) -> str:
    """The beginning of an error's text, indented; its kind where it has none."""
    lines = [line.strip()[:200] for line in str(problem).splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[:count] or [type(problem).__name__])
