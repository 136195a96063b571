"""What is written otherwise elsewhere: each spelling that cannot mean the same here says what does.

What can is simply there; `docs/coming-from-nnsight.md` lists both.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

from nnsight_magic.errors import SpellingError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Placed

# Options that other libraries' `trace` takes, and what there is in their place.
_ELSEWHERE = {
    "remote": "models run in this process: leave it out, and load the model on this machine, "
    'LanguageModel(name, device_map="auto")',
    "backend": "models run in this process: leave it out",
    "blocking": "models run in this process: leave it out",
    "invoker_args": "options of the tokenizer go to the tokenizer: "
    'model.trace(model.tokenizer(prompt, truncation=True, return_tensors="pt"))',
    "trace": "model.trace(x, trace=False) gives the model's output: leave it out",
}
# Try the block on shapes before it runs: here every line runs on real values at once.
_NEEDLESS = ("validate", "scan")


def without_foreign_options(call: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options without those of other libraries that are switched off, or change no number.

    Raises:
        SpellingError: one is switched on.
    """
    for name in _ELSEWHERE.keys() & given.keys():
        if given[name] not in (None, False):
            raise SpellingError(f"{call}({name}=…): {_ELSEWHERE[name]}.")
    known = {*_ELSEWHERE, *_NEEDLESS}
    return {name: value for name, value in given.items() if name not in known}


def refuse_block_of_steps(wrote: str, write: str = "for step in tracer.iter[:]:") -> NoReturn:
    """A block runs once, in place; what has to run once a step is a loop.

    Raises:
        SpellingError: always.
    """
    raise SpellingError(f"with {wrote}: a block runs once, where it stands. Write: {write}")


class OlderSpellings:
    """What nnsight's tracers had before blocks ran as Python."""

    def apply(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function, which may as well be called by itself."""
        return apply(function, *args, **kwargs)

    def log(self, *values: Any) -> None:
        """`print`."""
        log(*values)

    def cond(self, condition: Any) -> NoReturn:
        """A block under a condition; Python has `if` for it.

        Raises:
            SpellingError: always.
        """
        raise SpellingError("with tracer.cond(x): values are real here. Write: if x:")


def apply(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function on values, which are tensors here."""
    return function(*args, **kwargs)


def log(*values: Any) -> None:
    """`print`."""
    print(*values)


class Session(OlderSpellings):
    """`with model.session():` traces one after another, which they are without it as well.

    Values of one trace are there in the next. `stop()` leaves the block.
    """

    def __init__(self, model: Any):
        self.model = model

    def stop(self) -> NoReturn:
        """Leave the block; what follows in it does not run."""
        raise _Left(self)

    def iter(self, over: Any) -> NoReturn:
        """A block that runs once for each item; Python has `for` for it.

        Raises:
            SpellingError: always.
        """
        raise SpellingError("with session.iter(items) as item: Write: for item in items:")

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        return kind is not None and issubclass(kind, _Left) and error.session is self


class _Left(BaseException):
    def __init__(self, session: Session):
        self.session = session


class _Saved:
    """Python's own containers and numbers, with a `.save()`; a copy of one is Python's own."""

    def save(self) -> Any:
        """Give it back; it is there after the block anyway."""
        return self

    def __reduce_ex__(self, protocol: Any) -> tuple:
        kind = next(each for each in type(self).__mro__ if each.__module__ == "builtins")
        return kind, (kind(self),)


# `nnsight_magic.list()` and so on, by the names of Python's own.
SAVED: dict[str, type] = {
    kind.__name__: type(kind.__name__, (_Saved, kind), {"__module__": "nnsight_magic"})
    for kind in (list, dict, set, tuple, int, float, str)
}

# Methods with which torch gives the module itself back.
_FLUENT = frozenset(
    "to to_empty cpu cuda xpu type float double half bfloat16 train eval requires_grad_ "  # noqa: SIM905
    "share_memory apply".split()
)


def fluent(handle: Placed, name: str, value: Any) -> Any:
    """A method that gives its module back gives the handle: `model = model.to("cuda")`."""
    if name not in _FLUENT or getattr(value, "__self__", None) is not handle.module:
        return value

    @wraps(value)
    def call(*args: Any, **kwargs: Any) -> Any:
        found = value(*args, **kwargs)
        return handle if found is handle.module else found

    return call


def explain(error: BaseException) -> None:
    """Add what to write to errors that Python itself raises at spellings of other libraries."""
    said = str(error)
    if not isinstance(error, AttributeError) or getattr(error, "__notes__", None):
        return
    if said == "'NoneType' object has no attribute 'save'":
        error.add_note(
            "There is no value. A gradient is there behind backward(), of the value that the loss "
            "was computed from.\nWrite: h = ….output before, h.grad behind, or in a block: with "
            "loss.backward():"
        )
    elif said.endswith("has no attribute 'save'"):
        error.add_note("Write: nnsight_magic.save(x). (It is there after the block anyway.)")
    elif re.search(r"has no attribute '(output|inputs?)'$", said):
        error.add_note(
            "Modules of torch, as model.named_modules() gives them, have no values. Write: "
            "model[path].output, which is the tree's."
        )


class Config:
    """`CONFIG`: settings of nnsight that speak of other machines.

    Raises:
        SpellingError: always.
    """

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise SpellingError(f"CONFIG.{name}: {_ELSEWHERE['remote']}.")


CONFIG = Config()


class Given(dict):
    """What the model is called with, by name."""

    def __missing__(self, name: Any) -> NoReturn:
        if isinstance(name, int):
            raise SpellingError(
                f"inputs[{name}]: what the model is called with goes by its name. "
                'Write: tracer.input_ids, or tracer.inputs["input_ids"]'
            )
        raise KeyError(name)
