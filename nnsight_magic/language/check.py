"""Checking a cell against the model and the notebook before anything runs.

All problems are found together. Nothing of the model is run or loaded for it: paths are walked
on the module tree, which stands on the meta device until the weights are needed.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nnsight_magic.engine.places.heads import has_heads
from nnsight_magic.engine.places.standard_names import ROOT_NAMES
from nnsight_magic.language.named import NAMED_VALUES, has_named, no_named
from nnsight_magic.language.names import (
    HANDLE_ATTRIBUTES,
    OF_ATTENTION,
    SWEEP_NAMES,
    TRACE_NAMES,
    VALUE_ATTRIBUTES,
)
from nnsight_magic.language.parts import is_part, why_not
from nnsight_magic.language.paths import as_written
from nnsight_magic.language.problems import Problem, cell_error, on_written_lines
from nnsight_magic.language.program import Link, Program, Reference
from nnsight_magic.language.tree import (
    below_root,
    children,
    has_attribute,
    kind_of,
    module_of,
    named,
    numbered,
    standard,
)
from nnsight_magic.near import did_you_mean, listing

USUAL_IMPORTS = {
    "np": "import numpy as np",
    "pd": "import pandas as pd",
    "plt": "import matplotlib.pyplot as plt",
    "nn": "from torch import nn",
    "F": "import torch.nn.functional as F",
}
USUAL_MODULES = frozenset(
    {"torch", "math", "random", "json", "re", "time", "einops", "transformers"}
)
_NO_MODULES = (TRACE_NAMES.keys() - set(ROOT_NAMES)) | SWEEP_NAMES.keys()
_PATTERN = re.compile(r"att.*(weight|pattern|prob|map|score)|^pattern|^weights$")
AT_ROOT = ("logits", "tokens", "prompt")  # of the model, and of a prompt's view of it
BUILTINS = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__", "get_ipython", "display"}


def check(
    program: Program,
    model: Any,
    namespace: Mapping[str, Any],
    prompts: Iterable[str] = (),
    more: Iterable[Problem] = (),
) -> None:
    """Raises `CellError` with every problem of the cell, in the order of its lines.

    `model` mirrors a module tree (`children()`, attributes, indices); `namespace` are the
    notebook's variables; `prompts` the names of the prompts; `more` what the kind of cell forbids.
    """
    problems = [
        *program.problems,
        *more,
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
                _import_of(name) or hint or "assign it in a cell before, or in this one",
            )
        )
    return problems


def _import_of(name: str) -> str:
    """The import that a name is likely to wait for."""
    usual = USUAL_IMPORTS.get(name) or (f"import {name}" if name in USUAL_MODULES else "")
    return f"import it first: {usual}" if usual else ""


def _imports_star(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
        for node in ast.walk(tree)
    )


def unknown_paths(program: Program, model: Any, prompts: Iterable[str] = ()) -> list[Problem]:
    """Module paths that the model does not have, and writes to what cannot be written."""
    paths = Paths(model, frozenset(prompts), _attached(program))
    problems = (paths.problem(found) for found in program.references)
    return [problem for problem in problems if problem is not None]


def _attached(program: Program) -> frozenset[str]:
    """Names that the cell itself assigns on modules: `layers[5].sae = SAE()`."""
    ends = (found.links[-1] for found in program.references if found.stored and found.links)
    return frozenset(str(link.value) for link in ends if link.kind == "attribute")


@dataclass(frozen=True)
class Paths:
    """Follows paths on a model's module tree."""

    model: Any
    prompts: frozenset[str]
    attached: frozenset[str]

    def problem(self, found: Reference) -> Problem | None:
        """The first thing wrong on one path, if anything is."""
        if found.name == "model" or found.name in self.prompts:
            handle = self.model
        elif (
            found.name in TRACE_NAMES and found.name not in ROOT_NAMES
        ) or found.name in SWEEP_NAMES:
            return None
        else:
            handle = named(self.model, found.name)
            if handle is None:
                kind, modules = kind_of(self.model), listing(children(self.model))
                message = f"this model ({kind}) has no {found.name!r}"
                return Problem(found.span, message, f"its modules: {modules}")
        for position, link in enumerate(found.links):
            if link.kind == "call":
                return None
            step = self._index if link.kind == "index" else self._attribute
            before, (handle, problem) = handle, step(handle, link, found, position)
            if problem is not None or handle is None:
                return problem
            # `.next()` gives the same module back.
            if handle is before and found.links[position + 1 : position + 2]:
                links = found.links[:position] + found.links[position + 2 :]
                return self.problem(Reference(found.name, found.span, links, found.stored))
        return None

    def _attribute(
        self, handle: Any, link: Link, found: Reference, position: int
    ) -> tuple[Any, Problem | None]:
        """Follows `.name`; the handle is `None` where the path leaves the module tree."""
        name = str(link.value)
        if name in VALUE_ATTRIBUTES or (handle is self.model and name in AT_ROOT):
            return None, _child_meant(handle, link, found, position)
        child = below_root(handle, name)
        if name == "pattern" and child is None and has_heads(handle):
            return None, None
        if name in NAMED_VALUES and child is None and not hasattr(module_of(handle), name):
            if has_named(handle, name):
                return None, None
            said = no_named(name, as_written(found, position), kind_of(handle))
            return None, Problem(link.span, *said)
        if child is None and is_part(handle, name):
            why = why_not(handle, name)
            if why is None or name in self.attached or hasattr(module_of(handle), name):
                return None, None
            message, _, hint = why.partition("\n")
            return None, Problem(link.span, message.rstrip("."), hint.rstrip("."))
        if found.stored and position == len(found.links) - 1:
            return None, _assigned(handle, link, as_written(found, position))
        if child is not None:
            return child, None
        if name == "next":
            return handle, None
        if name in OF_ATTENTION and not (has_heads(handle) or hasattr(module_of(handle), name)):
            return None, _no_such(handle, link, as_written(found, position))
        if name in self.attached or name in HANDLE_ATTRIBUTES or has_attribute(handle, name):
            return None, None
        return None, _no_such(handle, link, as_written(found, position))

    def _index(
        self, handle: Any, link: Link, found: Reference, position: int
    ) -> tuple[Any, Problem | None]:
        """Follows `[i]` on a list of modules. An index that is no literal means any of them."""
        where = as_written(found, position)
        modules = numbered(handle)
        if found.stored and position == len(found.links) - 1:
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
                message = f"{where} has {count} modules, so there is no {where}[{link.value}]"
                return None, Problem(link.span, message, f"indices go from 0 to {count - 1}")
            return modules[link.value], None
        same = len({kind_of(each) for each in modules}) == 1
        return (modules[0] if same and link.value is None and not link.slices else None), None


