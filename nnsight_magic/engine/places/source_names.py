"""`attn.source.self_c_proj_0`: a call in a module's forward by the name that nnsight gives it.

Such a name is the call as it is written, `self.c_proj(…)` with `_` for its dots, and a number. Here
it leads to the same values under their names of this package: to the module that is called, or to
the operation. Where more than one could be meant, it is refused.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any, NoReturn

from nnsight_magic.engine.insides import transformers_insides
from nnsight_magic.errors import NoSuchOperationError, SpellingError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Tree
    from nnsight_magic.engine.running.operation_mode import Issued


@dataclass(frozen=True)
class Calls:
    """The calls that are written in some functions of a module's forward.

    Attributes:
        handle: the module.
        codes: the functions.
        called: what the forward calls beside them, where `.source` leads deeper.
        issued: all operations of the forward.
    """

    handle: Tree
    codes: tuple[CodeType, ...]
    called: tuple[CodeType, ...]
    issued: tuple[Issued, ...]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.named(name)

    def named(self, name: str) -> Any:
        """The module or operation that a call stands for.

        Raises:
            NoSuchOperationError: no call goes by that name, or it may be more than one.
        """
        written, _, number = name.rpartition("_")
        all_of_it = [call for call in self._written() if call.name == written]
        found = [call for call in all_of_it if call.number in (None, number)]
        if not found:
            _refuse_unknown(self, name)
        child = self._child(found[0].parts)
        if child is not None:
            return child if len(all_of_it) == 1 else _refuse_calls(name, child)
        operations = self._operations(found)
        if len(operations) == 1:
            return self.handle.ops[operations[0].operation]
        if operations:
            _refuse_several(self, name, operations)
        return Called(self, name)

    def _operations(self, found: list[Call]) -> list[Issued]:
        operations = [each for call in found for each in call.issued(self.issued)]
        if len(found) != 1 or len(operations) < 2:
            return operations
        # Several calls in one line: those inside run first, and so they are listed.
        beside = [call for call in self._written() if call.shares_a_line_with(found[0])]
        if len(beside) == len(operations):
            return [operations[beside.index(found[0])]]
        return operations

    def _written(self) -> Iterator[Call]:
        for code in self.codes:
            yield from _calls_in(code)

    def _child(self, parts: tuple[str, ...]) -> Tree | None:
        """The submodule of `self.c_proj(…)`."""
        handle = self.handle
        if len(parts) < 2 or parts[0] != "self":
            return None
        for part in parts[1:]:
            if part not in handle.children():
                return None
            handle = handle._child(part)
        return handle


@dataclass(frozen=True)
class Call:
    """One call as it is written.

    Attributes:
        number: its place among the calls of that name, as text; `None` where versions of nnsight
            count differently, because something of that name is assigned too.
    """

    code: CodeType
    parts: tuple[str, ...]
    lines: range
    number: str | None

    @property
    def name(self) -> str:
        return "_".join(self.parts)

    def shares_a_line_with(self, other: Call) -> bool:
        """Whether this is a call of the same operation, in the same lines."""
        same = self.code is other.code and self.parts[-1] == other.parts[-1]
        return same and not set(self.lines).isdisjoint(other.lines)

    def issued(self, operations: Iterable[Issued]) -> list[Issued]:
        """The operations that it is: those of its lines that are called as it is."""
        return [
            each
            for each in operations
            if each.code is self.code
            and each.line in self.lines
            and each.operation.name == self.parts[-1]
        ]


class Called:
    """The call of a function of Python: `.source` has what is called in it.

    Its own values are not at hand, but for those of transformers' attention functions: what they
    give is what the output projection takes.
    """

    __slots__ = ("_calls", "_name")

    def __init__(self, calls: Calls, name: str):
        self._calls, self._name = calls, name

    @property
    def source(self) -> Calls:
        """The calls that are written in the functions that the forward calls."""
        calls = self._calls
        return Calls(calls.handle, calls.called, (), calls.issued)

    @property
    def output(self) -> Attended:
        """`(values, weights)` of an attention function.

        Raises:
            SpellingError: it is another function.
        """
        if not self._is_attention():
            raise self._refusal("output")
        return Attended(self._calls.handle)

    @output.setter
    def output(self, new: Any) -> None:
        self.output[0] = new[0] if isinstance(new, tuple | list) else new

    def _is_attention(self) -> bool:
        """Whether the forward does nothing more with the result than bring it into shape."""
        calls = self._calls
        behind = 0
        for at, each in enumerate(calls.issued):
            if each.code not in calls.codes:
                behind = at + 1
        rest = {each.operation.name for each in calls.issued[behind:]}
        return self._name.startswith("attention_interface_") and rest <= _SHAPING

    def _refusal(self, name: str) -> SpellingError:
        where = _name(self._calls.handle)
        return SpellingError(
            f"source.{self._name}.{name}: it calls a function of Python, whose own values are not "
            f"at hand; its operations are.\nThe attention pattern is {where}.pattern, what the "
            f"heads give is {where}.heads[:]. Operations: print({where}.ops), such as "
            f"{where}.ops.softmax[0].output"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise self._refusal(name)


_SHAPING = {"reshape", "view", "contiguous", "transpose", "flatten"}


class Attended(list):
    """What an attention function gives: `[0]` is `(batch, tokens, heads, size)`, `[1]` the pattern.

    The pattern is `None` where attention runs fused, as it is in the model.
    """

    def __init__(self, attention: Any):  # a handle that finds `heads` when asked
        config = getattr(attention.module, "config", None)
        eager = transformers_insides.attention_of(config) == "eager"
        weights = attention.pattern if eager else None  # which runs first
        super().__init__((attention.heads[:], weights))
        self._attention = attention

    def __setitem__(self, index: Any, new: Any) -> None:
        if index != 0:
            raise SpellingError(
                "The weights of attention are written before they are used. "
                f"Write: {_name(self._attention)}.pattern[...] = x"
            )
        self._attention.heads[:] = new
        super().__setitem__(0, self._attention.heads[:])

    def save(self) -> Attended:
        """Give it back; it is there after the block anyway."""
        return self


def calls_of(handle: Tree, forward: CodeType | None, issued: Iterable[Issued]) -> Calls:
    """The calls of a module's forward."""
    issued = tuple(issued)
    called = dict.fromkeys(each.code for each in issued if each.code is not forward)
    return Calls(handle, () if forward is None else (forward,), tuple(called), issued)


