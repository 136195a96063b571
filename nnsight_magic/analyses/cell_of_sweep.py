"""A point of a `%%sweep` as a `%%trace` cell: its loop's body, with the point's places filled in.

The body stays as it was written, comments too: where a loop variable is only read, its place takes
the name's; where that would change what the body says (a variable that is assigned again, a place
that is a tensor), the variable is assigned before; and where the body says `continue`, the loop
stays, over this one point.
"""

from __future__ import annotations

import ast
import io
import textwrap
import tokenize
from collections.abc import Mapping, Sequence
from typing import Any

from nnsight_magic.errors import BadInputError

TEXTS = ("STRING", "MIDDLE")  # how kinds of tokens end that are texts
HERE = "_here"  # behind a name: its value at the one point
PLAIN = (bool, int, float, str)


def cell_of_sweep(recipe: Mapping[str, Any], point: Mapping[str, Any], name: str, _: float) -> str:
    """The cell.

    Args:
        recipe: `code`, the sweep's body; `line`, that of its cell without what is a sweep's own;
            `axes`: by the variable's name what the axis is called, its places and the values that
            the body was given; `paired`; `trailing`: the axes that a point's own value has;
            `collected`: the names that the body gives a value;
            `prompts`, where an axis is of prompts: its name, and a line for each.
        point: for each axis of the result its place.
        name: the cell's name for the number.
    """
    code = recipe["code"]
    loop = _loop(code)
    at = _at(recipe, point)
    values = {
        variable: _value(loop, axis, at[axis["name"]]) for variable, axis in recipe["axes"].items()
    }
    lines = code.split("\n")
    before = "\n".join(lines[: loop.lineno - 1])
    inner = _filled(code, loop, values)
    line = recipe["line"]
    if recipe.get("prompts"):
        line = recipe["prompts"]["lines"][at[recipe["prompts"]["name"]]]
    inner = _renamed(inner, recipe["collected"])
    trailing = [point[axis] for axis in recipe["trailing"]]
    parts = [f"%%trace {line}".rstrip(), *([before] if before.strip() else []), inner]
    if trailing:
        parts.append(f"{name} = {name}[{', '.join(map(str, trailing))}]")
    return "\n".join(parts)


def _loop(code: str) -> ast.For:
    """The loop over the grid."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        raise BadInputError(
            "There is no cell for this point: the sweep's cell has lines that are no Python, of % "
            "or !, and where its loop begins and ends is not known."
        ) from None
    loops = [each for each in tree.body if isinstance(each, ast.For) and _is_grid(each.iter)]
    return loops[0]


def _is_grid(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="grid") | ast.Attribute(value=ast.Name(id="grid"))):
            return True
    return False


def _at(recipe: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, int]:
    """For each axis of the grid the number of its place."""
    axes = recipe["axes"].values()
    if recipe["paired"]:
        return {axis["name"]: int(point["point"]) for axis in axes}
    return {axis["name"]: axis["places"].index(point[axis["name"]]) for axis in axes}


def _value(loop: ast.For, axis: Mapping[str, Any], at: int) -> str:
    """What the body was given there, as Python."""
    value = axis["values"][at]
    if value is not None:
        return repr(value) if not isinstance(value, float) or value == value else 'float("nan")'
    assert isinstance(loop.iter, ast.Call)
    given = [each.value for each in loop.iter.keywords if each.arg == axis["name"]]
    if not given:
        raise BadInputError(
            f"There is no cell for this point: its place on the axis {axis['name']} is no number "
            "and no text, and the cell does not say which list it comes from."
        )
    text = ast.unparse(given[0])
    whole = isinstance(given[0], ast.Name | ast.Attribute | ast.List | ast.Tuple | ast.Subscript)
    return f"{text}[{at}]" if whole else f"list({text})[{at}]"


def _filled(code: str, loop: ast.For, values: Mapping[str, str]) -> str:
    """The loop's body for these values of its variables."""
    lines = code.split("\n")
    first, last = loop.body[0], loop.body[-1]
    apart = first.lineno > loop.lineno
    if not apart or _has_continue(loop) or _long_strings(lines, loop):
        return _with_loop(lines, loop, values)
    begin = first.lineno
    while begin - 1 > (loop.iter.end_lineno or begin) and _is_comment(lines[begin - 2]):
        begin -= 1
    body = lines[begin - 1 : last.end_lineno]
    if _only_read(loop, values):
        body = _replaced(body, begin, loop, values)
        return textwrap.dedent("\n".join(body))
    head = [f"{', '.join(values)} = {', '.join(values.values())}"]
    return "\n".join([*head, textwrap.dedent("\n".join(body))])


