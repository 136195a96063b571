"""Completion and inspection of paths: what can follow `layers[3].ml`, and what a module is."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nnsight_magic.engine.places.heads import has_heads
from nnsight_magic.language.named import NAMED_VALUES, offers_named
from nnsight_magic.language.names import (
    HANDLE_ATTRIBUTES,
    OF_ATTENTION,
    SWEEP_NAMES,
    TRACE_NAMES,
    VALUE_ATTRIBUTES,
)
from nnsight_magic.language.parts import parts_of
from nnsight_magic.language.paths import literal_index, unwind
from nnsight_magic.language.tree import (
    below_root,
    children,
    is_handle,
    kind_of,
    module_of,
    named,
    numbered,
    standard,
)
from nnsight_magic.near import listing

# Handle attributes that are worth offering; the others are for programs.
OFFERED = ("output", "input", "inputs", "next", "skip", "heads", "pattern", "source", "ops")

_STEP = r"(?:\[[^\[\]]*\]|\(\))*"
_PATH = re.compile(rf"(?<![\w.\])])([^\W\d]\w*{_STEP}(?:\.[^\W\d]\w*{_STEP})*)\.(\w*)$")
_INDEX = re.compile(rf"(?<![\w.\])])([^\W\d]\w*{_STEP}(?:\.[^\W\d]\w*{_STEP})*)\[(-?\d*)$")
_NAME = re.compile(r"(?<![\w.\"'])([^\W\d]\w*)$")
_GRID = re.compile(r"(?<![\w.])grid\.(\w*)$")
_TOKEN = re.compile(r"\[[^\[\]]*,\s*(?:[^\[\],]*:)?([\"'])([^\"']*)$")


@dataclass(frozen=True)
class Candidate:
    """One completion: the text that takes the fragment's place, and a hint for the popup."""

    text: str
    hint: str


@dataclass(frozen=True)
class Completions:
    """Candidates for a fragment of text that stands before the cursor."""

    fragment: str
    candidates: tuple[Candidate, ...]
    exclusive: bool  # nothing else can stand there


def complete(
    line: str,
    model: Any,
    prompts: Iterable[str] = (),
    tokens: Iterable[str] = (),
    shapes: Mapping[str, Any] | None = None,
    *,
    sweeps: bool = False,
) -> Completions | None:
    """What can stand at the end of `line`, the part of a cell's line before the cursor.

    `tokens` are the prompt's, `shapes` what is known of `layers[3].mlp.output` and the like.
    A cell that `sweeps` has names of its own.
    """
    shapes = shapes or {}
    prompts = tuple(prompts)
    if found := _TOKEN.search(line):
        return _tokens(found[2], found[1], tokens)
    if sweeps and (found := _GRID.search(line)):
        points = Candidate("points(", "points that stand side by side")
        return Completions(found[1], (points,) if points.text.startswith(found[1]) else (), True)
    if found := _PATH.search(line):
        if sweeps and found[1] in prompts and "tokens".startswith(found[2] or "-"):
            return _with_tokens(_of_handle(model, found[2], shapes))
        handle = resolve(found[1], model, prompts)
        if handle is None:
            return None
        return _of_handle(handle, found[2], shapes)
    if found := _INDEX.search(line):
        handle = resolve(found[1], model, prompts)
        return None if handle is None else _indices(handle, found[2], shapes)
    if found := _NAME.search(line):
        return _names(found[1], model, prompts, sweeps=sweeps)
    return None


def _with_tokens(found: Completions) -> Completions:
    """The same with `tokens`, the positions of one prompt as an axis."""
    tokens = Candidate("tokens", "the positions of this prompt")
    return Completions(found.fragment, (tokens, *found.candidates), found.exclusive)


def _tokens(fragment: str, quote: str, tokens: Iterable[str]) -> Completions:
    counted: dict[str, int] = {}
    for token in tokens:
        counted[token.strip()] = counted.get(token.strip(), 0) + 1
    found = tuple(
        Candidate(f"{text}{quote}]", "token")
        for text, count in counted.items()
        if text.casefold().startswith(fragment.casefold()) and count == 1 and text
    )
    return Completions(fragment, found, True)


def _of_handle(handle: Any, fragment: str, shapes: Mapping[str, Any]) -> Completions:
    modules = {**children(handle), **standard(handle)}
    found = [Candidate(n, hint(m, shapes)) for n, m in modules.items() if n.isidentifier()]
    for name in OFFERED:
        if name in VALUE_ATTRIBUTES:
            shape = shapes.get(f"{handle.name}.{name}" if handle.name else name)
            found.append(Candidate(name, str(shape) if shape else VALUE_ATTRIBUTES[name]))
        elif has_heads(handle) if name in OF_ATTENTION else hasattr(type(handle), name):
            found.append(Candidate(name, HANDLE_ATTRIBUTES[name]))
    named = (name for name in NAMED_VALUES if name not in modules and offers_named(handle, name))
    for name in named:
        shape = shapes.get(f"{handle.name}.{name}")
        found.append(Candidate(name, str(shape) if shape else NAMED_VALUES[name]))
    for name, text in parts_of(handle).items():
        shape = shapes.get(f"{handle.name}.{name}" if handle.name else name)
        found.append(Candidate(name, str(shape) if shape else text))
    picked = tuple(each for each in found if each.text.startswith(fragment))
    return Completions(fragment, picked, True)


