"""The loop of a sweep: `for layer, position in grid(layer=layers, position=tokens):`.

It looks like a loop and is a function of a point: points run in batches, in no order. So what a
loop may do and a function may not is refused, on its line: `break`, changing what was there before.
What stands before the loop runs once, and so does what stands behind it.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from types import CodeType

from nnsight_magic.language.names import SCOPE_NAME, SWEEP_NAMES
from nnsight_magic.language.paths import Positions
from nnsight_magic.language.point_names import axis_names, last_logits_alone, unchanging
from nnsight_magic.language.problems import Problem
from nnsight_magic.language.program import GridLoop, Mention, Program
from nnsight_magic.language.scopes import bindings

# Coordinates of a result, and the axis of what is no product.
NOT_AN_AXIS = frozenset({"baseline", "reference", "point"})
POINT = "__point__"  # the hidden name of the function that the loop's body becomes
LOOPS = (ast.For, ast.AsyncFor, ast.While)
INNER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def is_grid_call(node: ast.expr) -> bool:
    """`grid(…)`, `grid.points(…)`."""
    if not isinstance(node, ast.Call):
        return False
    match node.func:
        case ast.Name(id="grid"):
            return True
        case ast.Attribute(value=ast.Name(id="grid")):
            return True
    return False


def loops_in(tree: ast.Module) -> list[ast.For]:
    """The loops over a grid at the top of a cell."""
    return [node for node in tree.body if isinstance(node, ast.For) and is_grid_call(node.iter)]


def taken_apart(
    raw: ast.Module, tree: ast.Module, trace_names: frozenset[str], filename: str,
    positions: Positions,
) -> GridLoop:  # fmt: skip
    """The loop of a cell that has one.

    Args:
        raw: the cell as it was parsed.
        tree: the same with the trace's names rewritten.
        trace_names: names of the trace.
        filename: for tracebacks.
        positions: of the cell.
    """
    loop = loops_in(raw)[0]
    place = raw.body.index(loop)
    # The rewriting puts statements behind others, none into the loop's place.
    ran = next(n for n in tree.body if isinstance(n, ast.For) and n.lineno == loop.lineno)
    at = tree.body.index(ran)
    assert isinstance(loop.iter, ast.Call)

    def compiled(body: list[ast.stmt]) -> CodeType | None:
        if not body:
            return None
        return compile(ast.Module(body, []), filename, "exec", dont_inherit=True)

    axes = _OfAxes().visit(_grid_alone(ran.iter))
    expression = ast.fix_missing_locations(ast.Expression(axes))
    function = compiled([_as_function(ran)])
    assert function is not None
    return GridLoop(
        tuple(variables_of(loop)),
        axis_names(loop.iter, positions),
        tuple(collected_in(loop)),
        tuple(unchanging(loop, trace_names, set(collected_in(loop)))),
        last_logits_alone(raw, trace_names),
        compiled(tree.body[:at]),
        compiled(tree.body[at + 1 :]),
        compile(expression, filename, "eval", dont_inherit=True),
        function,
        _uses(raw.body[:place], trace_names) or _uses([ast.Expr(loop.iter)], trace_names),
        _uses(raw.body[place + 1 :], trace_names),
        (loop.lineno, loop.end_lineno or loop.lineno),
        positions.of(loop),
    )


def variables_of(loop: ast.For) -> list[str]:
    """The names that the loop binds."""
    target = loop.target
    elements = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
    return [each.id for each in elements if isinstance(each, ast.Name)]


def collected_in(loop: ast.For) -> list[str]:
    """Plain names that the body assigns, in their order."""
    own = set(variables_of(loop))
    collecting = ("assign", "annotate", "walrus", "augment")
    names = dict.fromkeys(
        found.name
        for found in sorted(
            (each for each in bindings(loop.body) if each.how in collecting),
            key=lambda each: (getattr(each.node, "lineno", 0), getattr(each.node, "col_offset", 0)),
        )
    )
    return [name for name in names if not name.startswith("_") and name not in own]


def _uses(body: list[ast.stmt], trace_names: frozenset[str]) -> bool:
    given = trace_names - SWEEP_NAMES.keys() - {"save", "show", "prompt", "tokens"}
    return any(
        isinstance(node, ast.Name) and node.id in given
        for each in body
        for node in ast.walk(each)
    )  # fmt: skip


def _grid_alone(node: ast.expr) -> ast.expr:
    """The call of the grid, without what tells where a loop's values come from."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="_from"), args=args):
            return args[-1] if name == SCOPE_NAME else node
    return node


