"""Python's scoping rules over an AST: which `Name` means the notebook's (or the trace's) variable.

`symtable` knows the same, but only by scope and not by node; the cell's rewriting needs the nodes.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

# A node that says where in the text it is.
Written = ast.stmt | ast.expr | ast.alias | ast.ExceptHandler | ast.pattern
Scoped = (
    ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
    | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
)  # fmt: skip


@dataclass
class BoundNames:
    """Names bound in one function, class or comprehension; `outward` are declared global."""

    names: set[str] = field(default_factory=set)
    outward: set[str] = field(default_factory=set)
    is_class: bool = False


@dataclass(frozen=True)
class Binding:
    """One place where a statement binds a plain name."""

    name: str
    node: Written
    how: str  # 'assign', 'augment', 'annotate', 'walrus', 'for', 'with', 'import', 'def', …


def targets(node: ast.AST, how: str) -> Iterator[Binding]:
    """The plain names in an assignment target, through tuples, lists and stars."""
    if isinstance(node, ast.Name):
        yield Binding(node.id, node, how)
    elif isinstance(node, ast.Tuple | ast.List):
        for element in node.elts:
            yield from targets(element, how)
    elif isinstance(node, ast.Starred):
        yield from targets(node.value, how)


def own_bindings(node: ast.AST) -> Iterator[Binding]:  # noqa: C901 (one case a kind of node)
    """What this very node binds in its scope, its inner statements left aside."""
    match node:
        case ast.Assign():
            for target in node.targets:
                yield from targets(target, "assign")
        case ast.AugAssign():
            yield from targets(node.target, "augment")
        case ast.AnnAssign():
            if node.value is not None:
                yield from targets(node.target, "annotate")
        case ast.NamedExpr():
            yield from targets(node.target, "walrus")
        case ast.For() | ast.AsyncFor():
            yield from targets(node.target, "for")
        case ast.withitem() if node.optional_vars is not None:
            yield from targets(node.optional_vars, "with")
        case ast.Import() | ast.ImportFrom():
            for alias in node.names:
                if alias.name != "*":
                    name = alias.asname or alias.name.partition(".")[0]
                    yield Binding(name, alias if hasattr(alias, "lineno") else node, "import")
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield Binding(node.name, node, "def")
        case ast.ExceptHandler() if node.name:
            yield Binding(node.name, node, "except")
        case ast.MatchAs() | ast.MatchStar() if node.name:
            yield Binding(node.name, node, "match")
        case ast.MatchMapping() if node.rest:
            yield Binding(node.rest, node, "match")
        case ast.Delete():
            for target in node.targets:
                yield from targets(target, "del")


def bindings(body: Sequence[ast.AST]) -> Iterator[Binding]:
    """Every binding that statements make in the scope they stand in.

    Inner functions and classes are scopes of their own; a walrus inside a comprehension binds
    outside of it, as in Python.
    """
    pending: list[tuple[ast.AST, bool]] = [(node, False) for node in reversed(body)]
    while pending:
        node, inside_comprehension = pending.pop()
        if not inside_comprehension or isinstance(node, ast.NamedExpr):
            yield from own_bindings(node)
        if isinstance(node, DEFINITIONS):
            # Decorators, defaults and bases run in this scope, the body does not.
            arguments = getattr(node, "args", None)
            outer = [*node.decorator_list, *getattr(node, "bases", [])]
            if arguments is not None:
                outer += [*arguments.defaults, *filter(None, arguments.kw_defaults)]
            pending.extend((child, inside_comprehension) for child in reversed(outer))
            continue
        if isinstance(node, ast.Lambda):
            outer = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            pending.extend((child, inside_comprehension) for child in outer)
            continue
        inside = inside_comprehension or isinstance(node, COMPREHENSIONS)
        pending.extend((child, inside) for child in reversed(list(ast.iter_child_nodes(node))))


def walruses(statement: ast.stmt) -> Iterator[str]:
    """Names bound by `:=` in a statement's own expressions, the statements in it left aside."""
    pending = list(ast.iter_child_nodes(statement))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.NamedExpr):
            yield node.target.id
        if not isinstance(node, ast.stmt | ast.Lambda | ast.ExceptHandler | ast.match_case):
            pending.extend(ast.iter_child_nodes(node))


def scope_of(node: Scoped) -> BoundNames:
    """The scope that a function, lambda, class or comprehension opens."""
    scope = BoundNames(is_class=isinstance(node, ast.ClassDef))
    if isinstance(node, COMPREHENSIONS):
        for generator in node.generators:
            scope.names.update(found.name for found in targets(generator.target, "for"))
        return scope
    if isinstance(node, FUNCTIONS):
        arguments = node.args
        parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        parameters += [star for star in (arguments.vararg, arguments.kwarg) if star]
        scope.names.update(parameter.arg for parameter in parameters)
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    scope.names.update(found.name for found in bindings(body))
    for name in declared_global(body):
        scope.outward.add(name)
        scope.names.discard(name)
    return scope


def declared_global(body: Sequence[ast.AST]) -> Iterator[str]:
    pending = list(body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Global):
            yield from node.names
        elif not isinstance(node, (*DEFINITIONS, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))


class ScopedTransformer(ast.NodeTransformer):
    """A transformer that knows, at each `Name`, whether it is the cell's own (global) name."""

    def __init__(self) -> None:
        self.scopes: list[BoundNames] = []

    @property
    def at_top(self) -> bool:
        """Whether statements visited now run in the cell's own scope."""
        return not self.scopes

    def is_global(self, name: str) -> bool:
        for depth, scope in enumerate(reversed(self.scopes)):
            if scope.is_class and depth:  # a class body is invisible to the functions in it
                continue
            if name in scope.outward:
                return True
            if name in scope.names:
                return False
        return True

    def _inside(self, node: Scoped, visit: Callable[[], None]) -> None:
        self.scopes.append(scope_of(node))
        try:
            visit()
        finally:
            self.scopes.pop()

    def _visit_field(self, node: ast.AST, *names: str) -> None:
        for name in names:
            value = getattr(node, name, None)
            if isinstance(value, list):
                visited = []
                for item in value:
                    result = self.visit(item) if isinstance(item, ast.AST) else item
                    if isinstance(result, list):
                        visited.extend(result)
                    elif result is not None or item is None:
                        visited.append(result)
                value[:] = visited
            elif isinstance(value, ast.AST):
                setattr(node, name, self.visit(value))

    def _visit_function(self, node):
        self._visit_field(node, "decorator_list", "returns")
        self._visit_field(node.args, "defaults", "kw_defaults")
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                self._visit_field(argument, "annotation")
        self._inside(node, lambda: self._visit_field(node, "body"))
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _visit_function

    def visit_ClassDef(self, node: ast.ClassDef):
        self._visit_field(node, "decorator_list", "bases", "keywords")
        self._inside(node, lambda: self._visit_field(node, "body"))
        return node

    def _visit_comprehension(self, node):
        # The first iterable is evaluated outside the comprehension, all else inside it.
        self._visit_field(node.generators[0], "iter")

        def inside() -> None:
            for position, generator in enumerate(node.generators):
                fields = ("target", "ifs") if position == 0 else ("iter", "target", "ifs")
                self._visit_field(generator, *fields)
            self._visit_field(node, "elt", "key", "value")

        self._inside(node, inside)
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension
