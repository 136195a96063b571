"""`LanguageModel`: load a language model, trace it, generate with it."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.model.model import Model
from nnsight_magic.engine.model.prompt_tokens import Tokens, tokens_of
from nnsight_magic.engine.model.travel import state_of
from nnsight_magic.engine.places.place import running_at, touching
from nnsight_magic.engine.places.spellings import without_foreign_options
from nnsight_magic.engine.running.filled import filled_among
from nnsight_magic.engine.running.inputs import (
    Inputs,
    inputs_among,
    prepare,
    refuse_more,
    refuse_twice,
    without_inputs,
)
from nnsight_magic.engine.running.options import check_generation, check_options
from nnsight_magic.engine.running.scan import Scan, scan
from nnsight_magic.engine.running.sizes import hidden_size, key_value_heads, query_heads
from nnsight_magic.engine.tracing.generated import Generator
from nnsight_magic.engine.tracing.generation import GenerationTracer
from nnsight_magic.engine.tracing.sequences import Generation
from nnsight_magic.engine.tracing.token_texts import rows_of
from nnsight_magic.engine.tracing.traceback import OnUsersLine
from nnsight_magic.engine.tracing.tracer import Tracer
from nnsight_magic.engine.values.value import Value
from nnsight_magic.errors import BadInputError, NoSuchModuleError
from nnsight_magic.loading.given import unwrap
from nnsight_magic.loading.load import Source, open_source


class LanguageModel(Model):
    """A language model of transformers, by name or as an object.

    Args:
        source: `"demo"`, a hub name, a local folder (of an adapter too), a GGUF file, or a model
            that is in memory: a module, a pipeline, or what another library has wrapped.
        tokenizer: for a model in memory; loaded beside the weights otherwise.
        device_map: `"cpu"`, `"cuda"`, `"auto"`, … as `from_pretrained` takes it.
        dtype: of the weights, such as `torch.bfloat16` or `"bfloat16"`.
        dispatch: load the weights now. By default the first trace loads them, and until then
            the module tree is on the meta device.
        block_index_zero, rename: see `Model`.
        kwargs: go to `from_pretrained`.

    Raises:
        ModelNotFound: nothing goes by that name.

    >>> model = LanguageModel("demo")
    >>> with model.trace("The Eiffel Tower is in the city of"):
    ...     hidden = model.layers[5].output.save()
    ...     best = model.logits[0, -1].argmax()
    >>> hidden.shape, model.tokenizer.decode(best)
    (torch.Size([1, 9, 576]), ' Paris')
    """

    _source: Source | None  # where the weights come from, of a model that has a name
    _given_tokenizer: Any
    _placement: dict[str, Any]  # what the weights are loaded with
    _weights_are_there: bool

    def __init__(
        self,
        source: Any,
        tokenizer: Any = None,
        *,
        device_map: Any = None,
        dtype: Any = None,
        dispatch: bool = False,
        block_index_zero: bool = True,
        rename: dict[str, str | list[str]] | None = None,
        **kwargs: Any,
    ):
        source, tokenizer = unwrap(source, tokenizer)
        own = {"block_index_zero": block_index_zero, "rename": rename}
        if isinstance(source, nn.Module):
            super().__init__(source, **own)
            self._source, self._weights_are_there = None, True
        else:
            self._source, self._weights_are_there = open_source(str(source), **kwargs), False
            super().__init__(self._source.skeleton(), **own)
            by_name = {"source": str(source), "tokenizer": tokenizer}
            self._recipe = {**by_name, "device_map": device_map, "dtype": dtype, **own, **kwargs}
        self._given_tokenizer = tokenizer
        self._placement = {"device_map": device_map, "dtype": dtype}
        if dispatch:
            self._load()

    def _share(self, original: Any) -> None:
        self._source, self._placement = original._source, original._placement
        self._given_tokenizer = original._given_tokenizer
        self._weights_are_there = original.loaded
        super()._share(original)

    def _options(self) -> dict[str, Any]:
        return {"tokenizer": self._given_tokenizer, **super()._options()}

    @property
    def module(self) -> nn.Module:
        """The transformers model itself; loads the weights if they are not."""
        self._load()
        return self._root

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, `None` for a model in memory that was given none."""
        if self._given_tokenizer is not None or self._source is None:
            return self._given_tokenizer
        return self._source.tokenizer

    @property
    def loaded(self) -> bool:
        """Whether the weights are there: until they are, the tree is on the meta device."""
        return self._weights_are_there

    def dispatch(self) -> None:
        """Load the weights now, as `dispatch=True` does."""
        self._load()

    def _load(self) -> None:
        if self._weights_are_there or self._source is None:
            return
        original = self._shares_with
        self._root = root = (
            self._source.weights(**self._placement) if original is None else original.module
        )
        self._as_loaded, self._weights_are_there = state_of(root), True

    def trace(
        self,
        inputs: Any = None,
        *more: Any,
        full: bool = False,
        grad: bool | None = None,
        resume: bool = True,
        trace: bool = True,
        **kwargs: Any,
    ) -> Tracer:
        """A block in which the values of one forward can be read and written.

        Args:
            inputs: a prompt, a list of prompts (a padded batch), token ids `(tokens,)` or
                `(batch, tokens)`, or a dict of the model's own arguments. These may also be given
                as transformers takes them: `trace(**tokenizer(prompt, return_tensors="pt"))`.
            full: run the forward to its end, even where nothing later is wanted.
            grad: record for autograd. By default, if the block uses `backward`, `grad` or
                `requires_grad_`, or what it binds is asked for gradients behind it.
            resume: start from remembered block outputs where they are the same to the bit; see
                `model.resume`.
            trace: off, the model is run at once, and what it returns is given.
            kwargs: further arguments of the model's `forward`.

        Raises:
            BadInputError: no forward can be run on `inputs`.
            TraceInsideTraceError: this model is being traced in this thread.
        """
        if not trace:
            return self._at_once(inputs, *more, full=True, grad=grad, resume=resume, **kwargs)
        with OnUsersLine():
            refuse_more("trace", inputs, more)
            kwargs = without_foreign_options("trace", kwargs)
            options = without_inputs(kwargs, self._root)
            again = partial(self.trace, full=full, grad=grad, resume=resume, **options)
            if inputs is None and not kwargs:
                return Tracer(self, None, full=full, grad=grad, again=again)
            prepared = self._prepared(inputs, kwargs, self.module)
            arguments = self._arguments(prepared, kwargs)
            return self._tracer_for(prepared, arguments, full, grad, resume, again)

    def scan(self, inputs: Any = None, *more: Any, **kwargs: Any) -> Scan:
        """Shapes and dtypes of every module's input and output, without weights.

        Nothing is loaded and nothing is computed: a model of 70 billion parameters is scanned in
        seconds.

        Args:
            inputs: as in `trace`.
            kwargs: as in `trace`.

        Raises:
            ScanError: the model looks at numbers to decide what it does next.

        >>> model = LanguageModel("demo")
        >>> model.scan("The Eiffel Tower")["model.layers.3.mlp"].output
        float32 (1, 4, 576)
        >>> model.loaded
        False
        """
        with OnUsersLine():
            refuse_more("scan", inputs, more)
            kwargs = without_foreign_options("scan", kwargs)
            given = self._prepared(inputs, kwargs, self._root)
            check_options("scan", (), kwargs, self._root)
        return scan(self._root, given, self._arguments(given, kwargs)).of(self)

    def _arguments(self, prepared: Inputs, kwargs: dict) -> dict[str, Any]:
        """What the model's `forward` is given beside the inputs."""
        arguments = dict(kwargs)
        if self._is_decoder and not filled_among((*kwargs.values(), *prepared.kwargs.values())):
            # A trace is one forward: nothing reads the cache that it would leave behind.
            arguments.setdefault("use_cache", False)
        config = getattr(self._root, "config", None)
        if getattr(config, "is_encoder_decoder", False):
            start = getattr(config, "decoder_start_token_id", None)
            given = arguments.keys() | prepared.kwargs.keys()
            rows = next(iter(prepared.kwargs.values()), None)
            if not (start is None or rows is None or {"decoder_input_ids", "labels"} & given):
                ids = torch.full((rows.shape[0], 1), start, device=rows.device)
                arguments.setdefault("decoder_input_ids", ids)
        return arguments

    def tokens(self, inputs: Any) -> Tokens | list[Tokens]:
        """What a prompt is for this model: its tokens, with positions, ids and texts.

        Nothing is run, and no weights are loaded.

        Args:
            inputs: as in `trace`.

        Returns:
            `Tokens`, a tuple of `(position, id, text)`; of several prompts a list of them.

        Raises:
            BadInputError: the model could not be run on `inputs`.

        >>> model = LanguageModel("demo")
        >>> model.tokens("The Eiffel Tower")
        0 'The' 504
        1 ' E' 414
        2 'iffel' 46682
        3 ' Tower' 18669
        """
        with OnUsersLine():
            given = self._prepared(inputs, {}, self._root).kwargs
        ids, mask = given.get("input_ids"), given.get("attention_mask")
        if ids is None:
            raise BadInputError(
                f"{type(self._root).__name__} runs on no tokens, so there are none to show."
            )
        rows = rows_of(ids, mask, self.tokenizer)
        found = [
            tokens_of(ids[row.index, row.start : row.stop].tolist(), row.tokens) for row in rows
        ]
        return found[0] if len(found) == 1 else found

    @touching
    def n_layers(self) -> int:
        """How many decoder blocks there are.

        >>> model = LanguageModel("demo")
        >>> model.n_layers, model.n_heads, model.n_key_value_heads, model.hidden_size
        (30, 9, 3, 576)
        """
        return self._size("blocks", self.block_count)

    @touching
    def n_heads(self) -> int:
        """With how many heads each block attends."""
        return self._size("attention heads", query_heads(self._root))

    @touching
    def n_key_value_heads(self) -> int:
        """How many of them have keys and values of their own: fewer where queries share them."""
        return self._size("attention heads", key_value_heads(self._root))

    @touching
    def hidden_size(self) -> int:
        """How long the vector of a token is in the residual stream."""
        return self._size("hidden size that its configuration names", hidden_size(self._root))

    def _size(self, what: str, found: int | None) -> int:
        if not found:
            raise NoSuchModuleError(f"This model ({type(self._root).__name__}) has no {what}.")
        return found

    def generate(
        self,
        inputs: Any = None,
        *more: Any,
        full: bool = True,
        grad: bool | None = None,
        **kwargs: Any,
    ) -> Generation:
        """Generate text: as a `with` block for interventions, or at once.

        Without `with` the result is used like the tensor of sequences `(batch, tokens)` that
        transformers' `generate` returns. In a block, step 0 processes the prompt and step k the
        k-th new token; `tracer.steps` visits them, and `tracer.result` has the sequences.

        Args:
            inputs: as in `trace`.
            full: finish the text when the block is left; otherwise it ends with the last touch.
            grad: as in `trace`.
            kwargs: `max_new_tokens`, `do_sample`, … as transformers' `generate` takes them.

        Raises:
            BadInputError: no text can be generated from `inputs`.
        """
        with OnUsersLine():
            refuse_more("generate", inputs, more)
            kwargs = without_foreign_options("generate", kwargs)
            options = without_inputs(kwargs, self._root)
            again = partial(self._generation, full=full, grad=grad, **options)
            return Generation(self._generation(inputs, full=full, grad=grad, again=again, **kwargs))

    def _generation(
        self, inputs: Any = None, *, full, grad, again=None, **kwargs
    ) -> GenerationTracer:
        prepared = self._prepared(inputs, kwargs, self.module)
        if hasattr(self.module, "generation_config"):
            check_generation(("full", "grad"), kwargs, self.module)
        return GenerationTracer(
            self, prepared, kwargs, self.tokenizer, full=full, grad=grad, again=again
        )

    @cached_property
    def _is_decoder(self) -> bool:
        return hasattr(self._root, "generate") and hasattr(self._root.config, "use_cache")

    def _prepared(self, inputs: Any, kwargs: dict, module: nn.Module) -> Inputs:
        """What to run on: `inputs`, or those arguments in `kwargs`, which are taken out of it."""
        if inputs is None:
            inputs = inputs_among(kwargs, module)
        if inputs is None:
            return Inputs()
        prepared = prepare(inputs, module, self.tokenizer)
        refuse_twice(prepared, kwargs, module)
        return prepared

    @property
    def generator(self) -> Any:
        """The text being generated: `model.generator.output` is `tracer.result`."""
        return Generator(self)

    @touching
    def logits(self) -> Value:
        """The final logits `(batch, tokens, vocabulary)`; in a generation of the last position."""
        return self._speaker().output.logits

    @logits.setter
    def logits(self, new: Any) -> None:
        output: Any = self._speaker().output
        output.logits = new

    def _speaker(self) -> Any:
        """The module that gives logits in the run that goes on."""
        tracer = running_at(self, "logits")
        return tracer.speaker if isinstance(tracer, GenerationTracer) else self
