"""The lines of analyses, `%lens` and its like: from a line to a call of Python, which runs or is
printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nnsight_magic.engine.running.inputs import WholeText
from nnsight_magic.errors import OptionError
from nnsight_magic.magics.options import Line
from nnsight_magic.magics.prompts import prompts_of
from nnsight_magic.near import did_you_mean

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """How the line of one magic becomes a call.

    Attributes:
        function: of `nnsight_magic.analyses`.
        arguments: what it is called with beside model and prompt, by the line.
        view: the arguments of the result's `view()`, by the line.
        pair: whether it is of two prompts, `clean` and `corrupt`.
    """

    function: str
    arguments: Callable[[Line], Arguments]
    view: Callable[[Line], Arguments] = lambda line: {}
    pair: bool = False


@dataclass(frozen=True)
class Variable:
    """An argument that is a variable of the notebook, written by its name."""

    name: str

    def __repr__(self) -> str:
        return self.name

    def value(self, namespace: Mapping[str, Any]) -> Any:
        """What it holds.

        Raises:
            OptionError: there is no such variable.
        """
        if self.name not in namespace:
            near = did_you_mean(self.name, [n for n in namespace if not n.startswith("_")])
            raise OptionError(f"no variable {self.name!r} in the notebook; {near or 'assign it'}")
        return namespace[self.name]


def _lens(line: Line) -> Arguments:
    return _given(answer=line.answer, of=line.of, top=line.top, through=line.map)


def _attention(line: Line) -> Arguments:
    made = _given(repeated=line.repeated, seed=line.seed)
    if made and not line.induction:
        raise OptionError("--repeated and --seed are of random tokens: say --induction too")
    if line.score is not None:
        from nnsight_magic.analyses.attention_shown import check_score

        check_score(line.score, repeated=line.induction)
    kept = {"keep": True} if line.keep else {}
    if line.layers is not None:
        kept = {"layers": numbers_in(line.layers)} | kept
    return ({"induction": True} | made if line.induction else {}) | kept


def _measured(line: Line) -> Arguments:
    if line.answer is None:
        raise OptionError('there is no answer to measure; give one: --answer " Paris"')
    return _given(answer=line.answer, versus=line.versus)


def _places(line: Line) -> Arguments:
    by = None if line.by is None else tuple(each.strip() for each in line.by.split(","))
    layers = None if line.layers is None else numbers_in(line.layers)
    return {**_measured(line), **_given(site=line.site, by=by, layers=layers)}


def _patch(line: Line) -> Arguments:
    return {**_places(line), **_given(align=line.align, reverse=line.reverse or None)}


def _ablate(line: Line) -> Arguments:
    over = None if line.over is None else Variable(line.over)
    own = _given(how=line.how, over=over, repeats=line.repeats, seed=line.seed)
    return {**_places(line), **own}


def _attribute(line: Line) -> Arguments:
    if line.steps is not None and line.method != "ig":
        raise OptionError("--steps are those of integrated gradients: say --method ig too")
    own = _given(align=line.align, method=line.method, steps=line.steps, check=line.check)
    return {**_places(line), **own}


def _edges(line: Line) -> Arguments:
    for name in ("site", "by", "layers", "align", "steps"):
        if getattr(line, name) is not None:
            raise OptionError(
                f"--{name} is of places, and --edges goes by writers and readers; leave out one"
            )
    return {**_measured(line), **_given(method=line.method, check=line.check)}


def _dla(line: Line) -> Arguments:
    return {**_measured(line), **_given(by=line.by, position=line.position)}


def numbers_in(text: str) -> list[int]:
    """The numbers of `0,4-8`, in their order.

    Raises:
        OptionError: it is no such list.

    >>> numbers_in("0,4-6")
    [0, 4, 5, 6]
    """
    found: list[int] = []
    for part in text.split(","):
        ends = part.strip().split("-")
        if not 1 <= len(ends) <= 2 or not all(end.isdigit() for end in ends):
            raise OptionError(f"blocks are written 0,4-8; found {text!r}")
        found += range(int(ends[0]), int(ends[-1]) + 1)
    return found


def _given(**arguments: Any) -> Arguments:
    """The arguments that the line has; the others are as they are by default."""
    return {name: value for name, value in arguments.items() if value is not None}


KINDS: dict[str, Kind] = {
    "attention": Kind("attention", _attention, lambda line: _given(score=line.score)),
    "lens": Kind("lens", _lens, lambda line: {"settled": True} if line.settled else {}),
    "patch": Kind("patch", _patch, pair=True),
    "ablate": Kind("ablate", _ablate),
    "attribute": Kind("attribute", _attribute, pair=True),
    "dla": Kind("dla", _dla),
}
EDGES = Kind("attribute_edges", _edges, pair=True)


def kind_of(magic: str, line: Line) -> Kind:
    """What the line of a magic asks for."""
    return EDGES if magic == "attribute" and line.edges else KINDS[magic]


@dataclass(frozen=True)
class Call:
    """A call of an analysis for each of the line's prompts.

    Attributes:
        written: how the prompts are written in Python.
        several: whether they are a list, or a dict where they have names.
    """

    kind: Kind
    model: Any
    variable: str
    prompts: tuple[Any, ...]
    names: tuple[str, ...]
    written: str
    several: bool
    arguments: Arguments = field(default_factory=dict)
    view: Arguments = field(default_factory=dict)
    output: str = "found"

    @property
    def code(self) -> str:
        """The Python that does the same."""
        given = "".join(f", {name}={value!r}" for name, value in self.arguments.items())

        def call(prompt: str) -> str:
            prompt = f", {prompt}" if prompt else ""
            return f"analyses.{self.kind.function}({self.variable}{prompt}{given})"

        lines = ["from nnsight_magic import analyses"]
        if "WholeText(" in self.written:
            lines.append("from nnsight_magic.engine.running.inputs import WholeText")
        if not self.several:
            made = call(self.written)
        elif self.names:
            made = f"{{name: {call('prompt')} for name, prompt in {self.written}.items()}}"
        else:
            made = f"[{call('prompt')} for prompt in {self.written}]"
        shown = self._shown()
        return "\n".join([*lines, "", f"{self.output} = {made}", *shown])

    def _shown(self) -> list[str]:
        given = ", ".join(f"{name}={value!r}" for name, value in self.view.items())
        how = f"{{}}.view({given})" if given else "{}"
        if not self.several:
            return [how.format(self.output)]
        each = f"{self.output}.values()" if self.names else self.output
        return [f"for each in {each}:", f"    display({how.format('each')})"]


@dataclass(frozen=True)
class Found:
    """What the calls gave: `value` is one result, or a list, or a dict of them by name."""

    value: Any
    each: Mapping[str, Any]
    view: Arguments

    def shown(self, *, views: bool = True) -> Any:
        """What the magic returns: one result, or all of them, displayed one below the other."""
        return Several(self, views) if self.view or len(self.each) > 1 or not views else self.value


class Several:
    """Results one below the other, or one that is shown otherwise than by itself."""

    def __init__(self, found: Found, views: bool) -> None:
        self.value, self._found, self._views = found.value, found, views

    def __repr__(self) -> str:
        texts = self._found.each.items()
        return "\n\n".join(
            f"{name}\n{each.text()}" if name else each.text() for name, each in texts
        )

    def _ipython_display_(self) -> None:
        from nnsight_magic.views.display import in_notebook, show_view

        if not self._views or not in_notebook():
            print(self)
            return
        for each in self._found.each.values():
            show_view(each.view(**self._found.view))


def asked(magic: str, line: Line, variable: str, model: Any, namespace: Mapping[str, Any]) -> Call:
    """The call that a line asks for.

    Raises:
        OptionError: there is no prompt, or no variable of that name.
    """
    kind = kind_of(magic, line)
    arguments = kind.arguments(line)
    inputs: Any = None
    names: tuple[str, ...] = ()
    if arguments.get("induction"):
        _no_prompt(line)
    else:
        inputs, names = prompts_of(line, model, namespace)
    texts = isinstance(inputs, list) and bool(inputs) and all(isinstance(p, str) for p in inputs)
    several = texts and (len(inputs) > 1 or bool(names)) and not kind.pair
    prompts = tuple(inputs) if texts else (inputs,)
    if texts and not several:
        inputs = inputs[0]
    if kind.pair:
        prompts, names = _pair(magic, prompts, names), ()
    if line.output and not line.output.isidentifier():
        raise OptionError(f"{line.output!r} cannot be the name of a variable")
    return Call(
        kind,
        model,
        variable,
        prompts,
        names,
        ", ".join(map(_literal, prompts)) if kind.pair else literal_of(line, inputs, names),
        several,
        arguments,
        kind.view(line),
        line.output or "found",
    )


def _pair(magic: str, prompts: tuple[Any, ...], names: tuple[str, ...]) -> tuple[Any, Any]:
    """The clean prompt and the corrupt one."""
    if len(prompts) != 2 or (names and set(names) != {"clean", "corrupt"}):
        raise OptionError(f'%{magic} is of two prompts: clean="…" corrupt="…"')
    by_name = dict(zip(names or ("clean", "corrupt"), prompts, strict=True))
    return by_name["clean"], by_name["corrupt"]


def run(call: Call, namespace: Mapping[str, Any]) -> Found:
    """Runs the analysis for each prompt.

    Raises:
        OptionError: an argument is a variable that the notebook has not.
    """
    from nnsight_magic import analyses

    function = getattr(analyses, call.kind.function)
    arguments = {
        name: value.value(namespace) if isinstance(value, Variable) else value
        for name, value in call.arguments.items()
    }
    given = [call.prompts] if call.kind.pair else [(prompt,) for prompt in call.prompts]
    found = [function(call.model, *prompts, **arguments) for prompts in given]
    names = call.names or tuple(str(k) for k in range(len(found)))
    each = dict(zip(names, found, strict=True))
    if not call.several:
        return Found(found[0], {"": found[0]}, call.view)
    return Found(each if call.names else found, each, call.view)


def _no_prompt(line: Line) -> None:
    """Raises where there is a prompt beside one that the analysis makes."""
    if line.prompts or line.prompt is not None or line.file is not None or line.words:
        raise OptionError("--induction makes its own prompt, of random tokens; leave out the other")


def literal_of(line: Line, inputs: Any, names: tuple[str, ...]) -> str:
    """The prompts as Python writes them; a notebook's variable by its name."""
    if inputs is None:
        return ""
    if line.prompt is not None and not line.chat:
        return line.prompt
    if names:
        pairs = (f"{name!r}: {_literal(text)}" for name, text in zip(names, inputs, strict=True))
        return f"{{{', '.join(pairs)}}}"
    if isinstance(inputs, list) and all(isinstance(each, str) for each in inputs):
        return f"[{', '.join(map(_literal, inputs))}]"
    return _literal(inputs)


def _literal(prompt: Any) -> str:
    """A chat's text has its special tokens already, and says so."""
    return f"WholeText({str(prompt)!r})" if isinstance(prompt, WholeText) else repr(prompt)
