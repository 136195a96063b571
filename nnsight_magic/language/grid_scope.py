"""The trace's names in a sweep's cell: in its loop, whose body is a point, and around it."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.engine.sweeping.axes import PromptBatch
from nnsight_magic.engine.sweeping.reference import Reference
from nnsight_magic.errors import BadInputError, NnsightError
from nnsight_magic.language.keep import stacked, without_run
from nnsight_magic.language.rows import Row
from nnsight_magic.language.scope import Scope, copied
from nnsight_magic.language.tokens import PromptRow, position, token_texts


@dataclass(frozen=True)
class Untraced:
    """What a scope asks of a trace, where none runs.

    Attributes:
        model: the wrapped model.
        input_ids, attention_mask: of the prompts, `(batch, tokens)`.
        prompts: the prompts as text.
    """

    model: Any
    input_ids: torch.Tensor | None
    attention_mask: torch.Tensor | None
    prompts: list[str] | None
    rows_of_prompt: int = 1

    @property
    def steps(self) -> Iterator[Any]:
        raise NnsightError("A sweep has no steps: every point is one forward.")


class Positions(Sequence[int]):
    """The positions of a prompt's tokens, as an axis; a slice may have texts for ends."""

    def __init__(self, row: PromptRow, at: range | None = None):
        self._row, self._at = row, range(len(row.tokens)) if at is None else at

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop = (
                position(each, self._row) if isinstance(each, str) else each
                for each in (index.start, index.stop)
            )
            return Positions(self._row, self._at[start : stop : index.step])
        if isinstance(index, str):
            return position(index, self._row)
        return self._at[index]

    @property
    def words(self) -> tuple[str, ...]:
        """The tokens at these positions."""
        return tuple(self._row.tokens[each] for each in self._at)


class Prompts(tuple):
    """The prompts of a sweep as an axis: each point runs on its own."""