def _calls_in(code: CodeType) -> list[Call]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError):  # code without a file
        return []
    top = tree.body[0]
    # What decorates a function, and its defaults, are calls of whoever defines it.
    run = top.body if isinstance(top, ast.FunctionDef | ast.AsyncFunctionDef) else tree.body
    inside = [node for statement in run for node in ast.walk(statement)]
    nodes = [node for node in inside if isinstance(node, ast.Call) and _dotted(node.func)]
    nodes.sort(key=lambda node: (node.end_lineno, node.end_col_offset))  # inner ones run first
    assigned = {
        _dotted(target)
        for node in inside
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    }
    above, found, counts = code.co_firstlineno - 1, [], Counter()
    for node in nodes:
        parts = _dotted(node.func)
        number = None if parts in assigned else str(counts[parts])
        lines = range(node.lineno + above, (node.end_lineno or node.lineno) + above + 1)
        found.append(Call(code, parts, lines, number))
        counts[parts] += 1
    return found


def _dotted(node: ast.expr) -> tuple[str, ...]:
    """`a.b[i].c` as its names; an index says where in a thing, not what it is called."""
    match node:
        case ast.Name():
            return (node.id,)
        case ast.Attribute():
            return (*_dotted(node.value), node.attr)
        case ast.Subscript():
            return _dotted(node.value)
    return ()


def _refuse_unknown(calls: Calls, name: str) -> NoReturn:
    known = dict.fromkeys(f"{call.name}_0" for call in calls._written())
    listed = ", ".join(list(known)[:12]) + ", …" * (len(known) > 12)
    raise NoSuchOperationError(
        f"{_name(calls.handle)}.source has no {name!r}.\nIts calls: {listed or 'none'}.\n"
        f"What is no call is an operation: {_ops(calls.handle)}"
    )


def _refuse_calls(name: str, child: Tree) -> NoReturn:
    raise NoSuchOperationError(
        f"source.{name}: {child.name} is called in several lines, of which not all may run.\n"
        f"Write: {child.name} for its first call in a forward, {child.name}.calls[1] for the next."
    )


def _refuse_several(calls: Calls, name: str, operations: list[Issued]) -> NoReturn:
    ops = ", ".join(f"ops.{o.name}[{o.index}]" for o in (e.operation for e in operations[:4]))
    raise NoSuchOperationError(
        f"source.{name} may be any of {ops} of {_name(calls.handle)}.\n"
        f"Write the one that is meant; {_ops(calls.handle)}"
    )


def _ops(handle: Tree) -> str:
    return f"print({_name(handle)}.source) shows them beside their lines."


def _name(handle: Tree) -> str:
    return handle.name or "model"
