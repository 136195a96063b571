"""Reading paths such as `layers[20].mlp.output[:, -1]` off an AST: links, spans and touches."""

from __future__ import annotations

import ast

from nnsight_magic.language.named import NAMED_VALUES
from nnsight_magic.language.names import VALUE_ATTRIBUTES
from nnsight_magic.language.parts import PARTS
from nnsight_magic.language.problems import Span
from nnsight_magic.language.program import Link, Mention, Reference
from nnsight_magic.language.scopes import Written

# What a path is made of behind its root: `.mlp`, `[3]`, `(…)`.
PathPart = ast.Attribute | ast.Subscript | ast.Call


def end_of(node: Written) -> tuple[int, int]:
    """The line and the byte column at which a node ends; where it begins, if it says no end.

    The parser gives every node its end, what is built by hand may have none.
    """
    if node.end_lineno is None or node.end_col_offset is None:
        return node.lineno, node.col_offset
    return node.end_lineno, node.end_col_offset


_GIVEN = ("resid_pre", "neurons", "neurons_pre")  # values that a module takes


class Positions:
    """Turns the AST's byte columns into character columns of the cell's lines."""

    def __init__(self, source: str, first_line: int) -> None:
        self.lines = source.split("\n")
        self.first_line = first_line
        self._encoded = [
            None if line.isascii() else line.encode(errors="replace") for line in self.lines
        ]

    def column(self, line: int, byte_column: int) -> int:
        """`line` counts in the whole cell."""
        index = line - self.first_line
        if not 0 <= index < len(self.lines):
            return byte_column
        encoded = self._encoded[index]
        if encoded is None:  # one byte a character
            return byte_column
        return len(encoded[:byte_column].decode(errors="ignore"))

    def of(self, node: Written) -> Span:
        """The node's span, up to the end of its first line where it has several."""
        line = node.lineno
        start = self.column(line, node.col_offset)
        if node.end_lineno == line and node.end_col_offset is not None:
            return Span(line, start, self.column(line, node.end_col_offset))
        index = line - self.first_line
        end = len(self.lines[index]) if 0 <= index < len(self.lines) else start + 1
        return Span(line, start, max(end, start + 1))

    def of_attribute(self, node: ast.Attribute) -> Span:
        """The span of the attribute's name alone."""
        line, byte_column = end_of(node)
        end = self.column(line, byte_column)
        return Span(line, max(0, end - len(node.attr)), end)


def literal_index(node: ast.expr) -> int | str | None:
    """An index written as a literal integer or string, else None."""
    match node:
        case ast.Constant(value=int() | str() as value) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as value)):
            return -value
    return None


def unwind(node: ast.expr) -> tuple[ast.expr, list[PathPart]]:
    """A path's root and the attribute, index and call nodes on it, innermost first."""
    nodes: list[PathPart] = []
    while True:
        match node:
            case ast.Attribute(value=inner) | ast.Subscript(value=inner) | ast.Call(func=inner):
                nodes.append(node)
                node = inner
            case _:
                nodes.reverse()
                return node, nodes


def reference(
    root: ast.Name, nodes: list[PathPart], positions: Positions, stored: bool
) -> Reference:
    links = []
    for node in nodes:
        match node:
            case ast.Attribute(attr=name):
                links.append(Link("attribute", name, positions.of_attribute(node)))
            case ast.Subscript(slice=index):
                slices = isinstance(index, ast.Slice | ast.Tuple)
                links.append(Link("index", literal_index(index), positions.of(index), slices))
            case ast.Call():
                links.append(Link("call", None, positions.of(node)))
    return Reference(root.id, positions.of(root), tuple(links), stored)


def touch(found: Reference) -> Mention | None:
    """The value of the forward that a reference names, if it names one."""
    if found.name in ("logits", "output"):
        return Mention(found.name, "output", found.stored or _in_place(found), found.span)
    for position, link in enumerate(found.links):
        at_root = position == 0 and link.value == "logits"  # `model.logits`, `clean.logits`
        if link.kind == "attribute" and (link.value in VALUE_ATTRIBUTES or at_root):
            kind = "input" if str(link.value).startswith("input") else "output"
            rest = Reference(found.name, found.span, found.links[position + 1 :], found.stored)
            return Mention(
                as_written(found, position), kind, found.stored or _in_place(rest), link.span
            )
        following = found.links[position + 1].kind if position + 1 < len(found.links) else ""
        if link.kind == "attribute" and link.value == "heads" and following != "attribute":
            path = as_written(found, position + 1)
            return Mention(path, "input", found.stored or _in_place(found), link.span)
        if link.kind == "attribute" and link.value == "pattern" and not _goes_on(found, position):
            path = as_written(found, position)
            return Mention(path, "pattern", found.stored or _in_place(found), link.span)
        if (
            link.kind == "attribute"
            and link.value in NAMED_VALUES
            and not _goes_on(found, position)
        ):
            kind = "input" if link.value in _GIVEN else "output"
            rest = Reference(found.name, found.span, found.links[position + 1 :], found.stored)
            path = as_written(found, position)
            return Mention(path, kind, found.stored or _in_place(rest), link.span)
        if link.kind == "attribute" and link.value in PARTS and not _goes_on(found, position):
            path = as_written(found, position)
            rest = Reference(found.name, found.span, found.links[position + 1 :], found.stored)
            return Mention(path, str(link.value), found.stored or _in_place(rest), link.span)
        if link.kind == "attribute" and link.value == "skip" and following == "call":
            return Mention(as_written(found, position), "output", True, link.span)
    return None


def _goes_on(found: Reference, position: int) -> bool:
    """Whether a value is named further on: then this is a module of the model's."""
    return any(link.value in VALUE_ATTRIBUTES for link in found.links[position + 1 :])


def _in_place(found: Reference) -> bool:
    """Whether the path ends in a call of one of torch's in-place methods (`….zero_()`)."""
    match found.links:
        case (*_, Link("attribute", str(name)), Link("call")):
            return name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
    return False


def as_written(found: Reference, count: int) -> str:
    """The path's first `count` links as a user writes them, an index that is no literal as `…`."""
    text = found.name
    for link in found.links[:count]:
        match link.kind:
            case "attribute":
                text += f".{link.value}"
            case "index":
                text += f"[{'…' if link.value is None else repr(link.value)}]"
            case "call":
                text += "(…)"
    return text
