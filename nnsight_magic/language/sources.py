"""Which modules a cell's variables come from, as the cell runs: `h = f(layers[3].output)`.

The text of an assignment does not tell (`[block.attn.pattern for block in layers]`), and neither do
the values, which any function may have made. So the cell's assignments are told of while they run:
what is read while an expression is evaluated belongs to the names that it is assigned to, and so
does what the variables in it come from.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from nnsight_magic.language.names import SCOPE_NAME

Names = tuple[str, ...]


class Sources:
    """Module paths by the names of variables; `of["h"]` are those of `h`, in their order."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.of: dict[str, dict[str, None]] = {}
        self._namespace = namespace
        self._read: dict[str, None] = {}  # since the expression began
        self._places: dict[str, str] = {}  # paths by the names of values

    def read(self, handle: Any, kind: str) -> None:
        """A module's value is read."""
        own = f"{handle.name}.{kind}" if handle.name else kind
        self._places[handle._called or own] = handle.path
        self._read[handle.path] = None

    def begin(self) -> None:
        """An expression begins."""
        self._read.clear()

    def assign(self, names: Names, used: Names, adds: bool, value: Any) -> None:
        """What was read belongs to `names`, and with `adds` to what they had before."""
        exact = self._place(value)
        found = dict(self._read) if exact is None else {exact: None}
        for name in used if exact is None else ():
            place = self._place(self._namespace.get(name))
            found |= self.of.get(name, {}) if place is None else {place: None}
        for name in names:
            self.of[name] = {**(self.of.get(name, {}) if adds else {}), **found}

    def _place(self, value: Any) -> str | None:
        """Where a value was read that is as it was read; `None` for all others."""
        where = getattr(value, "where", None) if hasattr(value, "untyped_storage") else None
        if not isinstance(where, str):
            return None
        where = where.partition(" at step ")[0]
        return self._places.get(where, self._places.get(where.partition(".")[2]))


def told_of(node: ast.stmt, trace_names: frozenset[str]) -> None:
    """Has an assignment of the rewritten cell tell of its value, in its place.

    `patterns.append(x)` and `table[i] = x` put something into what a variable holds.
    """
    match node:
        case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)) if len(
            names
        ) == len(values) and not any(isinstance(e, ast.Starred) for e in (*names, *values)):
            values[:] = [
                _told([target], value, trace_names)
                for target, value in zip(names, values, strict=True)
            ]
        case ast.Assign(targets=targets, value=value):
            node.value = _told(targets, value, trace_names)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            node.value = _told([target], value, trace_names)
        case ast.AugAssign(target=target, value=value):
            node.value = _told([target], value, trace_names, adds=True)
        case ast.For(target=target, iter=value):
            node.iter = _told([target], value, trace_names)
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=held)) as value):
            if _root(held) is not None:
                node.value = _told([held], value, trace_names, adds=True)


def _told(
    targets: list[ast.expr], value: ast.expr, trace_names: frozenset[str], adds: bool = False
) -> ast.expr:
    names, held = [], []
    for target in targets:
        names += [each.id for each in _plain_names(target)]
        root = _root(target)
        if root is not None and not isinstance(target, ast.Name):
            held.append(root)
    kept = [n for n in names or held if n != SCOPE_NAME and n not in trace_names]
    if not kept:
        return value
    loaded = (n for n in ast.walk(value) if isinstance(n, ast.Name))
    used = dict.fromkeys(n.id for n in loaded if n.id != SCOPE_NAME)
    method = ast.Attribute(ast.Name(SCOPE_NAME, ast.Load()), "_from", ast.Load())
    begin = ast.Attribute(ast.Name(SCOPE_NAME, ast.Load()), "_begin", ast.Load())
    facts = (tuple(kept), tuple(used), adds or not names)
    arguments = [ast.Call(begin, [], []), *map(_constant, facts), value]
    call = ast.copy_location(ast.Call(method, arguments, []), value)
    return ast.fix_missing_locations(call)


def _constant(value: Any) -> ast.Constant:
    return ast.Constant(value)


def _plain_names(target: ast.expr) -> Iterator[ast.Name]:
    """The names in a target that are bound as they stand."""
    if isinstance(target, ast.Name):
        yield target
    elif isinstance(target, ast.Starred):
        yield from _plain_names(target.value)
    elif isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _plain_names(element)


def _root(node: ast.expr) -> str | None:
    """The variable that `table[i].x` begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None
