"""What the names in the loop of a sweep depend on: axes, values without the writes, logits."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from nnsight_magic.language.paths import Positions, literal_index, unwind
from nnsight_magic.language.problems import Span

# Names under which a trace has the logits of all positions too.
_WHOLE = frozenset({"output", "unembed", "model"})


def axis_names(call: ast.Call, positions: Positions) -> dict[str, Span]:
    """The axes that a grid is given by name, each with where its values stand."""
    return {each.arg: positions.of(each.value) for each in call.keywords if each.arg is not None}


# ── without the writes ───────────────────────────────────────────────────────────────────


def unchanging(loop: ast.For, trace_names: frozenset[str], names: set[str]) -> list[str]:
    """Those of `names` that no axis has a say in once the writes are left out.

    What is assigned from something that depends on an axis depends on it, and so does everything
    that is assigned where an axis decides whether it is.
    """
    depending = {n.id for n in ast.walk(loop.target) if isinstance(n, ast.Name)}
    before: set[str] = set()
    while before != depending:  # a name may be used above the line that makes it depend
        before = set(depending)
        for statement in loop.body:
            depending |= _made_depending(statement, depending, trace_names)
    return [name for name in names if name not in depending]


def _made_depending(node: ast.stmt, depending: set[str], trace_names: frozenset[str]) -> set[str]:
    if _is_write(node, trace_names):
        return set()
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr):
        return _bound(node) if _loads(node) & depending else set()
    inner = [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt)]
    heads = [each for each in ast.iter_child_nodes(node) if not isinstance(each, ast.stmt)]
    leaves = any(isinstance(each, ast.Continue | ast.Break) for each in ast.walk(node))
    if leaves or not inner or any(_loads(each) & depending for each in heads):
        return _bound(node) if _loads(node) & depending else set()
    found: set[str] = set()
    for each in inner:
        found |= _made_depending(each, depending, trace_names)
    return found


def _is_write(node: ast.stmt, trace_names: frozenset[str]) -> bool:
    """`layers[k].output[:] = x`: an assignment to the trace, and to nothing besides."""
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AugAssign):
        targets = [node.target]
    else:
        return False

    def of_trace(target: ast.expr) -> bool:
        root, _ = unwind(target)
        return isinstance(root, ast.Name) and root.id in trace_names

    names = any(isinstance(each, ast.NamedExpr) for each in ast.walk(node))
    return not names and all(of_trace(target) for target in targets)


def _bound(node: ast.AST) -> set[str]:
    """Names that are assigned in a statement, or put something into."""
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load):
            found.add(each.id)
        if isinstance(each, ast.Attribute | ast.Subscript) and not isinstance(each.ctx, ast.Load):
            root, _ = unwind(each)
            found |= {root.id} if isinstance(root, ast.Name) else set()
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute):
            root, _ = unwind(each.func)  # `found.append(x)`
            found |= {root.id} if isinstance(root, ast.Name) else set()
    return found


def _loads(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


# ── the last position's logits ───────────────────────────────────────────────────────────


def last_logits_alone(tree: ast.Module, trace_names: frozenset[str]) -> bool:
    """Whether a cell reads logits, and of the last position alone: `logits[0, -1, " Paris"]`."""
    found = [*_logits(tree)]
    whole = _WHOLE & trace_names
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {
        each.attr
        for each in ast.walk(tree)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name)
    }
    if not found or names & whole or attributes & {"output", "unembed"}:
        return False
    return all(found)


def _logits(tree: ast.Module) -> Iterator[bool]:
    """For each place where logits are named, whether they are of the last position there."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        match node:
            case ast.Name(id="logits") | ast.Attribute(attr="logits", value=ast.Name()):
                parent = parents.get(node)
                yield (
                    isinstance(parent, ast.Subscript)
                    and parent.value is node
                    and _is_last(parent.slice)
                )


def _is_last(index: ast.expr) -> bool:
    """`[0, -1]`, `[:, -1, …]`, `[..., -1, x]`."""
    match index:
        case ast.Tuple(elts=[ast.Constant(value=value), position, _]) if value is Ellipsis:
            return literal_index(position) == -1
        case ast.Tuple(elts=[first, position, *_]):
            ellipsis = isinstance(first, ast.Constant) and first.value is Ellipsis
            new_axis = isinstance(first, ast.Constant) and first.value is None
            return not ellipsis and not new_axis and literal_index(position) == -1
    return False
