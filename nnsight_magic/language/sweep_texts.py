"""What the texts in a sweep's cell show to be wrong before anything runs: answers and positions.

An answer that is several tokens, or none, and a position of one prompt that is used in another one
of another length. A loop runs for minutes, so they are looked for in the cell's text.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nnsight_magic.engine.tracing.token_texts import token_id, vocabulary_size
from nnsight_magic.errors import TokenTextError
from nnsight_magic.language.grid_loop import loops_in
from nnsight_magic.language.paths import Positions, literal_index
from nnsight_magic.language.problems import Problem
from nnsight_magic.language.program import Program

# Methods of a tensor that leave its axes as they are.
_SAME_AXES = frozenset(
    {"softmax", "log_softmax", "float", "double", "half", "exp", "log", "sigmoid", "abs", "neg",
     "cpu", "detach", "clone", "contiguous", "to", "bfloat16"}
)  # fmt: skip
VOCABULARY = "vocabulary"


def read_again(program: Program) -> tuple[ast.Module, Positions]:
    """The cell's tree as it was written, and where its nodes stand."""
    text = "\n" * (program.first_line - 1) + program.python
    return ast.parse(text), Positions(program.python, program.first_line)


# ── answers ──────────────────────────────────────────────────────────────────────────────


def problems_of_answers(program: Program, model: Any) -> Iterator[Problem]:
    """Texts and numbers that pick a token out of logits, and are none: `logits[0, -1, " Pariss"]`.

    Args:
        program: the cell.
        model: its tokenizer and its configuration say what a token is.
    """
    tree, positions = read_again(program)
    tokenizer, size = getattr(model, "tokenizer", None), vocabulary_size(model.module)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Subscript):
            continue
        for part in _of_vocabulary(node):
            said = _wrong_token(part, tokenizer, size)
            if said:
                yield Problem(positions.of(part), said)


def _wrong_token(part: ast.expr, tokenizer: Any, size: int | None) -> str:
    value = literal_index(part)
    if isinstance(value, str) and tokenizer is not None:
        try:
            token_id(value, tokenizer)
        except TokenTextError as error:
            return str(error)
    if isinstance(value, int) and size is not None and not -size <= value < size:
        return f"there is no token {value}: the vocabulary has {size}, 0 to {size - 1}"
    return ""


def _of_vocabulary(node: ast.Subscript) -> list[ast.expr]:
    """The parts of an index that pick tokens of the vocabulary."""
    axes = _axes(node.value)
    if axes is None:
        return []
    found = []
    for place, part in _by_axis(node, len(axes)):
        if axes[place] == VOCABULARY:
            found += part.elts if isinstance(part, ast.List | ast.Tuple) else [part]
    return found


def _axes(node: ast.expr) -> list[str] | None:
    """The axes of logits, or of what was made of them; `None` of anything else."""
    match node:
        case ast.Name(id="logits") | ast.Attribute(attr="logits", value=ast.Name()):
            return ["batch", "token", VOCABULARY]
        case ast.Call(func=ast.Attribute(value=inner, attr=name)) if name in _SAME_AXES:
            return _axes(inner)
        case ast.Subscript(value=inner):
            axes = _axes(inner)
            if axes is None:
                return None
            gone = set()
            for place, part in _by_axis(node, len(axes)):
                if not isinstance(part, ast.Slice | ast.List | ast.Tuple):
                    if literal_index(part) is None and not isinstance(part, ast.Name):
                        return None  # it may be several
                    gone.add(place)
            return [axis for place, axis in enumerate(axes) if place not in gone]
    return None


def _by_axis(node: ast.Subscript, count: int) -> list[tuple[int, ast.expr]]:
    """The parts of an index, each with the axis that it is for; nothing of one that adds axes."""
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    rest = [k for k, part in enumerate(parts) if _is(part, Ellipsis)]
    if len(rest) > 1 or len(parts) - len(rest) > count or any(_is(part, None) for part in parts):
        return []
    if not rest:
        return [*enumerate(parts)]
    behind = parts[rest[0] + 1 :]
    first = count - len(behind)
    return [*enumerate(parts[: rest[0]]), *enumerate(behind, first)]


def _is(node: ast.expr, value: Any) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


# ── positions ────────────────────────────────────────────────────────────────────────────


def problems_of_positions(
    program: Program, tokens: Mapping[str, Sequence[str]]
) -> Iterator[Problem]:
    """Positions of one prompt as an axis that the body uses in another one of another length.

    Args:
        program: the cell.
        tokens: of each named prompt, as texts.
    """
    tree, positions = read_again(program)
    loops = loops_in(tree)
    if len(loops) != 1:
        return
    (loop,) = loops
    of = _whose(loop)
    for node in ast.walk(loop):
        if not isinstance(node, ast.Subscript):
            continue
        prompt = _root(node)
        names = {n.id for n in ast.walk(node.slice) if isinstance(n, ast.Name)}
        for axis, owner in of.items():
            if axis not in names or prompt not in tokens or owner not in tokens:
                continue
            if len(tokens[prompt]) != len(tokens[owner]):
                yield Problem(
                    positions.of(node),
                    f"{axis} counts the tokens of {owner}, and {prompt} has others:\n"
                    + "\n".join(f"  {each}: {_listed(tokens[each])}" for each in (owner, prompt)),
                    "give the pairs that belong together: "
                    f"grid.points({axis}=[…], other=[…]), and use other in {prompt}",
                )


def _whose(loop: ast.For) -> dict[str, str]:
    """The loop's variables that go over a named prompt's tokens: `position=corrupt.tokens`."""
    call, target = loop.iter, loop.target
    assert isinstance(call, ast.Call)
    elements = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
    found: dict[str, str] = {}
    for element, keyword in zip(elements, call.keywords, strict=False):
        for node in ast.walk(keyword.value):
            match element, node:
                case ast.Name(id=axis), ast.Attribute(attr="tokens", value=ast.Name(id=prompt)):
                    found[axis] = prompt
    return found


def _root(node: ast.expr) -> str:
    """The name that a path begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _listed(tokens: Sequence[str]) -> str:
    return f"{len(tokens)} tokens: {' '.join(map(repr, tokens))}"
