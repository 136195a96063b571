"""Rewriting a cell's AST: the trace's names become attributes of one hidden scope object.

`logits` becomes `__trace__.logits`, on the same columns. Everything else stays Python: the cell
runs with the notebook's own globals, evaluation stays lazy (a module runs when its name is
reached), and functions, comprehensions and closures see the trace as they see any global.
"""

from __future__ import annotations

import ast
from typing import Any

from nnsight_magic.language.names import SCOPE_NAME, WRITABLE
from nnsight_magic.language.paths import PathPart, Positions, reference, touch, unwind
from nnsight_magic.language.problems import Problem
from nnsight_magic.language.program import Mention, Reference, Use
from nnsight_magic.language.scopes import Binding, ScopedTransformer, own_bindings, walruses
from nnsight_magic.language.sources import told_of

SAVING = ("assign", "augment", "annotate", "walrus")
# `total += x` accumulates over the steps by itself, so it is not collected.
COLLECTING = ("assign", "annotate", "walrus")
BINDING = (
    ast.stmt, ast.NamedExpr, ast.withitem, ast.ExceptHandler,
    ast.MatchAs, ast.MatchStar, ast.MatchMapping,
)  # fmt: skip
GRADIENT_WORDS = frozenset({"backward", "grad", "requires_grad_", "requires_grad", "autograd"})


