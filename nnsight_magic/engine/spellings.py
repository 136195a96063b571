"""What is written otherwise elsewhere: each spelling that cannot mean the same here says what does.

What can is simply there; `docs/coming-from-nnsight.md` lists both.
"""

from __future__ import annotations

from typing import Any, NoReturn

from nnsight_magic.errors import SpellingError

# Options that other libraries' `trace` takes, and what there is in their place.
_ELSEWHERE = {
    "remote": "models run in this process: leave it out, and load the model on this machine, "
    'LanguageModel(name, device_map="auto")',
    "backend": "models run in this process: leave it out",
    "blocking": "models run in this process: leave it out",
    "validate": "values are real in a trace, so nothing is validated before: leave it out",
    "scan": "shapes alone come from model.scan(x): leave it out",
    "trace": "model.trace(x, trace=False) gives the model's output: leave it out",
}


def without_foreign_options(call: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options without those of other libraries that are switched off.

    Raises:
        SpellingError: one is switched on.
    """
    for name in _ELSEWHERE.keys() & given.keys():
        if given[name] not in (None, False):
            raise SpellingError(f"{call}({name}=…): {_ELSEWHERE[name]}.")
    return {name: value for name, value in given.items() if name not in _ELSEWHERE}


def refuse_block_of_steps(wrote: str, write: str = "for step in tracer.iter[:]:") -> NoReturn:
    """A block runs once, in place; what has to run once a step is a loop.

    Raises:
        SpellingError: always.
    """
    raise SpellingError(f"with {wrote}: a block runs once, where it stands. Write: {write}")


class Session:
    """`with model.session():` traces one after another, which they are without it as well.

    Values of one trace are there in the next. `stop()` leaves the block.
    """

    def __init__(self, model: Any):
        self.model = model

    def stop(self) -> NoReturn:
        """Leave the block; what follows in it does not run."""
        raise _Left(self)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        return kind is not None and issubclass(kind, _Left) and error.session is self


class _Left(BaseException):
    def __init__(self, session: Session):
        self.session = session
