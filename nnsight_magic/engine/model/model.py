"""`Model`: any `torch.nn.Module`, wrapped so that it can be traced."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from nnsight_magic.engine.editing.edits import Edit, Edits, functional
from nnsight_magic.engine.memory.resume import Resume
from nnsight_magic.engine.memory.shortcut import Shortcut
from nnsight_magic.engine.model.browse import tree_of
from nnsight_magic.engine.model.travel import by_name, deep_copy, edits_of, shallow_copy, with_edits
from nnsight_magic.engine.places.findings import Findings
from nnsight_magic.engine.places.handle import Handle
from nnsight_magic.engine.places.handles import Handles
from nnsight_magic.engine.places.own_names import class_of, hide_names
from nnsight_magic.engine.places.spellings import Session, without_foreign_options
from nnsight_magic.engine.places.standard_names import StandardNames, blocks_at, find_names
from nnsight_magic.engine.places.tree_text import tree_text
from nnsight_magic.engine.running.filled import OnCopies, filled_among
from nnsight_magic.engine.running.inputs import Inputs, prepare, with_positions
from nnsight_magic.engine.running.options import check_options
from nnsight_magic.engine.running.scan import Scan, scan
from nnsight_magic.engine.sweeping.how_far import HowFar
from nnsight_magic.engine.sweeping.run import Call, swept
from nnsight_magic.engine.sweeping.sweep import Settings
from nnsight_magic.engine.sweeping.texts import Texts, swept_texts
from nnsight_magic.engine.tracing.traceback import OnUsersLine
from nnsight_magic.engine.tracing.tracer import Tracer
from nnsight_magic.engine.tracing.turn import Turn
from nnsight_magic.engine.values.parts import Parts
from nnsight_magic.engine.values.value import Value
from nnsight_magic.errors import LoadError
from nnsight_magic.loading.given import unwrap

if TYPE_CHECKING:
    from nnsight_magic.views.live.tree import TreeView

    cached_property = property  # what the interfaces of `ports` are matched with
else:
    from functools import cached_property


R = TypeVar("R")  # what a sweep's function returns
_OF_TRACE = ("full", "grad", "resume")


class Model(Handle):
    """A wrapped `torch.nn.Module`; the handle of its root.

    Wrapping changes nothing in the module, and outside a trace it has no hook of ours.

    Attributes:
        resume: the memory of block outputs that later forwards start from.
        edits: the writes that every trace carries out, by name; see `edit`.
        names: where this architecture keeps its standard parts.

    Args:
        module: the module to trace.
        block_index_zero: whether `block.output[0]` means the hidden states `(batch, tokens,
            hidden)` on decoder blocks, whatever the block returns. Off: plain indexing.
        rename: names of your own beside the real ones, from a child's name or path to its other
            name: `{"transformer.h": "blocks", "mlp": "ff"}`.

    >>> import torch
    >>> model = Model(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()))
    >>> with model.trace(torch.ones(1, 3)):
    ...     hidden = model[0].output.save()
    >>> hidden.shape
    torch.Size([1, 4])
    """

    __slots__ = ("__dict__",)
    resume: Resume
    edits: Edits
    block_index_zero: bool
    _root: nn.Module
    _turn: Turn
    _handles: Handles
    _findings: Findings
    _recipe: dict[str, Any] | None  # how to load it again by its name, where it has one
    _as_loaded: list[tuple] | None  # the state of its weights then
    _shares_with: Model | None  # the model whose edited copy this is
    if TYPE_CHECKING:  # wherever the architecture has them; `__getattr__` finds them
        layers: Handle
        embed: Handle
        norm: Handle
        unembed: Handle

    def __init__(
        self,
        module: nn.Module,
        *,
        block_index_zero: bool = True,
        rename: dict[str, str | list[str]] | None = None,
    ):
        super().__init__(self, "")
        self._root = _module_in(module)
        self._turn = Turn()
        self._handles = Handles(self, {}, dict(rename or {}))
        self._findings = Findings()
        self._recipe = self._as_loaded = self._shares_with = None
        self.resume = Resume()
        self.edits = Edits(self)
        self.block_index_zero = block_index_zero
        hide_names(self, self._root)

    def _edited_copy(self) -> Model:
        copy = object.__new__(class_of(self))
        Handle.__init__(copy, copy, "")
        copy._share(self)
        hide_names(copy, copy._root)
        return with_edits(copy, edits_of(self))

    def _share(self, original: Model) -> None:
        """Wrap the module of another wrapper, with its weights and what is attached to its tree."""
        self._root, self._shares_with = original._root, original
        self._recipe, self._as_loaded = original._recipe, original._as_loaded
        self._turn = Turn(beside=original._turn)
        self._handles = original._handles.for_edited_copy(self)
        self._findings = original._findings.for_edited_copy()
        self.resume = Resume(original.resume.budget)
        self.resume.enabled = original.resume.enabled
        self.edits = Edits(self)
        self.block_index_zero = original.block_index_zero

    def _options(self) -> dict[str, Any]:
        """What another wrapper like this one is made with, beside the module."""
        return {"block_index_zero": self.block_index_zero, "rename": self._handles.rename}

    # ── running ──────────────────────────────────────────────────────────────────────────

    def trace(
        self,
        *inputs: Any,
        full: bool = False,
        grad: bool | None = None,
        resume: bool = True,
        trace: bool = True,
        **kwargs: Any,
    ) -> Tracer:
        """A block in which the module's values can be read and written.

        The block runs in place; the forward runs as far as each touch needs, and ends after the
        last one unless `full`.

        Args:
            inputs: the module's positional arguments, as its `forward` takes them.
            full: run the forward to its end.
            grad: record for autograd. By default, if the block uses `backward`, `grad` or
                `requires_grad_`, or what it binds is asked for gradients behind it.
            resume: start from remembered block outputs where they are the same to the bit; see
                `model.resume`.
            trace: off, the module is run at once, and what it returns is given.
            kwargs: keyword arguments of the module's `forward`.

        Raises:
            TraceInsideTraceError: this model is being traced in this thread.
        """
        if not trace:
            return self._at_once(*inputs, full=True, grad=grad, resume=resume, **kwargs)
        with OnUsersLine():
            kwargs = without_foreign_options("trace", kwargs)
            again = partial(self.trace, full=full, grad=grad, resume=resume)
            if not inputs and not kwargs:
                return Tracer(self, None, full=full, grad=grad, again=again)
            prepared = prepare(inputs if len(inputs) != 1 else inputs[0], self.module, None)
            return self._tracer_for(prepared, kwargs, full, grad, resume, again)

    def edit(
        self,
        name: str | None = None,
        site: Handle | None = None,
        kind: str = "output",
        *,
        at: Any = None,
        set: Any = None,  # noqa: A002
        add: Any = None,
        scale: Any = None,
        steps: Iterable[int] | None = None,
        inplace: bool | None = None,
        **others: Any,
    ) -> Edit:
        """Writes that every later trace and generation carries out, until they are removed.

        As a block it records the writes in it: `=`, `+=`, `-=`, `*=` and `/=` of a
        number or tensor into outputs and inputs. `with model.edit() as edited:` leaves the model as
        it is, and `edited` is a copy that has the edit, of the same weights. With a name, or
        `inplace=True`, the model itself has it from then on. Given a module, it is one write at
        once, to the model itself. Edits are carried out in the order in which they were made,
        before a trace reads or writes the site. One of the same name replaces the earlier one.

        Args:
            name: for `model.edits[name]`.
            site: the module to write to, instead of a block.
            kind: `"output"`, `"input"` or `"inputs"`.
            at: the index of the part to write to; the whole by default.
            set, add, scale: what to do there, one of the three.
            steps: the steps of a generation to do it at; all by default.
            inplace: edit the model itself; by default if there is a name or a module.

        Raises:
            EditError: what is written is not known in numbers.

        >>> import torch
        >>> model = Model(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()))
        >>> with model.edit("silence") as edited:
        ...     model[0].output[:, 1:] = -1
        >>> with model.trace(torch.ones(1, 3)):
        ...     positive = model[1].output[0] > 0
        >>> positive[1:].tolist(), model.edits
        ([False, False, False], silence: 0.output[:, 1:] = -1)
        >>> edited.remove()
        """
        check_options("edit", (), without_foreign_options("edit", others), self._root)
        in_place = bool(name or site is not None) if inplace is None else inplace
        name = name or self.edits.new_name()
        if site is None:
            edit = Edit(name, _model=self, _in_place=in_place)
        else:
            values = {"set": set, "add": add, "scale": scale}
            edit = functional(self, name, site, kind, at, values)
            self.edits._add(edit)
        edit.steps = None if steps is None else tuple(steps)
        return edit

    def clear_edits(self) -> None:
        """Remove all edits, as `model.edits.clear()`."""
        self.edits.clear()

    def session(self, **others: Any) -> Session:
        """A block around traces; here it changes nothing, as values of one are there in the next.

        Raises:
            SpellingError: `remote=True`, which there is not.
        """
        check_options("session", (), without_foreign_options("session", others), self._root)
        return Session(self)

    def _at_once(self, *inputs: Any, **options: Any) -> Any:
        """What the model returns, without a block; edits in force are carried out."""
        with self.trace(*inputs, **options) as tracer:
            found = tracer.result
        return found.value if isinstance(found, Parts | Value) else found

    def scan(self, *inputs: Any, **kwargs: Any) -> Scan:
        """Shapes and dtypes of every module's input and output, without running anything.

        No weights are needed and none are loaded; numbers of the inputs do not matter.

        Args:
            inputs: as in `trace`.
            kwargs: as in `trace`.

        Raises:
            ScanError: the model looks at numbers to decide what it does next.

        >>> import torch
        >>> model = Model(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()))
        >>> model.scan(torch.ones(1, 3))["0"].output
        float32 (1, 4)
        """
        given = inputs if len(inputs) != 1 else inputs[0]
        kwargs = without_foreign_options("scan", kwargs)
        check_options("scan", (), kwargs, self._root)
        prepared = prepare(given, self._root, None) if inputs else Inputs()
        return scan(self._root, prepared, kwargs).of(self)

    def tree(self, *inputs: Any, **kwargs: Any) -> TreeView:
        """The modules in a view that can be opened, searched and walked; in a console, as text.

        With inputs every module has the shapes of its input and output beside it, from a `scan`.

        Args:
            inputs: as in `scan`; none, and no shapes are shown.
            kwargs: as in `scan`.

        Returns:
            A widget; see `nnsight_magic.views.TreeView` for what can be read and set.

        Raises:
            ScanError: as in `scan`.

        >>> import torch
        >>> model = Model(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()))
        >>> model.tree(torch.ones(1, 3)).notes["0"]
        {'i': '(1, 3)', 'o': '(1, 4)'}
        """
        return tree_of(self, self.scan(*inputs, **kwargs) if inputs or kwargs else None)

    def sweep(
        self,
        inputs: Any,
        change: Callable[..., R],
        variants: Iterable[Any],
        *,
        batch_size: int | None = None,
        pack: bool = True,
        progress: bool | Callable[[HowFar], None] = True,
        prompt_of: Sequence[int] | None = None,
        references: Mapping[str, Any] | None = None,
        grad: bool = False,
        writes: bool = True,
        keep_going: bool = False,
        new_tokens: int | None = None,
        **kwargs: Any,
    ) -> list[R]:
        """Run `change` once for every variant, in as few forwards as possible.

        The results are what a loop of traces gives, `with model.trace(inputs): change(variant)`,
        up to rounding (1e-4 in single precision). The blocks before a variant's first touch are
        run once for all. In a causal decoder neither are the tokens before a variant's first
        write run again: what is written at a position changes none before it.

        Args:
            inputs: as in `trace`.
            change: called with each variant (a tuple is spread); reads and writes values like the
                body of a trace, of one copy of the inputs. What it returns is its result.
            variants: what `change` is called with.
            batch_size: variants in one batch; by default as many as make 1,024 tokens, and 256 MB
                of logits, patterns or graph.
            pack: leave out tokens that stay as they are. It is done where the model has been seen,
                on this prompt, to give the same numbers so.
            progress: show a bar if it takes longer than a second; or what is called with a `HowFar`
                after every batch: points, seconds, seconds left, the new results.
            prompt_of: for each variant, which of several prompts (`inputs`, then) it runs on,
                alone. Those of equal length share batches.
            references: prompts that `change` reads and never writes, by the keyword that it is
                given each as: `clean.layers[3].output`. One run of each serves all variants.
            grad: record for autograd, so that `change` may call `backward`: one pass for all of a
                batch, whose graph stays below 256 MB. What needs a pass of its own is run alone.
            writes: off, what `change` writes is left out: what it returns is the baseline.
            keep_going: a variant that raises has its exception as its result.
            new_tokens: make every variant a generation of so many tokens. `change` is given the
                keyword `tracer`, whose `steps` are the variant's own, and whose `result` is its
                text's ids. Variants share the rows of one batch, with writes of their own at each
                step; where it samples, each is run alone, from the same random numbers.
            kwargs: further arguments of the model's `forward`, such as `logits_to_keep=1`; of
                `generate`, where there are new tokens.

        Returns:
            What `change` returned for each variant, tensors as plain copies.

        Raises:
            WrongValueError: `change` returned what runs later, without its writes: a generation.
            BaseException: whatever `change` raises, and an interrupt. `error.point` is the
                variant's number, `error.point_name` how it is called, and `error.finished` has the
                results of the finished ones by number.

        >>> from nnsight_magic import LanguageModel
        >>> model = LanguageModel("demo")
        >>> def without_mlp(block):
        ...     model.layers[block].mlp.output[:, -1] = 0
        ...     return model.logits[0, -1].softmax(-1).max().item()
        >>> len(model.sweep("The Eiffel Tower is in the city of", without_mlp, range(3)))
        3
        """
        settings = Settings(batch_size, pack, grad, writes, keep_going)
        if new_tokens is not None:
            listed = list(variants)
            options = {"max_new_tokens": new_tokens, **kwargs}
            texts = Texts(self, change, listed, references or {}, settings, options)
            named = variants if isinstance(variants, Sequence) else listed
            return swept_texts(texts, inputs, named, prompt_of, progress)
        call = Call(
            lambda given: self.trace(given, **kwargs), inputs, change, list(variants), prompt_of,
            references or {}, settings,
        )  # fmt: skip
        return swept(call, variants, progress)

    def _trace_of(
        self, handle: Handle, inputs: tuple, kwargs: dict, full: bool, grad: bool | None
    ) -> Tracer:
        """A trace of one module alone."""
        _ = self.module  # the weights have to be there
        part = handle.module
        check_options("trace", ("full", "grad"), kwargs, part)
        return Tracer(
            self,
            OnCopies(part, inputs, kwargs),
            root=part,
            full=full or bool(filled_among((*inputs, *kwargs.values()))),
            grad=grad,
            random=part.training,
        )

    def _tracer_for(
        self,
        inputs: Inputs,
        kwargs: dict,
        full: bool,
        grad: bool | None,
        resume: bool,
        again: Callable[..., Tracer],
    ) -> Tracer:
        module = self.module
        check_options("trace", _OF_TRACE, kwargs, module)
        arguments = {**inputs.kwargs, **kwargs}
        if inputs.prompts is not None:  # a mask of the user's own means what it means to the model
            arguments = with_positions(arguments, module)
        return Tracer(
            self,
            OnCopies(module, inputs.args, arguments),
            args=inputs.args,
            prompts=inputs.prompts,
            inputs=arguments,
            full=full or bool(filled_among((*inputs.args, *arguments.values()))),
            grad=grad,
            random=module.training,
            shortcut=self._shortcut(inputs.args, arguments) if resume else None,
            again=again,
        )

    def _shortcut(self, args: tuple, kwargs: dict) -> Shortcut | None:
        """Past known blocks, where a forward gives nothing but what flows through the blocks."""
        if self.names.layers is None or not self.resume.enabled:
            return None
        config = getattr(self._root, "config", None)
        for name in ("use_cache", "output_hidden_states", "output_attentions"):
            if kwargs.get(name, getattr(config, name, False)):
                return None
        return Shortcut(self.resume, self._root, self.names, args, kwargs)

    # ── the tree ─────────────────────────────────────────────────────────────────────────

    @property
    def module(self) -> nn.Module:
        """The real module, with its weights."""
        return self._root

    @property
    def loaded(self) -> bool:
        """Whether the weights are there."""
        return True

    @cached_property
    def names(self) -> StandardNames:
        """Where this architecture keeps its standard parts."""
        return find_names(self._root)

    @property
    def blocks(self) -> list[Handle]:
        """The decoder blocks, none for a module that has no such list."""
        layers = self.names.layers
        return [] if layers is None else self._handles.items(layers, range(self.block_count))

    @property
    def block_count(self) -> int:
        """How many decoder blocks there are."""
        layers = self.names.layers
        return 0 if layers is None else len(blocks_at(self._root, layers))

    def __setattr__(self, name: str, new: Any) -> None:
        # What the class declares is the model's own. All else is a place in the tree, as on every
        # handle, and a child of the user's comes before a part of ours that has its name.
        if name in _declared(type(self)) and name not in self._hides:
            object.__setattr__(self, name, new)
        else:
            super().__setattr__(name, new)

    def __repr__(self) -> str:
        return tree_text(self)

    def __reduce__(self):
        return by_name(self)

    def __copy__(self) -> Model:
        return shallow_copy(self)

    def __deepcopy__(self, memo: dict) -> Model:
        return deep_copy(self, memo)


@cache
def _declared(kind: type) -> frozenset[str]:
    """What `Model` and the classes built on it say that an instance has, by their annotations."""
    models = (base for base in kind.__mro__ if issubclass(base, Model))
    return frozenset(name for base in models for name in inspect.get_annotations(base))


def _module_in(given: Any) -> nn.Module:
    module, _ = unwrap(given)
    if not isinstance(module, nn.Module):
        raise LoadError(
            f"Model takes a module, and {str(given)!r} is a name.\n"
            f"Load a language model by its name: LanguageModel({str(given)!r})."
        )
    return module