def _indices(handle: Any, fragment: str, shapes: Mapping[str, Any]) -> Completions:
    found = tuple(
        Candidate(f"{name}]", hint(child, shapes))
        for name, child in children(handle).items()
        if name.isdigit() and name.startswith(fragment)
    )
    return Completions(fragment, found, True)


def _names(fragment: str, model: Any, prompts: Iterable[str], *, sweeps: bool) -> Completions:
    known = {**SWEEP_NAMES, **TRACE_NAMES} if sweeps else TRACE_NAMES
    found = [Candidate(name, f"trace: {text}") for name, text in known.items()]
    found += [Candidate(name, "prompt") for name in prompts]
    modules = {**children(model), **standard(model)} if model is not None else {}
    found += [Candidate(n, kind_of(m)) for n, m in modules.items() if n not in TRACE_NAMES]
    picked = tuple(each for each in found if each.text.startswith(fragment))
    return Completions(fragment, picked, False)


def resolve(path: str, model: Any, prompts: Iterable[str] = ()) -> Any:
    """The handle that a path as written in a cell means, or `None`.

    An index that is no literal stands for the first module of its list.
    """
    try:
        node = ast.parse(path, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    root, nodes = unwind(node)
    if not isinstance(root, ast.Name) or model is None:
        return None
    handle = model if root.id in ("model", *prompts) else named(model, root.id)
    for part in nodes:
        if not is_handle(handle):
            return None
        handle = _follow(handle, part)
    return handle if is_handle(handle) else None


def _follow(handle: Any, part: ast.expr) -> Any:
    match part:
        case ast.Attribute(attr="next") | ast.Call():
            return handle
        case ast.Attribute(attr=name):
            return below_root(handle, name)
        case ast.Subscript(slice=index):
            wanted = literal_index(index)
            if isinstance(wanted, str):
                return children(handle).get(wanted)
            modules = numbered(handle)
            position = wanted if isinstance(wanted, int) else 0
            return modules[position] if -len(modules) <= position < len(modules) else None
    return None


def hint(handle: Any, shapes: Mapping[str, Any]) -> str:
    """`LlamaMLP (1, 8, 576)`: the class, and the shape of the output where it is known."""
    shape = shapes.get(f"{handle.name}.output")
    return f"{kind_of(handle)} {shape}" if shape else kind_of(handle)


def about(
    handle: Any, seen: Mapping[str, Any] | None = None, scanned: Mapping[str, Any] | None = None
) -> str:
    """What `layers[3].mlp?` shows: class, parameters, shapes of the values, source.

    `seen` are the shapes that cells have met, `scanned` those that a scan of the model tells.
    """
    seen, scanned = seen or {}, scanned or {}
    module = module_of(handle)
    cls = type(module)
    lines = [f"{handle.name or 'model'}: {cls.__name__} ({cls.__module__})"]
    if handle.path and handle.path != handle.name:
        lines.append(f"path: {handle.path}")
    parameters = list(module.named_parameters())
    if parameters:
        total = sum(p.numel() for _, p in parameters)
        first = parameters[0][1]
        dtype = str(first.dtype).removeprefix("torch.")
        lines.append(f"parameters: {total:,} ({dtype}, {first.device})")
        shown = parameters[:8]
        width = max(len(name) for name, _ in shown)
        lines += [f"  {name.ljust(width)}  {tuple(p.shape)}" for name, p in shown]
        if len(parameters) > len(shown):
            lines.append(f"  … {len(parameters) - len(shown)} more")
    modules = [f"{name} ({kind_of(child)})" for name, child in children(handle).items()]
    if modules and not parameters[8:]:
        lines.append(f"modules: {listing(modules)}")
    for kind in ("input", "output"):
        name = f"{handle.name}.{kind}" if handle.name else kind
        shapes = [str(scanned[name])] if name in scanned else []
        shapes += [f"seen last: {seen[name]}"] if name in seen else []
        if shapes:
            lines.append(f"{kind}: {', '.join(shapes)}")
    if extra := module.extra_repr():
        lines.append(f"settings: {extra}")
    try:
        lines.append(f"forward: {inspect.signature(cls.forward)}".replace("(self, ", "("))
        source = inspect.getsourcefile(cls.forward)
        lines.append(f"source: {source}:{inspect.getsourcelines(cls.forward)[1]}")
    except (OSError, TypeError, ValueError):
        pass  # a class without a source file, defined at a prompt
    return "\n".join(lines)
