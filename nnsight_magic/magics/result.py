"""The value of a trace cell: what ran, what was predicted, what was saved; numbers and text only.

It keeps neither the model's activations nor the graph alive: saved tensors are held weakly, so
that deleting the notebook's variable frees them although the result stays in `Out`.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

from nnsight_magic.language.tokens import PromptRow, joined

TOP = 5
MOST_STACKED = 1 << 26  # bytes of a list of tensors that is looked at as one


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
    """A prompt as it stands in the batch, before anything is known of what the model makes of it;
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


def describe_saved(name: str, where: str, value: Any, stepped: bool = False) -> SavedVariable:
    """What a table can say about a saved value."""
    import torch

    if isinstance(value, torch.Tensor):
        return SavedVariable(
            name,
            "tensor",
            tuple(value.shape),
            str(value.dtype).removeprefix("torch."),
            str(value.device),
            where,
            value.numel() * value.element_size(),
            weakref.ref(value),
            stepped,
        )
    tensors = list(_tensors_in(value))
    size = sum(each.numel() * each.element_size() for each in tensors)
    kind = type(value).__name__
    if isinstance(value, list | tuple | dict | set):
        kind = f"{kind} of {len(value)}"
    elif isinstance(value, int | float | bool | str):
        text = repr(value)
        kind = f"{kind} {text if len(text) < 30 else text[:29] + '…'}"
    shapes = {tuple(each.shape) for each in tensors}
    shape = next(iter(shapes)) if len(shapes) == 1 else None
    dtypes = {str(each.dtype).removeprefix("torch.") for each in tensors}
    devices = {str(each.device) for each in tensors}
    refs = ()
    if isinstance(value, list | tuple) and len(tensors) == len(value) and size <= MOST_STACKED:
        alike = shape is not None and len(dtypes) == len(devices) == 1
        refs = tuple(map(weakref.ref, tensors)) if alike else ()
    dtype, device = ", ".join(sorted(dtypes)), ", ".join(sorted(devices))
    parts = () if refs or not tensors else _parts(name, value)
    return SavedVariable(name, kind, shape, dtype, device, where, size, refs=refs, parts=parts)


def _parts(name: str, value: Any) -> tuple[SavedVariable, ...]:
    """The tensors in a container by their names, such as `h['a'][0]`."""
    from nnsight_magic.views.data.containers import found_in, is_container

    if not is_container(value):
        return ()
    tensors = found_in(value, name).tensors.items()
    return tuple(describe_saved(own, own, each) for own, each in tensors)


def _tensors_in(value: Any, depth: int = 4):
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif depth and isinstance(value, list | tuple | set):
        for item in value:
            yield from _tensors_in(item, depth - 1)
    elif depth and isinstance(value, dict):
        for item in value.values():
            yield from _tensors_in(item, depth - 1)


@dataclass(frozen=True)
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
        wrote: names of what the cell wrote, such as `layers[22].mlp.output`.
        notices: what the user should know about the run.
        source: the cell's text.
        modules: the modules that were read or written.
        idle: paths of the blocks that were not run.
        sizes: the model's own sizes by role, such as `{"feature": 576}`.
        vocabulary: gives the text of a token id.
    """

    magic: str
    number: int
    model: str
    prompts: tuple[PromptResult, ...]
    variable: str = ""
    edits: tuple[str, ...] = ()
    saved: tuple[SavedVariable, ...] = ()
    blocks_run: int = 0
    blocks: int = 0
    stopped_at: str | None = None
    resumed_at: str | None = None
    seconds: float = 0.0
    forwards: int = 0
    steps: int = 0
    wrote: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    source: str = ""
    failed: str = ""  # "interrupted", or which error ended the cell
    modules: tuple[ModuleTouch, ...] = ()
    idle: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict, compare=False)
    vocabulary: Any = field(default=None, repr=False, compare=False)
    on_screen: Any = field(default=None, repr=False, compare=False)

    @property
    def extent(self) -> str:
        """`ran 10 of 30 blocks, stopped after layers[9].output`."""
        if self.failed:
            return self.failed
        if self.magic == "generate":
            count = max((len(each.generated) for each in self.prompts), default=0)
            return f"{count} new token{'s' * (count != 1)}"
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
    def model_in_words(self) -> str:
        """`demo`, or `other (demo)` where the variable is not called `model`."""
        usual = self.variable in ("", "model", self.model)
        return self.model if usual else f"{self.variable} ({self.model})"

    @property
    def time(self) -> str:
        if self.seconds < 1:
            return f"{self.seconds * 1e3:.0f} ms"
        return f"{self.seconds:.2f} s"

    def __getitem__(self, name: str) -> Any:
        """The saved tensor of that name, while a variable still holds it."""
        for each in self.saved:
            if each.name == name:
                return each.tensor
        raise KeyError(f"{name!r} was not saved; saved: {', '.join(s.name for s in self.saved)}")

    def __repr__(self) -> str:
        from nnsight_magic.magics.result_text import plain_text

        return plain_text(self)

    def _repr_html_(self) -> str:
        from nnsight_magic.magics.result_html import html

        return html(self)

    def _ipython_display_(self) -> None:
        """The live view with its still twin, where there is a notebook; else as any object."""
        if self.on_screen is None:
            raise NotImplementedError
        self.on_screen.show(self)

    @property
    def view(self) -> Any:
        """The view of this result, a `TraceView`: what it shows can be read and set by Python."""
        from nnsight_magic.magics.result_view import view_of

        return view_of(self) if self.on_screen is None else self.on_screen.view(self)

    def compare(self, other: TraceResult) -> Any:
        """This run and another side by side: predictions, and saved tensors with differences."""
        from nnsight_magic.magics.result_view import comparison_of

        return comparison_of(self, other)

    def save_html(self, path: Any) -> None:
        """Writes one self-contained interactive page, for a browser without a kernel."""
        self.view.save_html(path)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "on_screen": None, "vocabulary": None}

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        from nnsight_magic.magics.result_text import terminal_text

        printer.text(terminal_text(self))