class _OfAxes(ast.NodeTransformer):
    """In the call of the grid `tokens` are positions, with their texts, and `prompt` the prompts.

    `tokens` becomes `__trace__._positions()`, `corrupt.tokens` `__trace__._positions("corrupt")`.
    """

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr="tokens") if name == SCOPE_NAME:
                return self._call("_positions", [], node)
            case ast.Attribute(value=ast.Name(id=name), attr="prompt") if name == SCOPE_NAME:
                return self._call("_prompts", [], node)
            case ast.Attribute(
                value=ast.Attribute(value=ast.Name(id=name), attr=prompt), attr="tokens"
            ) if name == SCOPE_NAME:
                return self._call("_positions", [ast.Constant(prompt)], node)
        return node

    @staticmethod
    def _call(method: str, arguments: list[ast.expr], near: ast.expr) -> ast.expr:
        scope = ast.Attribute(ast.Name(SCOPE_NAME, ast.Load()), method, ast.Load())
        return ast.copy_location(ast.Call(scope, arguments, []), near)


def _as_function(loop: ast.For) -> ast.FunctionDef:
    """The loop's body as a function of its variables, which gives what it has assigned."""
    body = [_without_continue(statement) for statement in copy.deepcopy(loop.body)]
    scope = ast.Name(SCOPE_NAME, ast.Load())
    body = [part for statement in body for part in _of_steps(statement)]
    own = ast.Return(ast.Call(ast.Attribute(scope, "_locals", ast.Load()), [], []))
    # Parsed, so that it has every field that this version of Python wants.
    (made,) = ast.parse(f"def {POINT}({', '.join(variables_of(loop))}): pass").body
    assert isinstance(made, ast.FunctionDef)
    made.body = [*body, own]
    last = loop.body[-1]
    for node in ast.walk(made.args):
        ast.copy_location(node, loop)
    ast.copy_location(made, loop)
    # Where a module's code begins too: what shows errors counts a cell's lines from there.
    made.lineno = 1
    ast.copy_location(own, last)
    return ast.fix_missing_locations(made)


def _of_steps(statement: ast.stmt) -> list[ast.stmt]:
    """What gathers the values of all steps: in a function it has to assign them itself."""
    match statement:
        case ast.Expr(
            value=ast.Call(func=ast.Attribute(value=ast.Name(id=scope), attr="_gather"), args=names)
        ) if scope == SCOPE_NAME:
            given = [each.value for each in names if isinstance(each, ast.Constant)]
            parts = ast.parse(
                "\n".join(
                    f"if {SCOPE_NAME}._has({n!r}): {n} = {SCOPE_NAME}._gathered({n!r})"
                    for n in given
                )
            ).body
            for part in parts:
                for node in ast.walk(part):
                    ast.copy_location(node, statement)
            return parts
    return [statement]


class _Leaves(ast.NodeTransformer):
    """`continue` of the loop itself becomes the end of the function."""

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, (*LOOPS, *INNER)):
            return node
        if isinstance(node, ast.Continue):
            return ast.copy_location(ast.Return(ast.Constant(None)), node)
        return super().visit(node)


def _without_continue(statement: ast.stmt) -> ast.stmt:
    made = _Leaves().visit(statement)
    assert isinstance(made, ast.stmt)
    return made


# ── what is wrong with a loop ────────────────────────────────────────────────────────────


