"""Checking a cell against the model and the notebook before anything runs.

All problems are found together. Nothing of the model is run or loaded for it: paths are walked
on the module tree, which stands on the meta device until the weights are needed.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Mapping
from typing import Any

from nnsight_magic.language.names import HANDLE_ATTRIBUTES, TRACE_NAMES, VALUE_ATTRIBUTES
from nnsight_magic.language.paths import as_written
from nnsight_magic.language.problems import (
    Problem,
    cell_error,
    did_you_mean,
    listing,
    on_written_lines,
)
from nnsight_magic.language.program import Link, Program, Reference
from nnsight_magic.language.tree import (
    ROOT_MODULES,
    below_root,
    children,
    has_attribute,
    kind_of,
    module_of,
    named,
    numbered,
    standard,
)

AT_ROOT = ("logits", "tokens", "prompt")  # of the model, and of a prompt's view of it
BUILTINS = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__", "get_ipython", "display"}


def check(program: Program, model: Any, namespace: Mapping[str, Any], prompts=()) -> None:
    """Raises `CellError` with every problem of the cell, in the order of its lines.

    `model` mirrors a module tree (`children()`, attributes, indices); `namespace` are the
    notebook's variables; `prompts` the names of the prompts.
    """
    problems = [
        *program.problems,
        *unknown_names(program, model, namespace, prompts),
        *unknown_paths(program, model, prompts),
    ]
    if problems:
        lines, parsed = program.lines, program.parsed_lines
        raise cell_error([on_written_lines(each, lines, parsed) for each in problems], lines)


def unknown_names(
    program: Program, model: Any, namespace: Mapping[str, Any], prompts: Iterable[str] = ()
) -> list[Problem]:
    """Names that neither the trace, the notebook nor the cell knows, each reported once."""
    if program.runs_magics or _imports_star(program.tree):
        return []  # a `%` line or a star import may bring any name
    known = BUILTINS.union(program.bound)
    problems, seen = [], set()
    for use in program.uses:
        name = use.name
        if name in known or name in namespace or name in seen or name.startswith("__"):
            continue
        seen.add(name)
        candidates = [*TRACE_NAMES, *prompts, *children(model), *program.bound]
        visible = [each for each in namespace if not each.startswith("_")]
        hint = did_you_mean(name, candidates) or did_you_mean(name, [*visible, *BUILTINS], 0.75)
        problems.append(
            Problem(
                use.span,
                f"no {name!r} in the trace or in the notebook",
                hint or "assign it in a cell before, or in this one",
            )
        )
    return problems


def _imports_star(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
        for node in ast.walk(tree)
    )


def unknown_paths(program: Program, model: Any, prompts: Iterable[str] = ()) -> list[Problem]:
    """Module paths that the model does not have, and writes to what cannot be written."""
    prompts = frozenset(prompts)
    problems = []
    for found in program.references:
        problem = path_problem(found, model, prompts)
        if problem is not None:
            problems.append(problem)
    return problems


def path_problem(found: Reference, model: Any, prompts: frozenset[str]) -> Problem | None:
    """The first thing wrong on one path, if anything is."""
    if found.name == "model" or found.name in prompts:
        handle = model
    elif found.name in ROOT_MODULES:
        handle = named(model, found.name)
        if handle is None:
            return Problem(
                found.span,
                f"this model ({kind_of(model)}) has no {found.name!r}",
                f"its modules: {listing(children(model))}",
            )
    elif found.name in TRACE_NAMES:
        return None
    else:
        handle = named(model, found.name)
    at_root = handle is model
    for position, link in enumerate(found.links):
        if handle is None:
            return None
        last = position == len(found.links) - 1
        if link.kind == "call":
            return None
        step = _index if link.kind == "index" else _attribute_link
        handle, problem = step(handle, link, found, position, found.stored and last, at_root)
        if problem is not None:
            return problem
        at_root = False
        # `.next()` gives the same module back.
        if link.value == "next" and found.links[position + 1 : position + 2]:
            return _after_next(found, position, model, prompts)
    return None


def _after_next(found: Reference, position: int, model: Any, prompts) -> Problem | None:
    links = found.links[:position] + found.links[position + 2 :]
    return path_problem(Reference(found.name, found.span, links, found.stored), model, prompts)


def _attribute_link(
    handle: Any, link: Link, found: Reference, position: int, stored: bool, at_root: bool
) -> tuple[Any, Problem | None]:
    """Follows `.name`; the handle is `None` where the path leaves the module tree."""
    name = str(link.value)
    where = as_written(found, position)
    if name in VALUE_ATTRIBUTES or (at_root and name in AT_ROOT):
        return None, None
    if stored:
        return None, Problem(
            link.span,
            f"{where}.{name} cannot be assigned in a trace",
            f"what can be: {where}.output, {where}.input, {where}.inputs",
        )
    if name == "next":
        return handle, None
    child = below_root(handle, name)
    if child is not None:
        return child, None
    if name in HANDLE_ATTRIBUTES or has_attribute(handle, name):
        return None, None
    known = [*children(handle), *standard(handle), *HANDLE_ATTRIBUTES]
    hint = did_you_mean(name, known)
    if not hint:
        hint = did_you_mean(name, dir(module_of(handle)))
    has = listing([*children(handle), *VALUE_ATTRIBUTES])
    return None, Problem(
        link.span, f"{where} ({kind_of(handle)}) has no {name!r}", hint or f"it has {has}"
    )


def _index(
    handle: Any, link: Link, found: Reference, position: int, stored: bool, at_root: bool
) -> tuple[Any, Problem | None]:
    """Follows `[i]` on a list of modules. An index that is no literal stands for any of them."""
    where = as_written(found, position)
    modules = numbered(handle)
    if stored:
        hint = f"write a value of it: {as_written(found, position + 1)}.output = …"
        return None, Problem(link.span, "a module cannot be replaced in a trace", hint)
    if not modules:
        inside = children(handle)
        if isinstance(link.value, str):
            return inside.get(link.value), None
        hint = f"its modules: {listing(inside)}" if inside else f"its value is {where}.output"
        return None, Problem(link.span, f"{where} ({kind_of(handle)}) cannot be indexed", hint)
    if isinstance(link.value, int):
        count = len(modules)
        if not -count <= link.value < count:
            return None, Problem(
                link.span,
                f"{where} has {count} modules, so there is no {where}[{link.value}]",
                f"indices go from 0 to {count - 1}",
            )
        return modules[link.value], None
    if link.value is None and not link.slices:
        same = len({kind_of(each) for each in modules}) == 1
        return (modules[0] if same else None), None
    return None, None