def _child_meant(handle: Any, link: Link, found: Reference, position: int) -> Problem | None:
    """`attention.output.dense`: of a value asked what only the child of that name has."""
    child = children(handle).get(str(link.value))
    match found.links[position + 1 : position + 2]:
        case (Link("attribute", str(name)),) if child is not None:
            if name not in VALUE_ATTRIBUTES and named(child, name) is None:
                return None
            where = as_written(found, position)
            return Problem(
                link.span,
                f"{where}.{link.value} is what {where} gives, not its module of that name",
                f'write {where}["{link.value}"].{name}',
            )
    return None


def _assigned(handle: Any, link: Link, where: str) -> Problem | None:
    """What is wrong with `module.name = x`: nothing where a module of a new name is attached."""
    name = str(link.value)
    near = did_you_mean(name, VALUE_ATTRIBUTES)
    if not near and below_root(handle, name) is None and not has_attribute(handle, name):
        return None
    return Problem(
        link.span,
        f"{where}.{name} cannot be assigned in a trace",
        near or f"what can be: {where}.output, {where}.input, {where}.inputs",
    )


def _no_such(handle: Any, link: Link, where: str) -> Problem:
    name = str(link.value)
    known = [*children(handle), *standard(handle), *HANDLE_ATTRIBUTES]
    if name in OF_ATTENTION:
        hint = f"a block's attention has it: layers[3].attn.{name}"
        return Problem(link.span, f"{where} ({kind_of(handle)}) is no attention module", hint)
    if _PATTERN.search(name) and has_heads(handle):
        return Problem(
            link.span,
            f"{where} ({kind_of(handle)}) has no {name!r}",
            f"the attention pattern is {where}.pattern",
        )
    hint = did_you_mean(name, known) or did_you_mean(name, dir(module_of(handle)))
    if not hint:
        hint = f"it has {listing([*children(handle), *VALUE_ATTRIBUTES])}"
    return Problem(link.span, f"{where} ({kind_of(handle)}) has no {name!r}", hint)
