"""What a run was, as data: what ran, what was predicted, what was saved; numbers and text only.

It keeps neither the model's activations nor the graph alive: saved tensors are held weakly, so
that deleting the notebook's variable frees them although the result stays in `Out`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nnsight_magic.language.tokens import PromptRow, joined

TOP = 5  # candidates for a token


@dataclass(frozen=True)
class Prediction:
    """One candidate for the next token: its probability, and the one without the writes."""

    token: str
    id: int
    p: float
    clean: float | None = None


Guesses = tuple[tuple[str, float], ...]  # tokens with their probabilities, the likeliest first


@dataclass(frozen=True)
class PromptResult:
    """One prompt.

    Attributes:
        text, tokens, name: as they were given; `name` is `None` for a prompt without one.
        predictions: the candidates for the token after the prompt.
        generated, generated_clean: the new tokens, and those without the cell's writes.
        top, top_clean: after each token of the prompt what is predicted, and what is without the
            writes; empty where nobody looks, as in a console.
        kl: the divergence KL(clean ‖ with writes) at each token, in nats.
        steps: for each new token the candidates it was chosen from.
        padding: columns of the batch before its tokens and behind them.
    """

    text: str
    tokens: tuple[str, ...]
    name: str | None = None
    predictions: tuple[Prediction, ...] = ()
    generated: tuple[str, ...] = ()
    generated_clean: tuple[str, ...] = ()
    top: tuple[Guesses, ...] = ()
    top_clean: tuple[Guesses, ...] = ()
    kl: tuple[float, ...] = ()
    steps: tuple[Guesses, ...] = ()
    padding: tuple[int, int] = (0, 0)

    @property
    def new_text(self) -> str:
        """The new tokens as one text."""
        return joined(self.generated)

    @property
    def new_text_clean(self) -> str:
        """What it is without the cell's writes."""
        return joined(self.generated_clean)

    @property
    def compared(self) -> bool:
        return any(each.clean is not None for each in self.predictions)


def prompt_of(row: PromptRow, text: str | None = None) -> PromptResult:
    """A prompt as it is in the batch, before anything is known of what the model makes of it;
    `text` as it was given, where that is known."""
    padding = (row.start, row.width - row.stop)
    return PromptResult(
        joined(row.tokens) if text is None else text, row.tokens, row.name, padding=padding
    )


@dataclass(frozen=True)
class ModuleTouch:
    """A module that the cell read or wrote: its real path, its name, and the shapes seen."""

    path: str
    name: str
    kind: str  # "input" or "output"
    shape: tuple[int, ...] | None
    wrote: bool


@dataclass(frozen=True)
class SavedVariable:
    """A saved variable in words.

    `ref` holds a tensor weakly; it is `None` for other kinds. `stepped` tells that the first axis
    is the steps of a generation. `refs` hold the tensors of a list, where they could be stacked;
    `parts` are those of another container, each by its name. `modules` are the paths of the modules
    that it was computed from.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    dtype: str
    device: str
    where: str
    bytes: int
    ref: Any = field(default=None, repr=False, compare=False)
    stepped: bool = False
    refs: tuple[Any, ...] = field(default=(), repr=False, compare=False)
    modules: tuple[str, ...] = field(default=(), compare=False)
    parts: tuple[SavedVariable, ...] = field(default=(), repr=False, compare=False)

    @property
    def tensor(self) -> Any:
        """The tensor while some variable still holds it, else `None`."""
        return None if self.ref is None else self.ref()

    @property
    def listed(self) -> list[Any]:
        """The tensors of a list, all of one shape, while variables still hold them; else none."""
        tensors = [ref() for ref in self.refs]
        return [] if any(each is None for each in tensors) else tensors

    @property
    def drawable(self) -> Any:
        """What a viewer can draw, the tensor or those of a list; `None` where there is nothing.

        Tensors on the meta device have no values, and those that are sparse or quantised would
        have to be kept a second time.
        """
        import torch

        listed = self.listed if self.tensor is None else [self.tensor]
        dense = [
            each.layout == torch.strided and not (each.is_meta or each.is_quantized)
            for each in listed
        ]
        if not listed or not all(dense):
            return None
        return listed if self.tensor is None else self.tensor

    @property
    def form(self) -> str:
        """A tensor's shape; of other kinds what they are, such as `list of 3 (1, 9, 576)`."""
        shape = "" if self.shape is None else str(tuple(self.shape))
        return shape if self.kind == "tensor" else f"{self.kind} {shape}".rstrip()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "ref": None, "refs": ()}  # weak references cannot be pickled


