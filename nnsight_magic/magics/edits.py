"""`%%edit` makes an edit of the model, `%edits` lists, switches, removes, stores and loads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from nnsight_magic.engine.editing.edits import Edit, Edits
from nnsight_magic.errors import NnsightError, OptionError
from nnsight_magic.language.edit import edit_problems, record
from nnsight_magic.language.program import Program
from nnsight_magic.language.read import read
from nnsight_magic.magics.options import Line
from nnsight_magic.magics.where import CellPlace
from nnsight_magic.near import did_you_mean
from nnsight_magic.terminal import rendered, table_of

_STEPS = re.compile(r"(\d+)(?:-(\d+))?")


def prepared(
    line: Line,
    body: str,
    place: CellPlace,
    model: Any,
    namespace: dict[str, Any],
    transform: Callable[[str], str] | None,
) -> tuple[Program, Edit]:
    """The program of an `%%edit` cell, checked, and the edit that it is recorded in."""
    given = [*line.words, *line.prompts]
    if len(given) > 1:
        raise OptionError(f'an edit has one name; put quotation marks around it: "{given[0]} …"')
    steps = steps_of(line.steps)
    program = read(
        body,
        model,
        namespace,
        (),
        place.filename,
        place.first_line,
        transform,
        edit_problems,
    )
    return program, model.edit(given[0] if given else None, inplace=True, steps=steps)


def steps_of(text: str | None) -> tuple[int, ...] | None:
    """`"0,2-4"` as `(0, 2, 3, 4)`; `None` stands for every step."""
    if text is None:
        return None
    steps: dict[int, None] = {}
    for part in text.split(","):
        found = _STEPS.fullmatch(part.strip())
        if found is None:
            raise OptionError(f"{text!r} names no steps; such as --steps 0 or --steps 0,2-4")
        steps.update(dict.fromkeys(range(int(found[1]), int(found[2] or found[1]) + 1)))
    return tuple(steps)


def make(
    program: Program,
    edit: Edit,
    model: Any,
    name: str,
    namespace: dict[str, Any],
    show: Callable[..., None],
) -> str:
    """Records the edit; gives what the cell shows."""
    __tracebackhide__ = True
    replaces = edit.name in model.edits
    record(program, edit, model, namespace, show)
    verb = "replaced" if replaces else "made"
    at = f" at {steps_text(edit)}" if edit.steps is not None else ""
    lines = [f"edit {edit.name!r} {verb}: every trace and generation of {name} has it{at} now"]
    lines += [f"  {as_text(each, model)}" for each in edit.writes]
    return "\n".join(lines)


def carry_out(line: Line, name: str, model: Any) -> str:
    """What `%edits` prints, once it has done what its options say."""
    edits: Edits = model.edits
    asked = [each for each in ("on", "off", "remove", "save", "load") if getattr(line, each)]
    if len(asked) > 1:
        raise OptionError(f"one at a time: --{asked[0]} or --{asked[1]}")
    names = [*line.words, *line.prompts]
    for each in names:
        if each not in edits:
            near = did_you_mean(each, edits) or "%edits lists them"
            raise OptionError(f"{name} has no edit {each!r}; {near}")
    picked = names or list(edits)
    match asked:
        case ["save"]:
            return _store(edits, line.save, names)
        case ["load"]:
            return _load(edits, line.load, name)
        case ["remove"]:
            for each in picked:
                edits[each].remove()
            return f"removed {', '.join(picked)}" if picked else f"{name} has no edits"
        case ["on" | "off"]:
            for each in picked:
                edits[each].enabled = bool(line.on)
    return table(name, model, picked)


def _store(edits: Edits, path: str, names: list[str]) -> str:
    if names:
        raise OptionError("--save stores all edits of the model; remove what should not be there")
    if not edits:
        raise OptionError("there are no edits to store")
    try:
        edits.save(path)
    except OSError as error:
        raise OptionError(f"{path!r} cannot be written: {error.strerror or error}") from None
    return f"stored {', '.join(edits)} in {path}"


def _load(edits: Edits, path: str, name: str) -> str:
    try:
        loaded = edits.load(path)
    except OSError as error:
        raise OptionError(f"{path!r} cannot be read: {error.strerror or error}") from None
    except NnsightError:
        raise
    except Exception as error:  # safetensors has errors of its own for what is no such file
        raise OptionError(f"{path!r} holds no edits: {error}") from None
    return f"loaded {', '.join(each.name for each in loaded)} into {name}"


def table(name: str, model: Any, names: list[str]) -> str:
    """One row a write: the edit, whether it is on, at which steps, what it writes."""
    if not names:
        return f"{name} has no edits; make one with %%edit NAME"
    rows = []
    for each in names:
        edit = model.edits[each]
        state = "on" if edit.enabled else "off"
        for k, write in enumerate(edit.writes):
            head = ("", "", "") if k else (each, state, steps_text(edit))
            rows.append((*head, as_text(write, model)))
    return rendered(table_of(("edit", "", "at", "writes"), rows))


def steps_text(edit: Edit) -> str:
    if edit.steps is None:
        return ""
    return f"step{'s' * (len(edit.steps) != 1)} {', '.join(map(str, edit.steps))}"


def as_text(write: Any, model: Any) -> str:
    """The write as a cell says it: `layers[3].mlp.output[:, -1] = 0`."""
    text = str(write)
    if not write.path:
        return text.removeprefix(".")
    return model[write.path].name + text[len(write.path) :]