def _is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _with_loop(lines: Sequence[str], loop: ast.For, values: Mapping[str, str]) -> str:
    """The loop itself, over this one point."""
    one = ", ".join(values.values())
    target = ", ".join(values)
    given = f"[({one})]" if len(values) > 1 else f"[{one}]"
    first = loop.body[0]
    if first.lineno > loop.lineno:
        rest = "\n".join(lines[(loop.iter.end_lineno or loop.lineno) : loop.end_lineno])
        return f"for {target} in {given}:\n{rest}"
    rest = "\n".join([
        _from(lines[first.lineno - 1], first.col_offset), *lines[first.lineno : loop.end_lineno]
    ])  # fmt: skip
    return f"for {target} in {given}: {rest}"


def _from(line: str, column: int) -> str:
    """A line from a column on that counts bytes, as Python's do."""
    return line.encode()[column:].decode()


def _has_continue(loop: ast.For) -> bool:
    return any(isinstance(node, ast.Continue) for each in loop.body for node in ast.walk(each))


def _long_strings(lines: Sequence[str], loop: ast.For) -> bool:
    """Whether a text in the body goes over several lines, whose blanks are its own."""
    text = "\n".join(lines[loop.lineno - 1 : loop.end_lineno]) + "\n"
    return any(
        token.start[0] != token.end[0] and tokenize.tok_name[token.type].endswith(TEXTS)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    )  # fmt: skip


def _only_read(loop: ast.For, values: Mapping[str, str]) -> bool:
    """Whether each use of a variable may be written as its value."""
    for value in values.values():
        try:
            ast.literal_eval(value)
        except ValueError:
            return False
    for each in loop.body:
        for node in ast.walk(each):
            match node:
                case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if name in values:
                    return False
                case ast.arg(arg=name) | ast.ExceptHandler(name=name) if name in values:
                    return False
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name) if name in values:
                    return False
                case ast.alias(name=name, asname=other) if (other or name) in values:
                    return False
                case ast.MatchAs(name=name) | ast.MatchStar(name=name) if name in values:
                    return False
                case ast.Global() | ast.Nonlocal() | ast.JoinedStr():
                    return False
                case ast.Attribute(value=ast.Name(id=name)) if name in values:
                    return False
    return True


def _replaced(
    body: Sequence[str], begin: int, loop: ast.For, values: Mapping[str, str]
) -> list[str]:
    """The lines of the body with values in the places of the variables.

    Args:
        body: its lines.
        begin: the number of the first of them.
    """
    found = [line.encode() for line in body]
    uses = [
        node
        for each in loop.body
        for node in ast.walk(each)
        if isinstance(node, ast.Name) and node.id in values
    ]
    for node in sorted(uses, key=lambda use: (use.lineno, use.col_offset), reverse=True):
        line = found[node.lineno - begin]
        value = values[node.id]
        bracketed = line[: node.col_offset].rstrip().endswith(b"[")
        text = f"({value})" if value.startswith("-") and not bracketed else value
        found[node.lineno - begin] = (
            line[: node.col_offset] + text.encode() + line[node.end_col_offset :]
        )
    return [line.decode() for line in found]


def _renamed(text: str, names: Sequence[str]) -> str:
    """The body with names of its own for what it gives: those of the notebook hold all points.

    As it is where a name cannot be found in the text for sure, as in a formatted text.
    """
    found = [line.encode() for line in text.split("\n")]
    nodes = [node for node in ast.walk(ast.parse(text)) if _called(node) in names]
    uses = [node for node in nodes if isinstance(node, ast.Name)]
    if len(uses) < len(nodes):
        return text
    for node in sorted(uses, key=lambda use: (use.lineno, use.col_offset), reverse=True):
        line, name = found[node.lineno - 1], node.id.encode()
        begin = node.col_offset
        if line[begin : begin + len(name)] != name:
            return text
        found[node.lineno - 1] = (
            line[: begin + len(name)] + HERE.encode() + line[begin + len(name) :]
        )
    return "\n".join(line.decode() for line in found)


def _called(node: ast.AST) -> str:
    """What a node of the tree binds or reads by a name."""
    for field in ("id", "arg", "name"):
        if isinstance(found := getattr(node, field, None), str) and not isinstance(
            node, ast.keyword
        ):
            return found
    return ""


def axis_of_recipe(axis: Any) -> dict[str, Any]:
    """An axis of a grid for JSON: its name, its places, and what of its values is a number or text.

    Args:
        axis: a `points.Axis`.
    """
    values = [value if isinstance(value, PLAIN) else None for value in axis.values]
    return {"name": axis.name, "places": axis.places, "values": values}
