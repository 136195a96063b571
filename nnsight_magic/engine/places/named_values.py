"""Values that have a name of their own: `layers[3].resid_mid`, `layers[3].mlp.added`.

Each is a value of the forward that stands at some site of some module, which is another one in
every architecture. A `NamedValue` says which; from there on it is touched as every value is, so
that it can be saved, written, swept over, edited and read at every step of a generation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from nnsight_magic.engine.places.halves import Spot
from nnsight_magic.engine.places.neurons import Neurons
from nnsight_magic.engine.places.place import Place, running_at, touching
from nnsight_magic.engine.places.studied import studied
from nnsight_magic.engine.sites.site import Operation
from nnsight_magic.engine.values.value import Value
from nnsight_magic.errors import NoSuchModuleError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Placed


class NamedPlace(Place):
    """Where a value stands that has a name of its own: a module, or an operation in one.

    Attributes:
        is_block: whether what a block returns is meant, of which the hidden states are the value.
    """

    __slots__ = ("_called", "_hidden", "_operation")
    _takes_edits = True

    def __init__(
        self,
        place: Placed,
        path: str,
        called: str,
        *,
        call: int = 0,
        operation: Operation | None = None,
        hidden: bool = False,
    ):
        super().__init__(place._model, path, call)
        put = object.__setattr__
        put(self, "_called", called)
        put(self, "_operation", operation)
        put(self, "_hidden", hidden)

    @property
    def is_block(self) -> bool:
        return self._hidden

    @property
    def name(self) -> str:
        """As a user would write it without the value's own name."""
        if self._operation is None:
            return super().name
        name, index = self._operation
        return f"{super().name}.ops.{name}[{index}]"


@dataclass(frozen=True)
class NamedValue:
    """One such value.

    Attributes:
        place: where it stands.
        kind: `"output"`, `"input"` (the first argument) or `"inputs"` (`(args, kwargs)`).
        item: where in what stands there, a path of keys.
        flat: whether prompts and tokens are one axis there; the value has two.
    """

    place: NamedPlace
    kind: str
    item: tuple = ()
    flat: bool = False

    def read(self, seen: Callable[[Any], Any] = lambda place: place) -> Any:
        """The value; `seen` gives the place as one prompt of a batch sees it."""
        value = getattr(seen(self.place), self.kind)
        for key in self.item:
            value = value[key]
        if isinstance(value, Value) and value._pause is not None:
            where = value.where = value._pause.describe()  # without keys that nobody sees
            if self.flat:
                value = value.view(_rows(self.place._model, value), -1, value.shape[-1])
                value.where = where
        return value

    def write(self, new: Any, seen: Callable[[Any], Any] = lambda place: place) -> None:
        """Let `new` flow on in its place."""
        if self.flat:
            self.read(seen)[:] = new
            return
        place = seen(self.place)
        if not self.item:
            setattr(place, self.kind, new)
            return
        held = getattr(place, self.kind)
        for key in self.item[:-1]:
            held = held[key]
        held[self.item[-1]] = new


def value_named(handle: Any, name: str) -> NamedValue:
    """Where the value stands that `handle.name` is.

    Raises:
        NoSuchModuleError: this architecture has no such value there; the message says why.
    """
    called = f"{handle.name}.{name}" if handle.name else name
    return _FINDERS[name](handle, called)


def _resid_pre(handle: Any, called: str) -> NamedValue:
    _check_block(handle, called)
    return NamedValue(NamedPlace(handle, handle.path, called, call=handle.call), "input")


def _resid_post(handle: Any, called: str) -> NamedValue:
    _check_block(handle, called)
    place = NamedPlace(handle, handle.path, called, call=handle.call, hidden=True)
    return NamedValue(place, "output")


def _check_block(handle: Any, called: str) -> None:
    names = handle._model.names
    if not names.is_block(handle.path):
        name = called.rpartition(".")[2]
        where = f"{handle.name or 'The model'} ({type(handle.module).__name__})"
        raise NoSuchModuleError(
            f"{where} is no decoder block and has no {name}.\n"
            + (f"Use a block: layers[3].{name}." if names.layers else "This model has no blocks.")
        )
    _check_streams(handle, called)


