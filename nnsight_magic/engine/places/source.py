"""A module's `forward` as it is written, with its operations named beside their lines.

Which operations a forward issues, and how often, only running it tells. So it is run as far as
this module: on the inputs of the trace where there is one, else on a few made-up tokens (or an
empty picture); on the meta device while the weights are not loaded.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nnsight_magic.engine.places.made_up import made_up_run
from nnsight_magic.engine.places.source_names import calls_of
from nnsight_magic.engine.running.bypass import Bypasses
from nnsight_magic.engine.running.coroutine import current
from nnsight_magic.engine.running.operation_mode import Issued, Listing, OperationMode
from nnsight_magic.errors import NnsightError
from nnsight_magic.printable import escape

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Root, Tree

_WIDTH = 88  # columns of source before the operations
_UNKNOWN = (
    "Which operations it runs is not known before it has run on something: "
    "print this inside a trace."
)


class Source:
    """The source of a module's forward and of the functions that issue its operations.

    Printed as text or shown as HTML, each line with the operations that it issues, as
    `softmax[0]`. `source.self_c_proj_0` is a call by the name that nnsight gives it.

    Attributes:
        name: the module as a user writes it.
        operations: every operation in order, empty where they are not known.
    """

    def __init__(self, handle: Tree, forward: CodeType | None, listing: Listing | None):
        name, kind = handle.name, type(handle.module).__name__
        self.name, self.kind = name, kind
        self._handle, self._forward = handle, forward
        self._title = f"{name or 'model'} ({kind})"
        self.known = listing is not None
        self.operations: list[Issued] = [] if listing is None else listing.issued
        codes = [] if forward is None else [forward]
        codes += [issued.code for issued in self.operations]
        self._functions = [_Function.of(code, self.operations) for code in dict.fromkeys(codes)]

    def issued(self) -> list[Issued]:
        """Every operation in order.

        Raises:
            NnsightError: they are not known.
        """
        if not self.known:
            raise NnsightError(f"The operations of {self.name or 'the model'}: {_UNKNOWN}")
        return self.operations

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return calls_of(self._handle, self._forward, self.operations).named(name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._handle.ops)

    def summary(self) -> str:
        """How often each operation runs."""
        title = f"{self.name or 'model'}.ops ({self.kind})"
        if not self.known:
            return f"{title}\n  {_UNKNOWN}"
        return f"{title}\n  {tally(_counts(self.operations)) or 'none of its own'}"

    def __repr__(self) -> str:
        parts = [self._title, *(function.text() for function in self._functions)]
        if not self.known:
            parts.append(_UNKNOWN)
        return "\n\n".join(parts)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        parts = [f"<b>{escape(self._title)}</b>"]
        parts += [function.html() for function in self._functions]
        if not self.known:
            parts.append(f"<p>{_UNKNOWN}</p>")
        return f'<div class="nnsight-source">{"".join(parts)}</div>'


@dataclass(frozen=True)
class _Function:
    """One function of the forward: its lines, and the operations of each."""

    title: str
    lines: list[tuple[int, str, str]]  # number, text, operations

    @classmethod
    def of(cls, code: CodeType, operations: Iterable[Issued]) -> _Function:
        names: dict[int, list[Issued]] = {}
        for issued in operations:
            if issued.code is code:
                names.setdefault(issued.line, []).append(issued)
        try:
            source, first = inspect.getsourcelines(code)
        except (OSError, TypeError):  # code without a file
            source, first = [], 0
        text = [line.rstrip("\n") for line in source]
        margin = min((len(t) - len(t.lstrip()) for t in text if t.strip()), default=0)
        lines = [
            (number, line[margin:], addresses(names.pop(number, ())))
            for number, line in enumerate(text, first or 1)
        ]
        lines += [(number, "", addresses(found)) for number, found in sorted(names.items())]
        file = Path(*Path(code.co_filename).parts[-2:])
        return cls(f"{code.co_qualname}  {file}:{code.co_firstlineno}", lines)

    def text(self) -> str:
        width = min(_WIDTH, max((len(line) for _, line, names in self.lines if names), default=0))
        rows = [self.title]
        for number, line, names in self.lines:
            row = f"{number:5}  {line:<{width}}  ← {names}" if names else f"{number:5}  {line}"
            rows.append(row.rstrip())
        return "\n".join(rows)

    def html(self) -> str:
        rows = []
        for number, line, names in self.lines:
            row = f'<span style="opacity:.5">{number:5}</span>  {escape(line)}'
            if names:
                row += (
                    '  <span style="color:var(--jp-brand-color1,#1976d2);font-weight:600">'
                    f"{escape(names)}</span>"
                )
            rows.append(row)
        return (
            f'<div style="opacity:.7">{escape(self.title)}</div>'
            f'<pre style="overflow-x:auto;line-height:1.35">{chr(10).join(rows)}</pre>'
        )


def addresses(operations: Iterable[Issued]) -> str:
    """Operations of a line as they are addressed: `transpose[3], add[0…5]`."""
    groups: dict[str, list[int]] = {}
    for issued in operations:
        groups.setdefault(issued.operation.name, []).append(issued.operation.index)
    parts = []
    for name, indices in groups.items():
        if len(indices) > 2 and indices[-1] - indices[0] == len(indices) - 1:
            parts.append(f"{name}[{indices[0]}…{indices[-1]}]")
        else:
            parts += [f"{name}[{index}]" for index in indices]
    return ", ".join(parts)


def tally(counts: Counter[str]) -> str:
    """`transpose × 4, matmul × 2, softmax`."""
    return ", ".join(name if count == 1 else f"{name} × {count}" for name, count in counts.items())


def source_of(handle: Tree) -> Source:
    """The source of a module's forward, with the operations where they can be found out."""
    return Source(handle, _code_of(handle.module), _list_operations(handle))


def _counts(operations: Iterable[Issued]) -> Counter[str]:
    return Counter(issued.operation.name for issued in operations)


def _code_of(module: nn.Module) -> CodeType | None:
    """The code of the forward that the module's author wrote, under whatever wraps it."""
    forward = module.__dict__.get("_old_forward", type(module).forward)  # accelerate keeps it so
    return getattr(inspect.unwrap(forward), "__code__", None)


class _Listed(BaseException):
    """The module has run: nothing behind it is wanted."""


def _list_operations(handle: Tree) -> Listing | None:
    """Run the model as far as the module, out of the user's own coroutine; `None` if it fails."""
    traced = _traced(handle._model)
    run_model = traced or made_up_run(handle._model._root)
    if run_model is None:
        return None
    bypasses, listing, calls = Bypasses(), Listing(), [0]

    def surround(run: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        calls[0] += 1
        if calls[0] <= handle.call:
            return run(*args, **kwargs)
        unchanged = lambda operation, kind, raw: raw  # noqa: E731
        with OperationMode(unchanged, listing, handle.module, handle._model._root) as watched:
            watched.run(run, args, kwargs)
        listing.complete = True
        raise _Listed

    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        bypasses.surround(current(), handle.module, surround)
        with torch.no_grad(), torch.random.fork_rng(devices=list(devices)):
            run_model()
    except _Listed:
        pass
    except Exception:
        if traced is not None:
            raise  # the user's own inputs: they must hear of it
    finally:
        bypasses.close()
    return listing if listing.complete else None


def _traced(model: Root) -> Callable[[], Any] | None:
    """What runs the model on the inputs of the trace that is running in this thread."""
    tracer = model._turn.running()
    return None if tracer is None else tracer.model_call()
