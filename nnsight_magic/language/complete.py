"""Completion and inspection of paths: what can follow `layers[3].ml`, and what a module is."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nnsight_magic.language.names import (
    HANDLE_ATTRIBUTES,
    TRACE_NAMES,
    VALUE_ATTRIBUTES,
)
from nnsight_magic.language.paths import literal_index, unwind

MODULE_NAMES = ("layers", "embed", "norm", "unembed")
# Handle attributes that are worth offering; the others are for programs.
OFFERED = ("output", "input", "inputs", "next", "skip", "heads", "source", "ops")

_STEP = r"(?:\[[^\[\]]*\]|\(\))*"
_PATH = re.compile(rf"(?<![\w.\])])([^\W\d]\w*{_STEP}(?:\.[^\W\d]\w*{_STEP})*)\.(\w*)$")
_INDEX = re.compile(rf"(?<![\w.\])])([^\W\d]\w*{_STEP}(?:\.[^\W\d]\w*{_STEP})*)\[(-?\d*)$")
_NAME = re.compile(r"(?<![\w.\"'])([^\W\d]\w*)$")
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
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Completions | None:
    """What can stand at the end of `line`, the part of a cell's line before the cursor.

    `tokens` are the prompt's, `shapes` what was seen last at `layers[3].mlp.output` and the like.
    """
    shapes = shapes or {}
    prompts = tuple(prompts)
    if found := _TOKEN.search(line):
        return _tokens(found[2], found[1], tokens)
    if found := _PATH.search(line):
        handle = resolve(found[1], model, prompts)
        if handle is None:
            return None
        return _of_handle(handle, found[2], shapes)
    if found := _INDEX.search(line):
        handle = resolve(found[1], model, prompts)
        return None if handle is None else _indices(handle, found[2], shapes)
    if found := _NAME.search(line):
        return _names(found[1], model, prompts)
    return None


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


def _of_handle(handle: Any, fragment: str, shapes: Mapping[str, tuple[int, ...]]) -> Completions:
    found = []
    children = handle.children()
    for name, child in children.items():
        if name.isidentifier():
            found.append(Candidate(name, hint(child, shapes)))
    for name in (*MODULE_NAMES, "attn", "mlp"):
        if name not in children:
            child = getattr(handle, name, None) if _may_have(handle, name) else None
            if child is not None and hasattr(child, "children"):
                found.append(Candidate(name, hint(child, shapes)))
    for name in OFFERED:
        if name in VALUE_ATTRIBUTES:
            shape = shapes.get(f"{handle.name}.{name}")
            found.append(Candidate(name, str(shape) if shape else VALUE_ATTRIBUTES[name]))
        elif hasattr(type(handle), name):
            found.append(Candidate(name, HANDLE_ATTRIBUTES[name]))
    picked = tuple(each for each in found if each.text.startswith(fragment))
    return Completions(fragment, picked, True)


def _may_have(handle: Any, name: str) -> bool:
    """Standard names stand at the root (`layers`, …) and in blocks (`attn`, `mlp`) only."""
    return (handle.path == "") == (name in MODULE_NAMES)


def _indices(handle: Any, fragment: str, shapes: Mapping[str, tuple[int, ...]]) -> Completions:
    children = handle.children()
    found = tuple(
        Candidate(f"{name}]", hint(child, shapes))
        for name, child in children.items()
        if name.isdigit() and name.startswith(fragment)
    )
    return Completions(fragment, found, True)


def _names(fragment: str, model: Any, prompts: Iterable[str]) -> Completions:
    found = [Candidate(name, f"trace: {text}") for name, text in TRACE_NAMES.items()]
    found += [Candidate(name, "prompt") for name in prompts]
    children = model.children() if model is not None else {}
    found += [
        Candidate(name, kind_of(child))
        for name, child in children.items()
        if name not in TRACE_NAMES
    ]
    picked = tuple(each for each in found if each.text.startswith(fragment))
    return Completions(fragment, picked, False)


def resolve(path: str, model: Any, prompts: Iterable[str] = ()) -> Any:
    """The handle that a path as written in a cell means, or `None`.

    An index that is no literal stands for the first module of its list.
    """
    try:
        node = ast.parse(path, mode="eval").body
    except (SyntaxError, ValueError):
        return None
    root, nodes = unwind(node)
    if not isinstance(root, ast.Name) or model is None:
        return None
    if root.id == "model" or root.id in prompts:
        handle = model
    elif root.id in MODULE_NAMES or root.id in model.children():
        handle = getattr(model, root.id, None)
    else:
        return None
    for part in nodes:
        if handle is None or not hasattr(handle, "children"):
            return None
        handle = _follow(handle, part)
    return handle if hasattr(handle, "children") else None


def _follow(handle: Any, part: ast.expr) -> Any:
    match part:
        case ast.Attribute(attr="next") | ast.Call():
            return handle
        case ast.Attribute(attr=name):
            return None if name in HANDLE_ATTRIBUTES else getattr(handle, name, None)
        case ast.Subscript(slice=index):
            numbered = [n for n in handle.children() if n.isdigit()]
            wanted = literal_index(index)
            if isinstance(wanted, str):
                return handle.children().get(wanted)
            position = wanted if isinstance(wanted, int) else 0
            if not -len(numbered) <= position < len(numbered):
                return None
            return handle.children()[numbered[position]]
    return None


def kind_of(handle: Any) -> str:
    """The class of the handle's module."""
    root = handle._root if handle.path == "" else handle.module
    return type(root).__name__


def hint(handle: Any, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """`LlamaMLP (1, 8, 576)`: the class, and the shape of the output seen last."""
    shape = shapes.get(f"{handle.name}.output")
    return f"{kind_of(handle)} {shape}" if shape else kind_of(handle)


def about(handle: Any, shapes: Mapping[str, tuple[int, ...]] | None = None) -> str:
    """What `layers[3].mlp?` shows: class, parameters with shapes, values seen, source."""
    shapes = shapes or {}
    module = handle._root if handle.path == "" else handle.module
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
    children = handle.children()
    if children and not parameters[8:]:
        lines.append(
            "modules: " + ", ".join(f"{n} ({kind_of(c)})" for n, c in list(children.items())[:8])
        )
    for kind in ("input", "output"):
        if shape := shapes.get(f"{handle.name}.{kind}"):
            lines.append(f"{kind} seen last: {shape}")
    if extra := module.extra_repr():
        lines.append(f"settings: {extra}")
    try:
        lines.append(f"forward: {inspect.signature(cls.forward)}".replace("(self, ", "("))
        source = inspect.getsourcefile(cls.forward)
        lines.append(f"source: {source}:{inspect.getsourcelines(cls.forward)[1]}")
    except (OSError, TypeError, ValueError):
        pass  # a class without a source file, defined at a prompt
    return "\n".join(lines)