def problems_of(
    raw: ast.Module, touches: list[Mention], trace_names: frozenset[str], positions: Positions,
    *, generates: bool = False,
) -> list[Problem]:  # fmt: skip
    """What a cell's text alone shows to be wrong with its loop, or for want of one.

    Args:
        raw: the cell as it was parsed.
        touches: what it reads and writes.
        trace_names: names of the trace.
        positions: of the cell.
        generates: whether each point gives a text.
    """
    loops = loops_in(raw)
    if len(loops) != 1:
        return [_count_problem(raw, loops, positions)]
    loop = loops[0]
    found = [
        *_head_problems(loop, positions),
        *_name_problems(loop, trace_names, positions),
        *_body_problems(loop, raw, positions),
    ]
    if not collected_in(loop) and not generates:
        hint = "assign a number of each point: effect = logits[0, -1, …]"
        found.append(Problem(positions.of(loop), "the loop collects nothing", hint))
    found += [
        Problem(
            touch.span,
            "what is written belongs into the loop: each point is a forward of its own",
            "write it there, or in an edit: %%edit NAME",
        )
        for touch in touches
        if touch.writes and not loop.lineno <= touch.span.line <= (loop.end_lineno or 0)
    ]
    return [*found, *_step_problems(raw, loop, trace_names, positions, generates=generates)]


def _step_problems(
    raw: ast.Module, loop: ast.For, trace_names: frozenset[str], positions: Positions,
    *, generates: bool,
) -> Iterator[Problem]:  # fmt: skip
    """What is wrong with the steps of a text, or with asking for gradients along one."""
    for node in ast.walk(raw):
        if isinstance(node, ast.Name) and node.id == "steps" and "steps" in trace_names:
            if not generates:
                yield Problem(positions.of(node), "points are single forwards and have no steps",
                              "-n 12 on the line makes each a generation")  # fmt: skip
            elif not loop.lineno <= node.lineno <= (loop.end_lineno or 0):
                yield Problem(positions.of(node), "the steps are those of a point's text",
                              "write it into the loop over grid(…)")  # fmt: skip
        if generates and isinstance(node, ast.Attribute) and node.attr == "backward":
            yield Problem(positions.of(node), "a generation records no gradients in a sweep",
                          "leave out -n, or the gradient")  # fmt: skip


def _count_problem(raw: ast.Module, loops: list[ast.For], positions: Positions) -> Problem:
    if loops:
        return Problem(
            positions.of(loops[1]), "a sweep has one loop over grid(…)",
            "give both axes to one grid, or use two cells",
        )  # fmt: skip
    nested = [
        node
        for node in ast.walk(raw)
        if isinstance(node, ast.For) and is_grid_call(node.iter)
    ]  # fmt: skip
    if nested:
        return Problem(positions.of(nested[0]), "the loop over grid(…) stands at the top of a cell",
                       "not in a function or another block")  # fmt: skip
    first = next(iter(raw.body), None)
    span = None if first is None else positions.of(first)
    return Problem(
        span, "a sweep is a loop over points",
        "for layer, position in grid(layer=layers, position=tokens): …",
    )  # fmt: skip


def _head_problems(loop: ast.For, positions: Positions) -> Iterator[Problem]:
    call = loop.iter
    assert isinstance(call, ast.Call)
    if isinstance(call.func, ast.Attribute) and call.func.attr != "points":
        yield Problem(positions.of(call.func), f"grid has no {call.func.attr!r}",
                      "grid(…) is every combination, grid.points(…) are pairs")  # fmt: skip
    if call.args or not call.keywords:
        where = call.args[0] if call.args else call
        yield Problem(positions.of(where), "the axes of a grid have names",
                      "grid(layer=layers, position=tokens)")  # fmt: skip
        return
    target = loop.target
    elements = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
    if not all(isinstance(each, ast.Name) for each in elements):
        yield Problem(positions.of(target), "the loop binds one plain name for each axis")
        return
    named = [keyword.arg for keyword in call.keywords]
    if None not in named and len(named) != len(elements):
        axes = "axis" if len(named) == 1 else "axes"
        yield Problem(
            positions.of(target),
            f"the grid has {len(named)} {axes} ({', '.join(map(str, named))}), and the loop binds "
            f"{len(elements)}",
            f"for {', '.join(map(str, named))} in grid(…)",
        )
        return
    read = {node.id for part in loop.body for node in ast.walk(part) if isinstance(node, ast.Name)}
    of_prompts = [isinstance(k.value, ast.Name) and k.value.id == "prompt" for k in call.keywords]
    for name, element, runs_on in zip(variables_of(loop), elements, of_prompts, strict=True):
        if name not in read and not name.startswith("_") and not runs_on:
            yield Problem(
                positions.of(element), f"the loop never uses {name!r}: all its points are the same",
                f"use it, or take the axis out; _{name} is for repeats",
            )  # fmt: skip