class NamedReference(Reference):
    """A prompt that the sweep only reads, by its name; its values know its tokens."""

    __slots__ = ("_ids", "_row", "_text")

    def __init__(
        self, place: Any, reading: Any, name: str, row: PromptRow, ids: torch.Tensor, text: Any
    ):
        super().__init__(place, reading, name)
        put = object.__setattr__
        put(self, "_row", row)
        put(self, "_ids", ids)
        put(self, "_text", text)

    def __getattr__(self, name: str) -> Any:
        if not self._place.path and name in ("tokens", "prompt"):
            return self._ids if name == "tokens" else self._text
        return super().__getattr__(name)

    def _of_reference(self, found: Any) -> Any:
        if isinstance(found, list):
            return [self._of_reference(each) for each in found]
        if hasattr(found, "ancestors"):
            given = (self._reading, self._name, self._row, self._ids, self._text)
            return NamedReference(found, *given)
        return self._seen(found)

    def _seen(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and hasattr(value, "where"):
            value._row = self._row  # pyright: ignore[reportAttributeAccessIssue]
        return value


class AroundPoints(Scope):
    """The names before a loop and behind it.

    Args:
        tracer: the running trace, or what stands for it.
        namespace: the notebook's variables.
        names: of the prompts.
        show: displays a value.
        grid: makes a grid of named axes.
        main: the named prompt that the loop changes.
    """

    def __init__(
        self,
        tracer: Any,
        namespace: dict[str, Any],
        names: tuple[str, ...],
        show: Callable[..., None],
        grid: Any,
        main: str | None = None,
    ):
        super().__init__(tracer, namespace, names, show)
        put = object.__setattr__
        put(self, "grid", grid)
        put(self, "_main", main)
        put(self, "_locals", builtins.locals)

    @property
    def heads(self) -> range:
        """The numbers of a block's heads."""
        return range(len(self.model.layers[0].attn.heads))

    def _positions(self, name: str | None = None) -> Positions:
        """The positions of a prompt's tokens; without a name, of all prompts alike.

        The words are then those of the prompt that the loop changes.
        """
        rows = self._rows()
        if name is not None and name in self._names:
            return Positions(rows[self._names.index(name)])
        if len({len(row.tokens) for row in rows}) > 1:
            raise BadInputError(_unlike_lengths(rows))
        main = self._main
        return Positions(rows[self._names.index(main)] if main in self._names else rows[0])

    def _prompts(self) -> Prompts:
        """The prompts, each of which its points run on."""
        given = self._tracer.prompts
        if given is None:
            raise BadInputError("An axis of prompts takes texts, and these are token ids.")
        return Prompts(given)


class OfPoint(AroundPoints):
    """The names in the loop's body: those of the point that runs."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        put = object.__setattr__
        put(self, "_references", {})
        put(self, "_alone", {})
        put(self, "_given", None)
        # Of points that are under way, by the frame of each.
        put(self, "_noted_in", {})
        put(self, "_told_in", {})
        put(self, "_step_in", {})

    def take_references(self, given: Mapping[str, Reference]) -> None:
        """The prompts that are only read, as the sweep gives them to every point."""
        first = next(iter(given.values()), None)
        if first is self._given:
            return
        object.__setattr__(self, "_given", first)
        rows, ids, prompts = self._rows_of_all(), self._tracer.input_ids, self._tracer.prompts
        for name, each in given.items():
            row = rows[self._names.index(name)]
            mine = ids[row.index : row.index + 1, row.start : row.stop]
            text = None if prompts is None else prompts[row.index]
            alone = _alone(row)
            self._references[name] = NamedReference(
                each._place, each._reading, name, alone, mine, text
            )

    def _rows_of_all(self) -> tuple[PromptRow, ...]:
        return super()._rows()

    def _rows(self) -> tuple[PromptRow, ...]:
        """The prompt that this point runs on, alone; or all rows of a batch."""
        ids = self._ids_now()
        key = (ids.data_ptr(), tuple(ids.shape))
        found = self._alone.get(key)
        if found is None:
            if self._main is not None:
                found = (_alone(self._rows_of_all()[self._names.index(self._main)]),)
            else:
                found = _rows(ids, self.model)
            self._alone[key] = found
        return found

    def _ids_now(self) -> torch.Tensor:
        return self.model._turn.active.inputs_now["input_ids"]

    @property
    def tokens(self) -> torch.Tensor:
        step = self._step_in.get(sys._getframe(1))
        return self._ids_now() if step is None else step.tokens

    @property
    def prompt(self) -> Any:
        prompts = self.model._turn.active.prompts_now
        return prompts[0] if prompts is not None and len(prompts) == 1 else prompts

    def __getattr__(self, name: str) -> Any:
        if name in self._references:
            return self._references[name]
        if name == self._main:
            (row,) = self._rows()
            return Row(self.model, row, PromptBatch(1, row.width), self._touched, _Alone(self))
        return super().__getattr__(name)

    def save(self, *values: Any, **named: Any) -> Any:
        """Copies; a name is collected where it is assigned."""
        if named:
            raise NnsightError(
                "In a sweep a name is collected where it is assigned: "
                f"{next(iter(named))} = …\nsave(name=…) would keep the last point's alone."
            )
        return super().save(*values)

    # -- along a text ----------------------------------------------------------------------------

    @property
    def steps(self) -> Iterator[Any]:
        """The steps of this point's text."""
        frame = sys._getframe(1)
        noted, told = self._noted_in.setdefault(frame, {}), self._told_in.setdefault(frame, {})
        for step in self.model._turn.active.steps:
            self._step_in[frame] = step
            noted.clear()
            try:
                yield step
            finally:
                for name, value in noted.items():
                    told.setdefault(name, []).append(without_run(copied(value)))
                self._step_in.pop(frame, None)

    def _note(self, *names: str) -> None:
        """These names of the point have just been assigned in its current step."""
        frame = sys._getframe(1)
        noted = self._noted_in.setdefault(frame, {})
        noted.update({name: frame.f_locals[name] for name in names if name in frame.f_locals})

    def _forget(self, *names: str) -> None:
        for name in names:
            self._noted_in.get(sys._getframe(1), {}).pop(name, None)

    def _has(self, name: str) -> bool:
        return name in self._told_in.get(sys._getframe(1), {})

    def _gathered(self, name: str) -> Any:
        """The values of all steps."""
        return stacked(self._told_in[sys._getframe(1)].pop(name))

    def _begin(self) -> None:
        """Points run interleaved: what is read is not told apart by lines."""

    def _from(self, _: None, names: Any, used: Any, adds: bool, value: Any) -> Any:
        return value


class _Alone:
    """What a `Row` asks of a trace: the tokens and the text of the prompt that a point runs on."""

    def __init__(self, scope: OfPoint):
        self._scope = scope

    @property
    def input_ids(self) -> torch.Tensor:
        return self._scope.tokens

    @property
    def prompts(self) -> list[Any]:
        return [self._scope.prompt]


def _alone(row: PromptRow) -> PromptRow:
    """A row as it stands without the others' padding."""
    return PromptRow(0, 0, len(row.tokens), row.tokens, row.name)


def _rows(ids: torch.Tensor, model: Any) -> tuple[PromptRow, ...]:
    texts = (token_texts(model.tokenizer, each) for each in ids.tolist())
    return tuple(PromptRow(k, 0, len(each), tuple(each)) for k, each in enumerate(texts))


def _unlike_lengths(rows: Sequence[PromptRow]) -> str:
    told = "\n".join(
        f"  {row.name or row.index}: {len(row.tokens)} tokens: {' '.join(map(repr, row.tokens))}"
        for row in rows
    )
    name = rows[-1].name or "corrupt"
    return (
        "the prompts have no positions in common: they are of several lengths\n"
        f"{told}\nsay whose positions you mean: position={name}.tokens"
    )
