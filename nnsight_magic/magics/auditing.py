"""`%audit` and `%%audit`: a cell run aside, each of its writes checked; no variable changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from nnsight_magic.analyses.auditing import Audit, audit_of, end_of
from nnsight_magic.errors import OptionError
from nnsight_magic.language.run import Outcome
from nnsight_magic.language.run import run as run_program
from nnsight_magic.magics.analysis import literal_of
from nnsight_magic.magics.cell import Asked, Prepared, prepare
from nnsight_magic.magics.options import Line, read_line
from nnsight_magic.magics.where import CellPlace


@dataclass(frozen=True)
class CellOf:
    """A cell as it stood in the notebook: what `%audit` is of."""

    magic: str
    line: str
    body: str
    place: CellPlace


class Session(Protocol):
    """What is known of the notebook."""

    shell: Any
    models: Any

    @property
    def settings(self) -> dict[str, Any]: ...


def asked(
    cell: CellOf | None, read: Line, session: Session, transform: Callable[[str], str]
) -> Asked:
    """The cell as a trace, on a copy of the notebook's variables.

    Args:
        cell: the audit's own, or the last one; `None` where none has run.
        read: the line of the audit.
        session: the notebook's.
        transform: turns `%` and `!` lines of the body into Python.

    Raises:
        OptionError: there is no such cell, or it is none of a trace.
    """
    namespace = dict(session.shell.user_ns)
    if cell is None:
        raise OptionError("no cell has run yet; %audit is of the last %%trace cell")
    if cell.magic == "audit":
        line = read
        if not cell.body.strip():
            raise OptionError("the cell is empty; write below the line what to change")
    else:
        if read.prompts or read.words or read.prompt is not None or read.file is not None:
            raise OptionError("%audit is of the last cell, and takes no prompt: %%audit does")
        if cell.magic != "trace":
            raise OptionError(
                f"the last cell was a %%{cell.magic}; an audit is of a %%trace cell: of one forward"
            )
        line = read_line("trace", cell.line, session.settings, namespace)
    name, model = session.models.find(line.model)
    return Asked(
        "trace", line, cell.body, cell.place, 0, model, name, namespace, transform, _silent, None
    )


def run(prepared: Prepared) -> Audit:
    """Runs the cell, and checks what it wrote.

    Raises:
        BadInputError: it wrote nothing, or did not come to its end.
    """
    __tracebackhide__ = True
    cell, program, outcome = prepared.asked, prepared.program, Outcome()
    trace = cell.model.trace(prepared.inputs, grad=program.wants_gradients)
    at_end = end_of(program, outcome)
    run_program(program, trace, cell.namespace, outcome, prepared.names, _silent, at_end=at_end)
    return audit_of(outcome)


def code(cell: Asked) -> str:
    """The Python that does the same."""
    prepared = prepare(cell)
    text = prepared.program.python.strip("\n")
    plain = '"""' not in text and "\\" not in text
    body = f'"""\n{text}\n"""' if plain else repr(text)
    prompt = literal_of(cell.line, prepared.inputs, prepared.names)
    given = f"{cell.variable}, {prompt}, {body}, names=globals()"
    return f"from nnsight_magic import analyses\n\nfound = analyses.audit({given})\nfound"


def _silent(*_: Any, **__: Any) -> None:
    """Of what the cell shows itself, nothing is shown here."""
