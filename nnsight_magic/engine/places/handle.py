"""The module tree as the user writes it: `model.layers[3].mlp.output`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn, overload

from torch import nn

from nnsight_magic.engine.places import attention_values, norm_values
from nnsight_magic.engine.places.attach import attach, call_module, detach
from nnsight_magic.engine.places.every_head import Heads
from nnsight_magic.engine.places.heads import head_layout
from nnsight_magic.engine.places.named_part import named_on, names_of
from nnsight_magic.engine.places.named_values import NamedValues
from nnsight_magic.engine.places.operations import Operations
from nnsight_magic.engine.places.own_names import Own, hide_names
from nnsight_magic.engine.places.pattern import pattern_of
from nnsight_magic.engine.places.place import raise_what_failed, running_at, touching
from nnsight_magic.engine.places.source import Source, source_of
from nnsight_magic.engine.places.spellings import fluent, refuse_block_of_steps
from nnsight_magic.engine.places.standard_names import BLOCK_NAMES, ROOT_NAMES, part_of_block
from nnsight_magic.engine.places.tree_text import tree_text
from nnsight_magic.errors import NoSuchIndexError, NoSuchModuleError, NotAListError
from nnsight_magic.near import asked_sentence

if TYPE_CHECKING:
    from nnsight_magic.engine.values.value import Value

_LISTS = (nn.ModuleList, nn.Sequential)


class Handle(NamedValues):
    """One module of a wrapped model.

    Attributes and indices mirror the module tree; anything else falls through to the real
    module (`.weight`, `.in_features`). The model's own children come before names of ours, which
    are all at `handle._own` too; except for `output`, `input` and `inputs`: a child of such a name
    is reached by its name in brackets, `handle["output"]`.

    Attributes:
        path, parts, call, name, module: as of every `Place`.
    """

    __slots__ = ()
    if TYPE_CHECKING:  # of a decoder block; `__getattr__` finds them
        attn: Handle
        mlp: Handle

    # ── values ───────────────────────────────────────────────────────────────────────────

    @touching
    def pattern(self) -> Value:
        """Of an attention module: how much each token attends to each, by head.

        `(batch, heads, tokens, tokens)`: rows are queries, columns keys, each row sums to 1. It
        can be written to. It is the output of the module's softmax (`ops.softmax[0]`, whose input
        are the scores), and is there whether or not attention runs fused.

        Raises:
            NoSuchModuleError: the module is no attention module.

        >>> from nnsight_magic import LanguageModel
        >>> model = LanguageModel("demo")
        >>> with model.trace("The Eiffel Tower"):
        ...     model.layers[5].attn.pattern[:, 3] = 0      # head 3 attends to nothing
        ...     pattern = model.layers[5].attn.pattern
        >>> pattern.shape, float(pattern[0, 3].sum())
        (torch.Size([1, 9, 4, 4]), 0.0)
        """
        return pattern_of(self).output

    @pattern.setter
    def pattern(self, new: Any) -> None:
        pattern_of(self).output = new

    q = attention_values.Q
    k = attention_values.K
    v = attention_values.V
    z = attention_values.Z
    q_rot = attention_values.Q_ROTATED
    k_rot = attention_values.K_ROTATED
    scores = attention_values.ATTENTION_SCORES
    result = attention_values.RESULT
    scale = norm_values.SCALE_OF_NORM

    def trace(
        self, *inputs: Any, full: bool = False, grad: bool | None = None, **kwargs: Any
    ) -> Any:
        """A trace of this module alone, called with these arguments.

        >>> from nnsight_magic import LanguageModel
        >>> model = LanguageModel("demo")
        >>> with model.trace("The Eiffel Tower"):
        ...     given, expected = model.layers[3].mlp.input, model.layers[3].mlp.output
        >>> with model.layers[3].mlp.trace(given.value):
        ...     alone = model.layers[3].mlp.output
        >>> bool((alone == expected).all())
        True
        """
        return self._model._trace_of(self, inputs, kwargs, full, grad)

    def all(self) -> NoReturn:
        """Of nnsight: every step. Here a loop visits them.

        Raises:
            SpellingError: always.
        """
        refuse_block_of_steps(f"{self.name or 'model'}.all()")

    def skip(self, value: Any) -> None:
        """Do not run this module: `value` is what it gives.

        On a decoder block `value` is the hidden states `(batch, tokens, hidden)`; on any other
        module it is whatever the module returns. `block.skip(block.input)` leaves a block out.

        Raises:
            AlreadyRanError: the module has begun to run.
        """
        running_at(self, "skip").skip(self, value)

    @property
    def calls(self) -> _Calls:
        """The calls of a module that runs more than once in a forward: `shared.calls[1].output`."""
        return _Calls(self)

    @property
    def ops(self) -> Operations:
        """The torch operations of the module's forward: `attn.ops.softmax[0].output`."""
        return Operations(self)

    @property
    def source(self) -> Source:
        """The module's forward as it is written, with its operations beside their lines."""
        return source_of(self)

    # ── the tree ─────────────────────────────────────────────────────────────────────────

    @property
    def _module(self) -> nn.Module:
        """The same, as nnsight calls it."""
        return self.module

    def get(self, path: str) -> Any:
        """`model[path]`, as nnsight spells it."""
        return self[path]

    @property
    def _own(self) -> Own:
        """Everything of this package by name, where a child of the model hides it.

        >>> from nnsight_magic import Model
        >>> model = Model(nn.ModuleDict({"trace": nn.Linear(2, 2), "scan": nn.ReLU()}))
        >>> model._own.block_count
        0
        """
        return Own(self)

    @property
    def is_block(self) -> bool:
        """Whether this is one of the model's decoder blocks."""
        return self._model.names.is_block(self.path) and self._model.block_index_zero

    def children(self) -> dict[str, Handle]:
        """The child modules, by their real names."""
        return {name: self._child(name) for name in self._children()}

    def _children(self) -> list[str]:
        own = self.ancestors()[-1]._modules
        names = [name for name, child in own.items() if child is not None]
        if self._model._handles.attached:
            parents = (path.rpartition(".") for path in self._model._handles.attached)
            names += [name for parent, _, name in parents if parent == self.path]
        return names

    def _has_attached(self, name: str) -> bool:
        attached = self._model._handles.attached
        return bool(attached) and (f"{self.path}.{name}" if self.path else name) in attached

    def _child(self, name: str) -> Handle:
        return self._model._handles.at(f"{self.path}.{name}" if self.path else name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise_what_failed(self, name)
        module = self.ancestors()[-1]  # the tree is there before the weights are
        if module._modules.get(name) is not None or self._has_attached(name):
            return self._child(name)
        other = self._standard(name, module) or self._renamed(name)
        if other is not None:
            return self._model._handles.at(other)
        if name == "heads" and not hasattr(module, name):
            return Heads(self, *head_layout(self))
        try:
            value = getattr(self.module, name)
        except AttributeError:
            raise NoSuchModuleError(self._no_such(name)) from None
        if isinstance(value, nn.Module):
            path = self._model._handles.paths().get(id(value))
            return value if path is None else self._model._handles.at(path)
        return fluent(self, name, value)

    def _standard(self, name: str, module: nn.Module) -> str | None:
        if not self.path and name in ROOT_NAMES:
            return self._model.names.path_of(name)
        if name in BLOCK_NAMES and self._model.names.is_block(self.path):
            part = part_of_block(module, name)
            return f"{self.path}.{part}" if part else None
        return None

    def _renamed(self, name: str) -> str | None:
        """The real path of a child that the user calls otherwise."""
        for real, alias in self._model._handles.rename.items():
            if name == alias or (not isinstance(alias, str) and name in alias):
                module = self.ancestors()[-1]
                for part in real.split("."):
                    module = module._modules.get(part) if module is not None else None
                if module is not None:
                    return f"{self.path}.{real}" if self.path else real
        return None

    def __setattr__(self, name: str, new: Any) -> None:
        if name in self._hides:
            object.__setattr__(self, name, new)
        elif isinstance(new, nn.Module) and self._may_attach(name):
            attach(self, name, new)
        else:
            super().__setattr__(name, new)

    def _may_attach(self, name: str) -> bool:
        ours = names_of(type(self)).get(name)
        if ours is not None:
            return not ours.has(self)
        return not isinstance(getattr(type(self), name, None), property)

    def __delattr__(self, name: str) -> None:
        if name in getattr(self, "__dict__", ()):
            object.__delattr__(self, name)
            return
        detach(self, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module on these values, in your own code.

        In a trace this is no call of the forward: no touch sees it, and nothing flows on unless
        you write it somewhere. (A logit lens is right in every architecture as
        `model.layers[-1].output = early` and `model.logits`: some cap or scale behind `unembed`.)

        >>> from nnsight_magic import LanguageModel
        >>> model = LanguageModel("demo")
        >>> with model.trace("The Eiffel Tower is in the city of"):
        ...     early = model.unembed(model.norm(model.layers[28].output))
        >>> model.tokenizer.decode(early[0, -1].argmax())
        ' Paris'
        """
        return call_module(self, args, kwargs)

    @overload
    def __getitem__(self, index: int | str) -> Handle: ...
    @overload
    def __getitem__(self, index: slice) -> list[Handle]: ...
    def __getitem__(self, index: int | slice | str) -> Handle | list[Handle]:
        if isinstance(index, str):
            handle = self
            for part in re.findall(r"[^.\[\]]+", index):
                handle = handle._named(part)
            return handle
        module = self.module
        if not isinstance(module, _LISTS):
            raise NotAListError(
                f"{self.name or 'The model'} is a {type(module).__name__} and cannot be indexed by "
                f"{index!r}.\nIts children: {', '.join(self._children()) or 'none'}."
            )
        if isinstance(index, slice):
            return self._model._handles.items(self.path, range(len(module))[index])
        try:
            return self._child(str(range(len(module))[index]))
        except IndexError:
            raise NoSuchIndexError(
                f"{self.name}[{index}] is out of range: {self.name} has {len(module)} modules, "
                f"0 to {len(module) - 1}."
            ) from None

    def _named(self, part: str) -> Handle:
        """The child with this real or standard name, or at this index."""
        module = self.ancestors()[-1]
        if module._modules.get(part) is not None or self._has_attached(part):
            return self._child(part)
        other = self._standard(part, module) or self._renamed(part)
        if other is not None:
            return self._model._handles.at(other)
        if isinstance(module, _LISTS) and part.lstrip("-").isdigit():
            return self[int(part)]
        raise NoSuchModuleError(self._no_such(part))

    def __len__(self) -> int:
        return len(self.module)  # pyright: ignore[reportArgumentType] - a list, or it says so

    def __iter__(self) -> Iterator[Handle]:
        module = self.module
        if not isinstance(module, _LISTS):
            raise NotAListError(
                f"{self.name or 'The model'} is a {type(module).__name__} and no list of modules."
            )
        return iter(self._model._handles.items(self.path, range(len(module))))

    def __dir__(self) -> list[str]:
        ours = [n for n in super().__dir__() if (v := named_on(self, n)) is None or v.has(self)]
        names = [*ours, *self._children(), *dir(self.module)]
        if not self.path:
            names += ROOT_NAMES
        elif self._model.names.is_block(self.path):
            names += BLOCK_NAMES
        return sorted({name for name in names if name.isidentifier()})

    def __repr__(self) -> str:
        return tree_text(self)

    def __reduce__(self):
        return _part, (self._model, self.path, self.call)

    def _no_such(self, name: str) -> str:
        known = self._children()
        if not self.path:
            known = [*known, *(n for n in ROOT_NAMES if self._model.names.path_of(n))]
        elif self._model.names.is_block(self.path):
            known = [*known, *(n for n in BLOCK_NAMES if part_of_block(self.module, n))]
        known = [*known, "output", "input", "inputs"]
        where = self.name or "The model"
        found = f"{where} ({type(self.module).__name__}) has no {name!r}."
        hint = asked_sentence(name, known, 0.5)
        return f"{found}{hint}\nIt has: {', '.join(known[:12])}{', …' if len(known) > 12 else ''}."


class _Calls:
    """Indexing gives a handle to one call of a module that runs several times in a forward."""

    def __init__(self, handle: Handle):
        self._handle = handle

    def __getitem__(self, call: int) -> Handle:
        handle = Handle(self._handle._model, self._handle.path, call)
        hide_names(handle, handle.ancestors()[-1])
        return handle


def _part(model: Any, path: str, call: int) -> Handle:
    """What a pickle calls to have a handle back."""
    handle = model._handles.at(path) if path else model
    return handle.calls[call] if call else handle