def _name_problems(
    loop: ast.For, trace_names: frozenset[str], positions: Positions
) -> Iterator[Problem]:
    """Names that stand for two things."""
    target, call = loop.target, loop.iter
    assert isinstance(call, ast.Call)
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and node.id in trace_names:
            yield Problem(positions.of(node), f"{node.id!r} belongs to the trace and cannot be "
                          "assigned", "use another name")  # fmt: skip
    collected = set(collected_in(loop))
    for keyword in call.keywords:
        if keyword.arg in collected:
            yield Problem(
                positions.of(keyword.value),
                f"{keyword.arg!r} is an axis, and what the loop collects",
                "call one of them otherwise",
            )
        if keyword.arg in NOT_AN_AXIS:
            yield Problem(
                positions.of(keyword.value),
                f"an axis cannot be called {keyword.arg!r}: results have that for another thing",
                "use another name",
            )
    for part in loop.body:
        for node in ast.walk(part):
            if isinstance(node, ast.expr) and is_grid_call(node):
                yield Problem(positions.of(node), "a point has no grid of its own",
                              "give all axes to one grid: for layer, head in grid(…)")  # fmt: skip


def _body_problems(loop: ast.For, raw: ast.Module, positions: Positions) -> Iterator[Problem]:
    for node in _of_this_loop(loop.body):
        if isinstance(node, ast.Break):
            yield Problem(positions.of(node), "points run in batches, so none is the last",
                          "continue leaves a point empty; take a smaller grid")  # fmt: skip
        if isinstance(node, ast.Global | ast.Nonlocal):
            yield Problem(positions.of(node), "a point has names of its own alone")
    if loop.orelse:
        yield Problem(positions.of(loop.orelse[0]), "a loop over points has no else",
                      "write it behind the loop")  # fmt: skip
    place = raw.body.index(loop)
    earlier = {found.name for found in bindings(raw.body[:place])}
    own = set(variables_of(loop))
    first: dict[str, str] = {}
    for found in bindings(loop.body):
        first.setdefault(found.name, found.how)
        inner = found.name in earlier and found.how != "del"
        if inner and not found.name.startswith("_"):
            yield Problem(
                positions.of(found.node),
                f"{found.name!r} is there before the loop, and points do not follow each other",
                "use another name: what a point assigns is collected",
            )
    for name, how in first.items():
        if how == "augment" and name not in earlier | own:
            node = next(b.node for b in bindings(loop.body) if b.name == name)
            yield Problem(
                positions.of(node), f"{name!r} has no value yet, and none of the point before",
                "points do not follow each other: sum over the axes behind the loop",
            )  # fmt: skip


def _of_this_loop(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Nodes of a loop's body, inner loops and functions left aside."""
    pending: list[ast.AST] = [*reversed(body)]
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (*LOOPS, *INNER)):
            pending.extend(reversed([*ast.iter_child_nodes(node)]))


# ── whose prompts are written ────────────────────────────────────────────────────────────


def swept_prompt(program: Program, names: tuple[str, ...]) -> str | None:
    """Which of several named prompts the loop writes to; the last, where it writes to none."""
    if program.loop is None or not names:
        return None
    written = [touch.path.partition(".")[0] for touch in program.touches if touch.writes]
    return next((name for name in names if name in written), names[-1])


def problems_of_prompts(program: Program, names: tuple[str, ...]) -> list[Problem]:
    """What is wrong with how a loop names its prompts."""
    if program.loop is None or len(names) < 2:
        return []
    main = swept_prompt(program, names)
    found: list[Problem] = []
    for touch in program.touches:
        of = touch.path.partition(".")[0]
        if not program.loop.holds(touch.span.line):
            continue
        if of not in names:
            found.append(
                Problem(
                    touch.span,
                    f"of which prompt: {', '.join(names)}?",
                    f"say it: {main}.{touch.path}",
                )
            )
        elif touch.writes and of != main:
            found.append(
                Problem(
                    touch.span,
                    f"the loop writes to {main} and to {of}, and a sweep changes one prompt",
                    "the others are only read",
                )
            )
    return found
