"""A trace cell in its phases: asked, prepared, running, finished. Each has a type of its own, and
holds the one before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nnsight_magic.engine.tracing.settings_of_generation import Settings, settings_of
from nnsight_magic.language.program import Program
from nnsight_magic.language.read import read
from nnsight_magic.language.run import Outcome
from nnsight_magic.language.tokens import PromptRow
from nnsight_magic.magics.options import Line
from nnsight_magic.magics.predict import NextTokens
from nnsight_magic.magics.prompts import prompts_of
from nnsight_magic.magics.where import CellPlace
from nnsight_magic.results.record import Guesses

if TYPE_CHECKING:
    from nnsight_magic.results.as_view import OnScreen


class Watcher(Protocol):
    """Watches a generation; entered, it gives arguments for transformers' `generate`."""

    def __enter__(self) -> dict[str, Any]: ...
    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None: ...

    def candidates(self, index: int) -> tuple[Guesses, ...]:
        """For each step of the prompt at `index` what its token was chosen from."""
        ...


class CellText(Protocol):
    """The text of a cell, and what is known when it is read."""

    @property
    def body(self) -> str: ...
    @property
    def place(self) -> CellPlace: ...
    @property
    def model(self) -> Any: ...
    @property
    def namespace(self) -> dict[str, Any]: ...
    @property
    def transform(self) -> Callable[[str], str] | None: ...


@dataclass(frozen=True)
class Asked:
    """A cell as it stands in the notebook, and what it is to run on.

    Attributes:
        number: of the run.
        model, variable: what it runs on, and the notebook's variable that it is in.
        namespace: the notebook's variables.
        transform: turns `%` and `!` lines of the body into Python.
        show: displays a value where the cell stands; it is told the model and the outcome.
        on_screen: where the result is shown, if it is shown by views.
    """

    magic: Literal["trace", "generate"]
    line: Line
    body: str
    place: CellPlace
    number: int
    model: Any
    variable: str
    namespace: dict[str, Any]
    transform: Callable[[str], str] | None = None
    show: Callable[..., None] = print
    on_screen: OnScreen | None = None

    @property
    def settings(self) -> Settings:
        """What a generation is done with, by the line and by the model."""
        return settings_of(self.model.module, self.line.generation)


@dataclass(frozen=True)
class Prepared:
    """A cell that may run: its program, checked, the prompts and their names."""

    asked: Asked
    program: Program
    inputs: Any
    names: tuple[str, ...]


@dataclass(frozen=True)
class Running:
    """A cell that runs.

    Attributes:
        outcome: what came of it, as far as it has come.
        edits: names of the model's edits that are in force.
        wanted: modules whose outputs were asked for in a tree, each with what it gave by step and
            call.
        stream: watches a generation, where views show it.
    """

    prepared: Prepared
    outcome: Outcome
    edits: tuple[str, ...]
    wanted: dict[Any, dict[tuple, Any]] = field(default_factory=dict)
    stream: Watcher | None = None

    @property
    def asked(self) -> Asked:
        return self.prepared.asked

    @property
    def program(self) -> Program:
        return self.prepared.program

    @property
    def rows(self) -> tuple[PromptRow, ...]:
        """The prompts as they stand in the batch."""
        return self.outcome.rows


@dataclass(frozen=True)
class EndOfTrace:
    """What was taken where a cell's own code had ended, and its forward had not.

    Attributes:
        touches: what the cell read and wrote.
        next: what the model predicts, where the result shows it.
        inputs: what to run the model on without the writes, where the result compares.
        wanted: outputs that were asked for in a tree, by their modules.
    """

    touches: tuple[Any, ...]
    next: NextTokens | None = None
    inputs: dict[str, Any] | None = None
    wanted: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EndOfGeneration:
    """The same of a generation: its token ids, and how many of them are the prompts'."""

    touches: tuple[Any, ...]
    sequences: Any
    begin: int
    inputs: dict[str, Any]
    wanted: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """A cell that has run. `end` is `None` where its own code stopped the forward."""

    running: Running
    end: EndOfTrace | EndOfGeneration | None

    @property
    def touches(self) -> tuple[Any, ...]:
        """What the cell read and wrote."""
        return self.running.outcome.report.touches if self.end is None else self.end.touches


def prepare(asked: Asked) -> Prepared:
    """Reads and checks the cell. Raises `CellError` with everything that is wrong with it."""
    inputs, names = prompts_of(asked.line, asked.model, asked.namespace)
    return Prepared(asked, program_of(asked, names), inputs, names)


def program_of(asked: CellText, names: tuple[str, ...], *rules: Any, **how: Any) -> Program:
    """The text of a cell, read and checked. Further arguments are those of `language.read.read`."""
    place = asked.place
    where = place.filename, place.first_line
    return read(
        asked.body, asked.model, asked.namespace, names, *where, asked.transform, *rules, **how
    )
