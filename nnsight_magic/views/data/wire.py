"""What goes between the kernel and the browser, as types: states, questions and answers.

`widgets/src/core/wire.ts` has the same types for TypeScript. The examples in
`widgets/test/fixtures/wire.json` are read by the tests of both.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Literal, NotRequired, TypedDict

# -- tensors ----------------------------------------------------------------------------------


class PlaneFacts(TypedDict):
    """What is known of a plane besides its codes; `window` and `block` as in `array.Plane`."""

    rows: int
    columns: int
    window: list[int]
    block: list[int]
    pair: bool  # codes of the least values, then as many of the greatest
    sampled: bool


class StoredPicture(TypedDict, total=False):
    """What the picture in a view's state is of; of a plane its facts and its place too."""

    form: Literal["whole", "plane", "none", "empty"]
    part: str
    axes: list[int]  # the axes along which the statistics looked
    rows: int
    columns: int
    window: list[int]
    block: list[int]
    pair: bool
    sampled: bool
    drawn: list[int]
    index: list[int]


class Statistics(TypedDict, total=False):
    """Of a tensor, of as many of its values as were looked at; finite numbers only."""

    count: int
    looked_at: int
    min: float
    max: float
    mean: float
    std: float
    norm: float | None
    nan: int
    inf: int
    zero: int
    bins: list[float]  # the ends of the histogram
    histogram: list[int]
    drawn: list[float]  # `colouring.marks_of` what is drawn
    some: list[str]  # "nan", "inf": there are some, found in the picture and not counted


class About(TypedDict):
    """A tensor's own facts; `bytes` and `size` count."""

    shape: list[int]
    dtype: str
    device: str
    bytes: int
    size: int
    complex: bool
    integer: bool


class AxisState(TypedDict):
    """An axis, with the words of the prompt that is looked at."""

    role: str
    size: int
    labels: list[str]
    rows: NotRequired[list[list[str]]]  # the words of every prompt, on a page without a kernel
    along: NotRequired[int]


# -- tokens -----------------------------------------------------------------------------------

Flat = list[int | float | None]  # a word's number and its probability, one pair after another


class StripForm(TypedDict):
    """A `TokenStrip`; tokens are numbers of `words`."""

    name: str
    tokens: list[int]
    top: list[Flat]
    clean: list[Flat]
    numbers: dict[str, list[float | None]]
    generated: int
    heads: list[str]
    words: list[str]


class GridForm(TypedDict):
    """A lens grid; tokens are numbers of `words`.

    `numbers` are by row and position. What a grid has none of is left out.
    """

    tokens: list[int]
    rows: list[str]
    cells: list[list[Flat]]
    words: list[str]
    numbers: NotRequired[dict[str, list[list[float | None]]]]
    answer: NotRequired[str]
    settled: NotRequired[list[int]]


# token, probability, candidates with their probabilities one after another, names of what was saved
StepForm = list[Any]


class TextsForm(TypedDict):
    """Two texts as columns of tokens; see `two_texts`."""

    name: str
    heads: list[str]
    columns: list[tuple[str | None, str | None]]


# -- modules ----------------------------------------------------------------------------------

# number, class, note, parameters, bytes, dtype, device, runs of children:
# [name, kind] or [first name, kind, how many]
KindForm = list[Any]


class TreeForm(TypedDict):
    """A module tree from its root down; `whole` tells whether all kinds are there."""

    root: int
    size: int
    parameters: int
    bytes: int
    kinds: list[KindForm]
    whole: bool


class NoteForm(TypedDict, total=False):
    """What runs say about a module: input and output shape, saved names, written to, not run."""

    i: str
    o: str
    s: list[str]
    w: Literal[1]
    n: Literal[1]


# -- checks -----------------------------------------------------------------------------------


class CheckedForm(TypedDict):
    """What was checked of one thing: for each check its state, its name and what was found."""

    title: str
    checks: list[tuple[str, str, str]]


# -- charts -----------------------------------------------------------------------------------


class LineForm(TypedDict):
    """A line of a chart; `low` and `high` are the ends of its intervals."""

    name: str
    role: Literal["main", "second", "spread"]
    values: list[float | None]
    low: list[float | None] | None
    high: list[float | None] | None


class ChartForm(TypedDict):
    """Lines over places; `numbers` are the blocks that these are, if they are blocks."""

    across: str
    labels: list[str]
    lines: list[LineForm]
    levels: list[tuple[str, float]]
    numbers: list[int] | None


# -- texts by strength ------------------------------------------------------------------------

# its pieces, each with whether it differs from the text without, and its loss
TextForm = tuple[list[tuple[str, bool]], float | None]


class WrittenForm(TypedDict):
    """Texts by strength and prompt; `control` has none where none were written."""

    prompts: list[str]
    strengths: list[float]
    said: list[list[TextForm]]
    control: list[list[TextForm]]


# -- questions --------------------------------------------------------------------------------


class Question(TypedDict):
    """What a view asks; the rest depends on `do`."""

    do: str
    id: int


class Reply(TypedDict):
    """The answer to the question of that number: what was asked for, or why there is none."""

    re: int
    error: NotRequired[str]
    gone: NotRequired[bool]  # the tensor, or the model, is no longer in memory
    again: NotRequired[list[int]]  # older questions that were not answered


def packed_json(value: Any) -> bytes:
    """JSON as a trait holds it: without blanks, deflated.

    >>> zlib.decompress(packed_json({"rows": [1, 2]}))
    b'{"rows":[1,2]}'
    """
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 6)
