"""The object behind a cell's trace names while it runs: `logits` is an attribute of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from typing import Any

import torch

from nnsight_magic.engine.places.own_names import of_user
from nnsight_magic.engine.sweeping.axes import PromptBatch
from nnsight_magic.engine.tracing.step import Step
from nnsight_magic.language.keep import stacked, without_run
from nnsight_magic.language.names import VALUE_ATTRIBUTES
from nnsight_magic.language.rows import Row
from nnsight_magic.language.sources import Names, Sources
from nnsight_magic.language.tokens import ByText, PromptRow, prompt_rows
from nnsight_magic.language.tree import below_root

_MISSING = object()


class Scope:
    """The names of one trace. Attributes without underscore are what a cell can write.

    Args:
        tracer: the running trace.
        namespace: the notebook's variables.
        names: names of the prompts, in the order of the rows; empty where they have none.
        show: displays a value in the notebook; where it takes `text`, that says how the value is
            written.
    """

    def __init__(
        self,
        tracer: Any,
        namespace: dict[str, Any],
        names: tuple[str, ...] = (),
        show: Callable[..., None] = print,
    ) -> None:
        put = object.__setattr__
        put(self, "model", tracer.model)
        put(self, "_tracer", tracer)
        put(self, "_namespace", namespace)
        put(self, "_names", names)
        put(self, "_show", show)
        put(self, "_told", "text" in _parameters(show))
        put(self, "_step", None)
        put(self, "_collected", {})
        put(self, "_noted", {})
        put(self, "_saved", {})
        put(self, "_rows_made", None)
        put(self, "_touched", {})
        put(self, "_sources", Sources(namespace))

    # -- names ----------------------------------------------------------------------------------

    @property
    def tokens(self) -> torch.Tensor:
        """Token ids `(batch, tokens)`; in a step, all tokens so far."""
        if self._step is not None:
            return self._step.tokens
        return self._tracer.input_ids

    @property
    def prompt(self) -> Any:
        prompts = self._tracer.prompts
        return prompts[0] if prompts is not None and len(prompts) == 1 else prompts

    @property
    def steps(self) -> Iterator[Step]:
        """The steps; what the cell assigns in each is collected when the step is over."""
        for step in self._tracer.steps:
            object.__setattr__(self, "_step", step)
            self._noted.clear()
            try:
                yield step
            finally:
                self._end_step()

    def __getattr__(self, name: str) -> Any:
        if name in self._names:
            rows = self._rows()
            row = rows[self._names.index(name)]
            batch = PromptBatch(len(rows), row.width, self._tracer.rows_of_prompt)
            return Row(self.model, row, batch, self._touched, self._tracer)
        return of_user(self.model, name)

    def __setattr__(self, name: str, new: Any) -> None:
        setattr(self.model, name, new)

    def save(self, *values: Any, **named: Any) -> Any:
        """`save(x)` gives a plain copy that nothing changes any more; `save(h=x)` puts it into the
        notebook as `h`, from inside functions too."""
        for name, value in named.items():
            self._namespace[name] = without_run(copied(value))
            self._saved[name] = self._namespace[name]
            self._sources.assign((name,), (), False, value)
            if self._step is not None:
                self._noted[name] = self._namespace[name]
        copies = tuple(without_run(copied(value)) for value in values)
        return copies[0] if len(copies) == 1 else (copies or None)

    def show(self, *values: Any) -> None:
        """Displays values below the cell, and keeps none of them."""
        for value in values:
            self._display(value, value.where if isinstance(value, torch.Tensor) else "")

    # -- what the rewriting calls ---------------------------------------------------------------

    def _show_last(self, value: Any, text: str) -> None:
        if value is not None:
            self._display(value, text)

    def _display(self, value: Any, text: Any) -> None:
        told = {"text": text} if self._told and isinstance(text, str) else {}
        self._show(without_run(copied(value)), **told)

    def _of_model(self, name: str) -> Any:
        """`model.name`, where `name` may also stand in the model's child called `model`."""
        found = below_root(self.model, name) if name not in VALUE_ATTRIBUTES else None
        return of_user(self.model, name) if found is None else found

    def _by_text(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        row = getattr(value, "_row", None)
        return ByText(value, (row,) if row is not None else self._rows(), self.model)

    def _note(self, *names: str) -> None:
        """These names have just been assigned in the current step."""
        for name in names:
            value = self._namespace.get(name, _MISSING)
            if value is not _MISSING:
                self._noted[name] = value

    def _begin(self) -> None:
        """An expression is evaluated now: what is read from here on is read for it."""
        self._sources.begin()

    def _from(self, _: None, names: Names, used: Names, adds: bool, value: Any) -> Any:
        """`value` is the expression's, and is assigned to `names` or put into what they hold."""
        self._sources.assign(names, used, adds, value)
        return value

    def _forget(self, *names: str) -> None:
        for name in names:
            self._noted.pop(name, None)

    def _gather(self, *names: str) -> None:
        """The loop over the steps is over: its names now hold the values of all steps."""
        for name in names or tuple(self._collected):
            values = self._collected.pop(name, None)
            if values:
                self._namespace[name] = stacked(values)

    def _end_step(self) -> None:
        # Copied now: what a later step does to a value must not change what this one saved.
        for name, value in self._noted.items():
            self._collected.setdefault(name, []).append(without_run(copied(value)))
        self._noted.clear()

    def _rows(self) -> tuple[PromptRow, ...]:
        rows = self._rows_made
        if rows is None:
            rows = prompt_rows(self._tracer, self._names)
            object.__setattr__(self, "_rows_made", rows)
        return rows


def _parameters(function: Callable[..., None]) -> Mapping[str, Any]:
    try:
        return signature(function).parameters
    except (TypeError, ValueError):  # a function of C that says nothing of itself
        return {}


def copied(value: Any) -> Any:
    """A copy of what is a tensor (or in a container), so that later writes do not reach it."""
    if isinstance(value, torch.Tensor):
        return value.clone() if hasattr(value, "_pause") else value.detach().clone()
    if isinstance(value, list):
        return [copied(item) for item in value]
    if type(value) is tuple:
        return tuple(copied(item) for item in value)
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    return value
