"""The value of a trace cell: its record, with the ways to show it, compare it and store it.

It keeps neither the model's activations nor the graph alive: see `record`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from nnsight_magic.results.record import Extent, RunModel, RunRecord


def _of(path: str) -> Any:
    """A part of the record, by the name that users write."""
    return property(attrgetter(f"record.{path}"))


@dataclass(frozen=True, repr=False)
class TraceResult:
    """What a `%%trace` or `%%generate` cell gives.

    Attributes:
        number: the run's number in this session, as `%runs` lists it.
        model, variable: what the model is called, and the variable it was in.
        edits: the names of the model's edits that were in force.
        prompts: one `PromptResult` for each row of the batch.
        saved: the variables that the cell saved.
        blocks_run, blocks: decoder blocks that ran, and those there are.
        stopped_at: the last thing that ran where the forward ended early, else `None`.
        resumed_at: the first block that ran, where those before it were remembered.
        seconds: time of the cell's run, `forwards` how many forwards it took.
        failed: "interrupted", or which error ended the cell; else "".
        extent: how far the run went, in words.
        wrote, read: names of what the cell wrote and read, such as `layers[22].mlp.output`.
        notices: what the user should know about the run.
        source: the cell's text.
        modules: the modules that were read or written.
        idle: paths of the blocks that were not run.
        sizes: the model's own sizes by role, such as `{"feature": 576}`.
        vocabulary: gives the text of a token id.
    """

    record: RunRecord
    on_screen: Any = field(default=None, compare=False)

    magic, number, source = _of("magic"), _of("number"), _of("source")
    model, variable, edits = _of("model.name"), _of("model.variable"), _of("model.edits")
    sizes, vocabulary = _of("model.sizes"), _of("model.vocabulary")
    prompts, saved, notices = _of("prompts"), _of("saved"), _of("notices")
    wrote, read, modules = _of("wrote"), _of("read"), _of("modules")
    extent, failed = _of("extent"), _of("ran.failed")
    blocks_run, blocks, idle = _of("ran.blocks_run"), _of("ran.blocks"), _of("ran.idle")
    stopped_at, resumed_at = _of("ran.stopped_at"), _of("ran.resumed_at")
    forwards, seconds, time = _of("ran.forwards"), _of("ran.seconds"), _of("ran.time")

    def __getitem__(self, name: str) -> Any:
        """The saved tensor of that name, while a variable still holds it."""
        for each in self.saved:
            if each.name == name:
                return each.tensor
        raise KeyError(f"{name!r} was not saved; saved: {', '.join(s.name for s in self.saved)}")

    # -- shown --------------------------------------------------------------------------------

    def __repr__(self) -> str:
        from nnsight_magic.results.as_text import plain_text

        return plain_text(self.record)

    def _repr_html_(self) -> str:
        from nnsight_magic.results.as_html import html

        return html(self.record)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        from nnsight_magic.results.as_text import terminal_text

        printer.text(terminal_text(self.record))

    def _ipython_display_(self) -> None:
        """The live view with its still twin, where there is a notebook; else as any object."""
        if self.on_screen is None:
            raise NotImplementedError
        self.on_screen.show(self.record)

    @property
    def view(self) -> Any:
        """The view of this result, a `TraceView`: what it shows can be read and set by Python."""
        from nnsight_magic.results.as_view import view_of

        return view_of(self.record) if self.on_screen is None else self.on_screen.view(self.record)

    def compare(self, other: TraceResult) -> Any:
        """This run and another side by side: predictions, and saved tensors with differences."""
        from nnsight_magic.results.as_view import comparison_of

        return comparison_of(self.record, other.record)

    def save_html(self, path: Any) -> None:
        """Writes one self-contained interactive page, for a browser without a kernel."""
        self.view.save_html(path)

    # -- stored -------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {"record": self.record, "on_screen": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes the flat form too, in which results were stored before there were records."""
        if "record" not in state:
            state = {"record": _record_of(state), "on_screen": None}
        self.__dict__.update(state)


def _record_of(flat: dict[str, Any]) -> RunRecord:
    """The record of a result whose parts were all attributes of it."""

    def some(*names: str) -> dict[str, Any]:
        return {name: flat[name] for name in names if name in flat}

    return RunRecord(
        model=RunModel(flat["model"], **some("variable", "edits", "sizes", "vocabulary")),
        ran=Extent(
            **some("blocks_run", "blocks", "idle", "stopped_at", "resumed_at"),
            **some("forwards", "seconds", "failed"),
        ),
        **some("magic", "number", "prompts", "saved", "wrote", "read"),
        **some("modules", "notices", "source"),
    )
