"""Whether the block of a trace needs gradients, by what is written in it.

Recording costs half of a forward again, and what was recorded for nothing makes a training step
later go backward through a graph that is gone. So it is not enough that somewhere in the cell or
function `backward` is written. The block's own lines must ask for gradients, or what they have
bound must be asked for them: `logits.sum().backward()`, `hidden.grad`.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from itertools import islice
from types import CodeType, FrameType
from typing import Any

# Names whose use says that gradients are wanted; the second ones of what a block has bound.
_IN_BLOCK = frozenset({"backward", "grad", "requires_grad_", "autograd", "retain_grad"})
_OF_WHAT_IT_BOUND = frozenset({"backward", "grad", "retain_grad"})
_TRANSPARENT = frozenset({"torch", "F", "functional"})  # functions of a tensor that bind nothing
_MOST = 256  # blocks and files that are remembered

_known: dict[tuple[int, int], tuple[CodeType, bool]] = {}
_parsed: dict[str, tuple[list[str], ast.Module]] = {}
_Function = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.Module)


def wants_gradients(frame: FrameType | None) -> bool:
    """Whether the `with` statement that `frame` is entering needs a graph.

    Without its source (out of a string, say) the whole function is asked.
    """
    if frame is None:
        return False
    code = frame.f_code
    key = (id(code), frame.f_lasti)
    known = _known.get(key)
    if known is None or known[0] is not code:
        if len(_known) >= _MOST:
            _known.clear()
        known = _known[key] = (code, _says_so(code) and _block_says_so(frame))
    return known[1]


def _says_so(code: CodeType) -> bool:
    """Whether a name of gradients is used anywhere in a function, what it defines included."""
    return not _IN_BLOCK.isdisjoint(code.co_names) or any(
        isinstance(each, CodeType) and _says_so(each) for each in code.co_consts
    )


def _block_says_so(frame: FrameType) -> bool:
    found = _statement(frame)
    if found is None:
        return True  # the function says so, and where in it cannot be told
    block, function = found
    inside = [each for statement in block.body for each in ast.walk(statement)]
    if any(_name_of(each) in _IN_BLOCK for each in inside):
        return True
    bound = {name for each in (*inside, *block.items) for name in _bound_by(each)}
    here = {id(each) for each in inside}
    outside = [each for each in ast.walk(function) if id(each) not in here]
    return any(_asks(each, bound) for each in outside)


def _statement(frame: FrameType) -> tuple[ast.With, ast.AST] | None:
    """The `with` statement that is being entered, and the function or module it is in."""
    tree = _tree(frame)
    if tree is None:
        return None
    line, _, column, _ = next(
        islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), (None,) * 4
    )
    place = (line or frame.f_lineno, column)
    on_line = []
    for function, block in _blocks(tree, tree):
        for item in block.items:
            expression = item.context_expr
            if (expression.lineno, expression.col_offset) == place:
                return block, function
            if expression.lineno == frame.f_lineno:
                on_line.append((block, function))
    return on_line[0] if len(on_line) == 1 else None


def _blocks(node: ast.AST, function: ast.AST) -> Iterator[tuple[ast.AST, ast.With]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.With):
            yield function, child
        yield from _blocks(child, child if isinstance(child, _Function) else function)


def _tree(frame: FrameType) -> ast.Module | None:
    name = frame.f_code.co_filename
    lines = linecache.getlines(name, frame.f_globals)
    known = _parsed.get(name)
    if known is not None and known[0] is lines:
        return known[1]
    try:
        tree = ast.parse("".join(lines)) if lines else None
    except (SyntaxError, ValueError, RecursionError):
        tree = None
    if tree is not None:
        if len(_parsed) >= _MOST:
            _parsed.clear()
        _parsed[name] = (lines, tree)
    return tree


def _name_of(node: ast.AST) -> str | None:
    return getattr(node, "attr", None) or getattr(node, "id", None)


def _bound_by(node: ast.AST) -> Iterator[str]:
    """The variables that a node assigns, or assigns into."""
    if isinstance(node, ast.withitem):
        names: Any = ast.walk(node.optional_vars) if node.optional_vars is not None else ()
        yield from (each.id for each in names if isinstance(each, ast.Name))
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
        inner: ast.AST = node
        while isinstance(inner, ast.Subscript | ast.Attribute):
            inner = inner.value
        if isinstance(inner, ast.Name):
            yield inner.id


def _asks(node: ast.AST, bound: set[str]) -> bool:
    """Whether a node takes a gradient of, or with respect to, what the block has bound."""
    if isinstance(node, ast.Attribute) and node.attr in _OF_WHAT_IT_BOUND:
        return _comes_from(node.value, bound)
    if isinstance(node, ast.Call) and _name_of(node.func) in _OF_WHAT_IT_BOUND:
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        return any(_comes_from(each, bound) for each in given)
    return False


def _comes_from(node: ast.AST, bound: set[str]) -> bool:
    """Whether an expression is a part, a method's result or a sum of bound variables."""
    match node:
        case ast.Name():
            return node.id in bound
        case ast.Attribute() | ast.Subscript() | ast.Starred():
            return _comes_from(node.value, bound)
        case ast.UnaryOp():
            return _comes_from(node.operand, bound)
        case ast.BinOp():
            return _comes_from(node.left, bound) or _comes_from(node.right, bound)
        case ast.List() | ast.Tuple():
            return any(_comes_from(each, bound) for each in node.elts)
        case ast.Call(func=ast.Attribute() as function):
            root: ast.AST = function
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in _TRANSPARENT:
                return any(_comes_from(each, bound) for each in node.args)
            return _comes_from(function.value, bound)
    return False
