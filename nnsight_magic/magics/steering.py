"""`%steer`: a direction, found or read; with prompts what it does to texts, else an edit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnsight_magic.errors import OptionError
from nnsight_magic.magics.analysis import Variable, literal_of, numbers_in
from nnsight_magic.magics.options import Line
from nnsight_magic.magics.prompts import prompts_of


@dataclass(frozen=True)
class Call:
    """What a line asks for.

    Attributes:
        name: of the direction, the variable that it goes into and the edit.
        variable, model: the model.
        source: where the direction comes from: a variable, or the name of a file.
        finding: the arguments with which it is found in pairs; `None` where nothing is to be found.
        prompts: what texts go on with; empty for an edit.
        written: how Python writes them.
        strengths: as far as there are any.
        options: of `analyses.steer`.
        save: a file to store the direction in.
        output: the variable for the texts.
    """

    name: str
    variable: str
    model: Any
    source: Variable | str
    finding: dict[str, Any] | None
    prompts: list[str]
    written: str
    strengths: list[float]
    options: dict[str, Any]
    save: str | None
    output: str

    @property
    def code(self) -> str:
        """The Python that does the same."""
        lines = ["from nnsight_magic import analyses", "", f"{self.name} = {self._direction()}"]
        if self.save is not None:
            lines.append(f"{self.name}.save({self.save!r})")
        more = "".join(f", {name}={value!r}" for name, value in self.options.items())
        if self.prompts:
            strengths = f", {self.strengths!r}" if self.strengths else ""
            call = f"analyses.steer({self.variable}, {self.name}, {self.written}{strengths}{more})"
            lines += [f"{self.output} = {call}", self.output]
        else:
            lines.append(f"{self.name}.edit({self.variable}, {self._one()!r}, {self.name!r}{more})")
        return "\n".join(lines)

    def _direction(self) -> str:
        if isinstance(self.source, str):
            return f"analyses.Direction.load({self.source!r})"
        if self.finding is None:
            return repr(self.source)
        given = "".join(f", {name}={value!r}" for name, value in self.finding.items())
        return f"analyses.direction({self.variable}, {self.source!r}{given})"

    def _one(self) -> float:
        return self.strengths[0] if self.strengths else 1.0

    def direction(self, namespace: Mapping[str, Any]) -> Any:
        """Finds or reads the direction.

        Raises:
            OptionError: the variable is not there.
        """
        from nnsight_magic import analyses

        if isinstance(self.source, str):
            return analyses.Direction.load(self.source)
        value = self.source.value(namespace)
        return value if self.finding is None else analyses.direction(
            self.model, value, **self.finding
        )  # fmt: skip

    def run(self, namespace: dict[str, Any]) -> Any:
        """Does what the line says.

        Returns:
            The texts; or in words which edit was made.
        """
        from nnsight_magic import analyses

        found = self.direction(namespace)
        found.check(self.model)
        if self.save is not None:
            found.save(self.save)
        namespace[self.name] = found
        if self.prompts:
            return analyses.steer(
                self.model, found, self.prompts, self.strengths or None, **self.options
            )
        from nnsight_magic.magics.edits import as_text

        verb = "replaced" if self.name in self.model.edits else "made"
        edit = found.edit(self.model, self._one(), self.name, **self.options)
        writes = [f"  {as_text(each, self.model)}" for each in edit.writes]
        head = (
            f"edit {self.name!r} {verb}: every trace and generation of {self.variable} has it now"
        )
        return "\n".join([repr(found), head, *writes])


def asked(line: Line, variable: str, model: Any, namespace: Mapping[str, Any]) -> Call:
    """What a line asks for.

    Raises:
        OptionError: it names no direction, or says two things at once.
    """
    if len(line.words) != 1 or not line.words[0].isidentifier():
        raise OptionError("give the direction a name: %steer shout --from pairs --layer 8")
    source, finding = _source(line, namespace)
    prompts, written = _prompts(line, model, namespace)
    strengths = _strengths(line.strength)
    if not prompts and len(strengths) > 1:
        raise OptionError(
            "an edit has one strength; several are for prompts, whose texts are shown"
        )
    options: dict[str, Any] = {"relative": True} if line.relative else {}
    if prompts:
        options |= {} if line.new_tokens is None else {"new_tokens": line.new_tokens}
        options |= {} if line.random is not False else {"random": False}
    if line.output and not line.output.isidentifier():
        raise OptionError(f"{line.output!r} cannot be the name of a variable")
    return Call(
        line.words[0], variable, model, source, finding, prompts, written, strengths, options,
        line.save, line.output or "found",
    )  # fmt: skip


def _source(
    line: Line, namespace: Mapping[str, Any]
) -> tuple[Variable | str, dict[str, Any] | None]:
    name = line.options["from"]
    if (name is None) == (line.load is None):
        raise OptionError(
            "say where the direction comes from: --from VAR, pairs or a direction of the "
            "notebook, or --load FILE"
        )
    from nnsight_magic.analyses.directions import Direction

    finds = {"layer": line.layer, "method": line.method, "at": line.at}
    given = {name: value for name, value in finds.items() if value is not None}
    variable = None if name is None else Variable(name)
    if variable is None or isinstance(variable.value(namespace), Direction):
        if given:
            raise OptionError(
                f"--{next(iter(given))} is for pairs; this direction is found already"
            )
        return line.load if variable is None else variable, None
    if line.layer is None:
        raise OptionError("behind which block? --layer 15, or several: --layer 8,10-12")
    layers = numbers_in(line.layer)
    given["layer"] = layers[0] if len(layers) == 1 else layers
    return variable, {**given, "words": line.words[0]}


def _prompts(line: Line, model: Any, namespace: Mapping[str, Any]) -> tuple[list[str], str]:
    if not line.prompts and line.prompt is None and line.file is None:
        return [], ""
    words, line.words = line.words, []  # the name is no prompt
    try:
        found, names = prompts_of(line, model, namespace)
    finally:
        line.words = words
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise OptionError("prompts to steer are texts")
    return list(texts), literal_of(line, texts, ()) if not names else repr(list(texts))


def _strengths(text: str | None) -> list[float]:
    """The numbers of `0.1,0.2`.

    >>> _strengths("0.1,-2")
    [0.1, -2.0]
    """
    try:
        found = [] if text is None else [float(each) for each in text.split(",")]
    except ValueError:
        raise OptionError(f"strengths are numbers, 0.1,0.2,0.4; found {text!r}") from None
    if not all(map(math.isfinite, found)):
        raise OptionError(f"strengths are finite numbers; found {text!r}")
    return found