@dataclass(frozen=True)
class RunModel:
    """The model of a run.

    Attributes:
        name, variable: what it is called, and the notebook's variable that it was in.
        edits: the names of its edits that were in force.
        sizes: its own sizes by role, such as `{"feature": 576}`.
        vocabulary: gives the text of a token id.
    """

    name: str
    variable: str = ""
    edits: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict, compare=False)
    vocabulary: Any = field(default=None, repr=False, compare=False)

    @property
    def in_words(self) -> str:
        """`demo`, or `other (demo)` where the variable is not called `model`."""
        usual = self.variable in ("", "model", self.name)
        return self.name if usual else f"{self.variable} ({self.name})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "vocabulary": None}  # it holds the tokenizer


@dataclass(frozen=True)
class Extent:
    """How far a run went, and what that took.

    Attributes:
        blocks_run, blocks: decoder blocks that ran, and those there are.
        idle: paths of the blocks that did not run.
        stopped_at: the last thing that ran where the forward ended early, else `None`.
        resumed_at: the first block that ran, where those before it were remembered.
        forwards: how many forwards it took.
        seconds: time of the cell's run.
        failed: "interrupted", or which error ended the cell; else "".
        points: of a sweep, how many are finished and how many there are.
    """

    blocks_run: int = 0
    blocks: int = 0
    idle: tuple[str, ...] = ()
    stopped_at: str | None = None
    resumed_at: str | None = None
    forwards: int = 0
    seconds: float = 0.0
    failed: str = ""
    points: tuple[int, int] = (0, 0)

    @property
    def in_words(self) -> str:
        """`ran 10 of 30 blocks, stopped after layers[9].output`."""
        if not self.blocks:
            return f"stopped after {self.stopped_at}" if self.stopped_at else "ran to the end"
        if self.forwards == 0:
            return "nothing of the model was run"
        ran = f"ran {self.blocks_run} of {self.blocks} blocks"
        if self.resumed_at and self.stopped_at and not self.blocks_run:
            return f"{ran}, {self.stopped_at} was remembered"
        if self.resumed_at:
            ran += f", from {self.resumed_at} on"
        return f"{ran}, stopped after {self.stopped_at}" if self.stopped_at else ran

    @property
    def time(self) -> str:
        if self.seconds < 1:
            return f"{self.seconds * 1e3:.0f} ms"
        return f"{self.seconds:.2f} s"


@dataclass(frozen=True)
class RunRecord:
    """What is known of one run of a `%%trace`, `%%generate` or `%%sweep` cell.

    Attributes:
        magic: "trace", "generate" or "sweep".
        number: of the run in this session, as `%runs` lists it.
        prompts: one `PromptResult` for each row of the batch.
        saved: the variables that the cell saved.
        wrote, read: names of what the cell wrote and read, such as `layers[22].mlp.output`.
        modules: the modules that were read or written.
        notices: what the user should know about the run.
        source: the cell's text.
        best: of a sweep, the point that stands out most, in words.
    """

    magic: str
    number: int
    model: RunModel
    prompts: tuple[PromptResult, ...]
    saved: tuple[SavedVariable, ...] = ()
    ran: Extent = Extent()
    wrote: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    modules: tuple[ModuleTouch, ...] = ()
    notices: tuple[str, ...] = ()
    source: str = ""
    best: str = ""

    @property
    def extent(self) -> str:
        """How far the run went, in words: blocks, new tokens, or points."""
        if self.ran.failed:
            return self.ran.failed
        if self.magic == "generate":
            count = max((len(each.generated) for each in self.prompts), default=0)
            return f"{count} new token{'s' * (count != 1)}"
        if self.magic == "sweep":
            done, total = self.ran.points
            return f"{total} points" if done == total else f"{done} of {total} points"
        return self.ran.in_words