def _check_streams(block: Any, called: str) -> None:
    block = block.module
    if "altup" in block._modules:  # Gemma-3n
        raise NoSuchModuleError(
            f"{called}: the blocks of this model ({type(block).__name__}) pass on several streams, "
            "not one residual stream.\nUse _output, which is all of them, stream first: "
            "layers[3]._output[0, :, -1]."
        )


def _resid_mid(handle: Any, called: str) -> NamedValue:
    _check_block(handle, called)
    _check_trace(handle, called)
    return _standing(handle, called, studied(handle._model, handle.path).halves.middle)


def _added(handle: Any, called: str) -> NamedValue:
    block = _block_of(handle, called)
    _check_trace(handle, called)
    found = studied(handle._model, block.path).halves.added
    if handle.path not in found:
        known = (path for path, spot in found.items() if isinstance(spot, Spot))
        parts = [f"{handle._model._handles.at(path).name}.added" for path in known]
        raise NoSuchModuleError(
            f"{handle.name} ({type(handle.module).__name__}) is no half of a block, so there is "
            "nothing that it adds.\nWhat adds to the residual stream here: "
            f"{', '.join(parts) or 'nothing that is known'}."
        )
    return _standing(handle, called, found[handle.path])


def _neurons(handle: Any, called: str) -> NamedValue:
    return _standing(handle, called, _neurons_of(handle, called).behind)


def _neurons_pre(handle: Any, called: str) -> NamedValue:
    return _standing(handle, called, _neurons_of(handle, called).before)


def _neurons_of(handle: Any, called: str) -> Neurons:
    block = _block_of(handle, called, streams=True)
    _check_trace(handle, called)
    found = studied(handle._model, block.path).neurons.get(handle.path)
    if found is None:
        raise NoSuchModuleError(
            f"{handle.name} ({type(handle.module).__name__}) is no MLP: it holds no projections.\n"
            "Use that of a block: layers[3].mlp.neurons."
        )
    return found


def _block_of(handle: Any, called: str, *, streams: bool = False) -> Any:
    names = handle._model.names
    index = names.block_index(handle.path)
    if index is None or names.is_block(handle.path):
        where = f"{handle.name or 'The model'} ({type(handle.module).__name__})"
        raise NoSuchModuleError(
            f"{where} is no part of a decoder block and has no {called.rpartition('.')[2]}.\n"
            "Use a half of a block: layers[3].attn or layers[3].mlp."
        )
    block = handle._model._handles.at(f"{names.layers}.{index}")
    if not streams:
        _check_streams(block, called)
    return block


def _check_trace(handle: Any, called: str) -> None:
    """Say that there is no trace, before the model is run to find out where a value stands."""
    running_at(NamedPlace(handle, handle.path, called), "output")


def _standing(handle: Any, called: str, found: Spot | str) -> NamedValue:
    """The value at a place that was found, or why there is none."""
    if isinstance(found, str):
        raise NoSuchModuleError(f"There is no {called} in this model: {found}.")
    place = NamedPlace(handle, found.path, called, call=found.call, operation=found.operation)
    return NamedValue(place, found.kind, found.item, found.flat)


_FINDERS: dict[str, Callable[[Any, str], NamedValue]] = {
    "resid_pre": _resid_pre,
    "resid_mid": _resid_mid,
    "resid_post": _resid_post,
    "added": _added,
    "neurons": _neurons,
    "neurons_pre": _neurons_pre,
}
NAMED = tuple(_FINDERS)


def _rows(model: Any, value: Value) -> int:
    """How many prompts a running trace is of."""
    tracer = model._turn.running()
    rows = next(
        (given.shape[0] for given in tracer.inputs.values() if isinstance(given, torch.Tensor)), 1
    )
    return rows * tracer.rows_of_prompt