class CellRewriter(ScopedTransformer):
    """Rewrites one module in place and notes what it names, binds and touches."""

    def __init__(self, trace_names: frozenset[str], positions: Positions) -> None:
        super().__init__()
        self.trace_names = trace_names
        self.positions = positions
        self.references: list[Reference] = []
        self.touches: list[Mention] = []
        self.uses: list[Use] = []
        self.problems: list[Problem] = []
        self.bound: dict[str, list[Binding]] = {}
        self.values: dict[str, ast.expr | ast.AugAssign] = {}
        self.collected: dict[str, None] = {}
        self.uses_steps = False
        self.wants_gradients = False
        self._step_loops = 0
        self._before_loop: frozenset[str] = frozenset()
        self._carriers: dict[str, str] = {}  # names assigned from a value, with its path

    # -- statements ---------------------------------------------------------------------------

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, BINDING):
            self._note_bindings(node)
        if isinstance(node, ast.stmt) and self.at_top:
            return self._visit_top_statement(node)
        return super().visit(node)

    def _visit_top_statement(self, node: ast.stmt):
        if isinstance(node, ast.For) and self._is_step_loop(node):
            return self._visit_step_loop(node)
        inside_loop = self._step_loops > 0
        names = self._collectable(node) if inside_loop else []
        visited = super().visit(node)
        told_of(node, self.trace_names)
        if not inside_loop:
            return visited
        self.collected.update(dict.fromkeys(names))
        removed = [name for name in self._deleted(node) if name in self.collected]
        return [
            visited,
            *([self._scope_statement("_note", names, node)] if names else []),
            *([self._scope_statement("_forget", removed, node)] if removed else []),
        ]

    def _visit_step_loop(self, node: ast.For):
        if not self._step_loops:
            self._before_loop = frozenset(self.bound)
            outer_names: set[str] = set()
        else:
            outer_names = set(self.collected)
        self._step_loops += 1
        visited = super(ScopedTransformer, self).generic_visit(node)
        self._step_loops -= 1
        if self._step_loops:
            return visited
        names = [name for name in self.collected if name not in outer_names]
        return [visited, self._scope_statement("_gather", names, node)] if names else visited

    def _is_step_loop(self, node: ast.For) -> bool:
        return any(
            isinstance(part, ast.Name) and part.id == "steps" and self.is_global("steps")
            for part in ast.walk(node.iter)
        )

    def _collectable(self, node: ast.stmt) -> list[str]:
        """Names that this statement gives a value per step: not scratch, not made before."""
        found = [each.name for each in own_bindings(node) if each.how in COLLECTING]
        names = dict.fromkeys([*found, *walruses(node)])
        return [name for name in names if self._collects(name)]

    def _collects(self, name: str) -> bool:
        return not (name.startswith("_") or name in self._before_loop or name in self.trace_names)

    @staticmethod
    def _deleted(node: ast.stmt) -> list[str]:
        return [found.name for found in own_bindings(node) if found.how == "del"]

    def _scope_statement(self, method: str, names: list[str], near: ast.stmt) -> ast.Expr:
        call = ast.Call(
            func=self._scope_attribute(method, near),
            args=[ast.Constant(name) for name in names],
            keywords=[],
        )
        return ast.fix_missing_locations(ast.copy_location(ast.Expr(call), near))

    @staticmethod
    def _scope_attribute(name: str, near: ast.AST, context: ast.expr_context | None = None):
        scope = ast.copy_location(ast.Name(SCOPE_NAME, ast.Load()), near)
        return ast.copy_location(ast.Attribute(scope, name, context or ast.Load()), near)

    # -- bindings -----------------------------------------------------------------------------

    def _note_bindings(self, node: ast.AST) -> None:
        for found in own_bindings(node):
            if not self.is_global(found.name):
                continue
            if found.name in self.trace_names:
                self._note_trace_name_bound(found)
                continue
            if found.how != "del":
                self.bound.setdefault(found.name, []).append(found)
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._note_value(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._note_value(target, value)
            case ast.AugAssign(target=target) as statement:
                self._note_value(target, statement)
            case ast.NamedExpr(target=target, value=value):
                self._note_value(target, value)

    def _note_value(self, target: ast.expr, value: ast.expr | ast.AugAssign) -> None:
        if isinstance(target, ast.Name) and self.is_global(target.id):
            self.values[target.id] = value
            touched = self._touched_by(value) if isinstance(value, ast.expr) else None
            if touched is not None:
                self._carriers[target.id] = touched.path
        elif isinstance(target, ast.Tuple | ast.List):
            for element in target.elts:
                self._note_value(element, value)

    def _touched_by(self, value: ast.expr) -> Mention | None:
        root, nodes = unwind(value)
        if not (isinstance(root, ast.Name) and self._is_trace_name(root.id)):
            return None
        return touch(reference(root, nodes, self.positions, False))

    def _note_trace_name_bound(self, found: Binding) -> None:
        plain = found.how in ("assign", "augment", "annotate", "for", "with")
        if plain and found.name in WRITABLE:
            return
        span = self.positions.of(found.node)
        if found.how == "def":
            start = span.start + len("class " if isinstance(found.node, ast.ClassDef) else "def ")
            span = type(span)(span.line, start, start + len(found.name))
        verb = "cannot be deleted" if found.how == "del" else "cannot be assigned"
        hint = "use another name"
        if found.how == "walrus" and found.name in WRITABLE:
            hint = f"write it with a statement of its own: {found.name} = …"
        self.problems.append(Problem(span, f"{found.name!r} belongs to the trace and {verb}", hint))

    # -- names and paths ----------------------------------------------------------------------

    def _is_trace_name(self, name: str) -> bool:
        return name in self.trace_names and self.is_global(name)

    def visit_Name(self, node: ast.Name):
        return self._visit_path(node)

    def visit_Attribute(self, node: ast.Attribute):
        return self._visit_path(node)

    def visit_Subscript(self, node: ast.Subscript):
        return self._visit_path(node)

    def visit_Call(self, node: ast.Call):
        return self._visit_path(node)

    def _visit_path(self, node: ast.expr):
        """Visits a whole path once, from its root: `layers[i].mlp.output[:, -1].norm()`."""
        root, nodes = unwind(node)
        stored = not isinstance(getattr(node, "ctx", ast.Load()), ast.Load)
        if isinstance(root, ast.Name):
            self._note_path(root, nodes, stored)
        self.wants_gradients |= any(
            isinstance(part, ast.Attribute) and part.attr in GRADIENT_WORDS for part in nodes
        )
        for part in nodes:
            match part:
                case ast.Subscript():
                    part.slice = self.visit(part.slice)
                case ast.Call():
                    self._visit_field(part, "args", "keywords")
        new_root = self._rewritten(root) if isinstance(root, ast.Name) else self.visit(root)
        inner = new_root
        for part in nodes:
            if isinstance(part, ast.Subscript) and may_hold_text(part.slice):
                inner = self._scope_call("_by_text", inner)
            if isinstance(part, ast.Call):
                part.func = inner
            else:
                part.value = inner
            inner = self._looked_up(part)
        return inner

    def _looked_up(self, part: PathPart) -> ast.expr:
        """`model.x` is looked up by the scope."""
        match part:
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id=name), attr="model")):
                if name == SCOPE_NAME and isinstance(part.ctx, ast.Load):
                    return self._scope_call("_of_model", ast.Constant(part.attr), part)
        return part

    def _scope_call(
        self, method: str, argument: ast.expr, near: ast.expr | None = None
    ) -> ast.Call:
        near = argument if near is None else near
        call = ast.Call(self._scope_attribute(method, near), [argument], [])
        return ast.fix_missing_locations(ast.copy_location(call, near))

    def _rewritten(self, node: ast.Name) -> ast.expr:
        if not self._is_trace_name(node.id):
            return node
        if not isinstance(node.ctx, ast.Load) and node.id not in WRITABLE:
            return node  # a problem has been noted
        return self._scope_attribute(node.id, node, node.ctx)

    def _note_path(self, root: ast.Name, nodes: list[PathPart], stored: bool) -> None:
        if self._is_trace_name(root.id):
            found = reference(root, nodes, self.positions, stored)
            self.references.append(found)
            touched = touch(found)
            if touched is not None:
                self.touches.append(touched)
            self.uses_steps |= root.id == "steps"
            return
        if root.id in self._carriers and stored and nodes:
            # `h = layers[3].output` and later `h[:, -1] = 0`
            path, span = self._carriers[root.id], self.positions.of(root)
            self.touches.append(Mention(path, "output", True, span))
        if self.is_global(root.id):
            self.wants_gradients |= root.id == "autograd"
            if isinstance(root.ctx, ast.Load | ast.Del):
                self.uses.append(Use(root.id, self.positions.of(root)))

    def visit_AugAssign(self, node: ast.AugAssign):
        if isinstance(node.target, ast.Name) and self.is_global(node.target.id):
            name = node.target
            if name.id not in self.trace_names:
                self.uses.append(Use(name.id, self.positions.of(name)))
                if name.id in self._carriers:
                    path, span = self._carriers[name.id], self.positions.of(name)
                    self.touches.append(Mention(path, "output", True, span))
        return self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr):
        node.value = self.visit(node.value)  # Python allows no attribute as the target
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign):
        self.generic_visit(node)
        node.simple = int(isinstance(node.target, ast.Name) and node.simple)
        return node


def may_hold_text(index: ast.expr) -> bool:
    """Whether an index could address a token by its text: `[:, "Tower"]`, `[:, word]`.

    A single index does only if it is a text as it stands: `[name]` is most often that of a table.
    """
    if isinstance(index, ast.Tuple):
        return any(map(_text_like, index.elts))
    return _text_like(index) and not any(isinstance(n, ast.Name) for n in ast.walk(index))


def _text_like(element: ast.expr) -> bool:
    match element:
        case ast.Constant(value=str()) | ast.JoinedStr() | ast.Name():
            return True
        case ast.Slice(lower=lower, upper=upper):
            return any(bound is not None and _text_like(bound) for bound in (lower, upper))
        case ast.List(elts=elements):
            return any(map(_text_like, elements))
    return False
