"""Says once where an inside of a library is not as this package knows it, and what it does then."""

from __future__ import annotations

import logging
import warnings

from nnsight_magic.errors import NnsightWarning

_log = logging.getLogger(__name__)
_said: set[str] = set()


def unlike(inside: str, instead: str) -> None:
    """Warn that `inside` is not as expected; once in a process.

    Args:
        inside: what was looked for, with its library: `"torch._C._len_torch_function_stack"`.
        instead: what is done without it, as a sentence.
    """
    if inside in _said:
        return
    _said.add(inside)
    library = inside.partition(".")[0]
    version = getattr(__import__(library), "__version__", "?")
    _log.warning("%s %s: %s is not as expected", library, version, inside)
    warnings.warn(
        f"{library} {version} is in one place not as this package knows it: {inside}.\n{instead}",
        NnsightWarning,
        stacklevel=3,
    )