class NamedValues(Place):
    """The names, as attributes of a module's handle."""

    __slots__ = ()

    @touching
    def resid_pre(self) -> Value:
        """Of a block: the residual stream before it, `(batch, tokens, hidden)`.

        It is what the block is called with; what is written to it reaches the block's attention
        and is what the block adds to.

        Raises:
            NoSuchModuleError: the module is no block, or its blocks pass on no such stream.

        >>> from nnsight_magic import LanguageModel
        >>> model = LanguageModel("demo")
        >>> with model.trace("The Eiffel Tower"):
        ...     before, behind = model.layers[4].resid_post, model.layers[5].resid_pre
        >>> bool((before == behind).all())
        True
        """
        return value_named(self, "resid_pre").read()

    @resid_pre.setter
    def resid_pre(self, new: Any) -> None:
        value_named(self, "resid_pre").write(new)

    @touching
    def resid_post(self) -> Value:
        """Of a block: the residual stream behind it, `(batch, tokens, hidden)`.

        It is the block's `output`, without the tuple that some blocks return it in; its indices
        are those of the tensor, `resid_post[0]` is the first prompt.

        Raises:
            NoSuchModuleError: the module is no block, or its blocks pass on no such stream.
        """
        return value_named(self, "resid_post").read()

    @resid_post.setter
    def resid_post(self, new: Any) -> None:
        value_named(self, "resid_post").write(new)

    @touching
    def resid_mid(self) -> Value:
        """Of a block: the residual stream between its two halves, `(batch, tokens, hidden)`.

        It is `resid_pre` plus what attention adds. What is written to it reaches the MLP and is
        what the MLP's result is added to.

        Raises:
            NoSuchModuleError: the module is no block, or this architecture has no such place:
                attention and MLP run side by side, or the sum is normalised.

        >>> from nnsight_magic import LanguageModel
        >>> model = LanguageModel("demo")
        >>> with model.trace("The Eiffel Tower"):
        ...     block = model.layers[5]
        ...     total = block.resid_pre + block.attn.added
        ...     middle = block.resid_mid
        >>> bool((total == middle).all())
        True
        """
        return value_named(self, "resid_mid").read()

    @resid_mid.setter
    def resid_mid(self, new: Any) -> None:
        value_named(self, "resid_mid").write(new)

    @touching
    def added(self) -> Value:
        """Of a block's attention or MLP: what it adds to the residual stream.

        `(batch, tokens, hidden)`, behind whatever norm or multiplier the model puts between. Write
        to it, and the block adds that instead.

        Raises:
            NoSuchModuleError: the module is no half of a block, or the block's output is no sum of
                what its halves make.
        """
        return value_named(self, "added").read()

    @added.setter
    def added(self, new: Any) -> None:
        value_named(self, "added").write(new)

    @touching
    def neurons(self) -> Value:
        """Of an MLP: its neurons behind the activation, `(batch, tokens, neurons)`.

        They are what the down projection is given; with a gate, the activated gate times the up
        projection. TransformerLens calls them `hook_post`.

        Raises:
            NoSuchModuleError: the module is no MLP, or a mixture of several.

        >>> from nnsight_magic import LanguageModel
        >>> model = LanguageModel("demo")
        >>> with model.trace("The Eiffel Tower"):
        ...     model.layers[5].mlp.neurons[:, -1, 100] = 0      # neuron 100 is silent
        ...     written = model.layers[5].mlp.down_proj.input
        >>> written.shape, float(written[0, -1, 100])
        (torch.Size([1, 4, 1536]), 0.0)
        """
        return value_named(self, "neurons").read()

    @neurons.setter
    def neurons(self, new: Any) -> None:
        value_named(self, "neurons").write(new)

    @touching
    def neurons_pre(self) -> Value:
        """Of an MLP: its neurons before the activation, `(batch, tokens, neurons)`.

        With a gate, what the gate's activation is given. TransformerLens calls them `hook_pre`.

        Raises:
            NoSuchModuleError: the module is no MLP, or a mixture of several.
        """
        return value_named(self, "neurons_pre").read()

    @neurons_pre.setter
    def neurons_pre(self, new: Any) -> None:
        value_named(self, "neurons_pre").write(new)
