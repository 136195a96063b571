"""From a name to a model: `demo`, a name on the hub, a local folder, a GGUF file.

`open_source` finds out what a name stands for and reads its configuration, which is quick. The
`Source` it returns gives the tokenizer, a skeleton without weights, and the model with weights,
each when it is asked for.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from nnsight_magic.errors import LoadError, NnsightWarning
from nnsight_magic.loading.adapter import add_adapter, load_adapter
from nnsight_magic.loading.demo import demo_folder
from nnsight_magic.loading.failure import failures_explained, first_lines, remedy, require_place
from nnsight_magic.loading.find import find
from nnsight_magic.loading.found import Found
from nnsight_magic.loading.gguf import plain_config, read_gguf, read_gguf_tokenizer, require_gguf
from nnsight_magic.loading.hub import cached_file, hub_has
from nnsight_magic.loading.quiet import quiet

# Arguments of `from_pretrained` that say where files come from: they hold for the
# configuration and the tokenizer as for the weights. All others are the weights' own.
PLACE_OPTIONS = (
    "revision",
    "subfolder",
    "token",
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "trust_remote_code",
    "code_revision",
)

# In the order in which they are tried on a configuration that does not name its class: a model
# that can speak should.
AUTO_CLASSES = (
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForImageTextToText",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForMaskedLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForQuestionAnswering",
    "AutoModelForImageClassification",
    "AutoModelForMaskedImageModeling",
    "AutoModel",
)

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)

# Device maps that are worked out from the memory there is.
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")

# Above this many bytes of weights a progress bar is worth its line.
LONG_LOAD = 2e9


def open_source(name: str | Path, **kwargs: Any) -> Source:
    """Find the model that `name` stands for, and read its configuration.

    Args:
        name: `"demo"`, a name on the hub, a folder as `save_pretrained` writes it, a GGUF file or
            a folder that holds one.
        kwargs: as `from_pretrained` takes them (`revision`, `attn_implementation`, `gguf_file`, …).

    Raises:
        ModelNotFound: nothing goes by that name; says where it was looked for, and what is near.
        LoadError: something is there, and cannot be read.
    """
    name = str(name)
    place = {key: kwargs.pop(key) for key in PLACE_OPTIONS if key in kwargs}
    # Not given, transformers would ask on standard input, where no notebook answers.
    place.setdefault("trust_remote_code", False)
    found = find(name, gguf_file=kwargs.pop("gguf_file", None), demo=demo_folder, **place)
    if found.local or found.offline:
        place["local_files_only"] = True
    if found.gguf_file:
        require_gguf(Path(found.gguf_file))
    config = kwargs.pop("config", None)
    if config is None:
        config = _config(found, place)
    return Source(name, found, config, place, kwargs)


@dataclass
class Source:
    """A model that was found, and of which nothing but the configuration is loaded yet.

    Attributes:
        name: as the user wrote it.
        config: the transformers configuration.
    """

    name: str
    found: Found
    config: Any
    place: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def auto_class(self) -> Any:
        """The class of transformers whose `from_pretrained` loads this model with its head."""
        return auto_class_for(self.config)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, made fit for batches; `None` where the model has none."""
        tokenizer = self._read_tokenizer()
        if tokenizer is None:
            return None
        if tokenizer.pad_token is None and tokenizer.eos_token is not None:
            tokenizer.pad_token = tokenizer.eos_token
        if self.auto_class.__name__.endswith("ForCausalLM"):
            # The last position of every row is then a real token, which is where one looks.
            tokenizer.padding_side = "left"
        return tokenizer

    def skeleton(self) -> nn.Module:
        """The module tree on the meta device: names and shapes, no weights; takes no memory."""
        import torch

        options = {k: v for k, v in self.options.items() if k == "attn_implementation"}
        with quiet(), failures_explained(self.name, remedy(self.found)), torch.device("meta"):
            model = self._from_config(plain_config(self.config), options)
            if self.found.adapter:
                add_adapter(model, self.found.adapter)
            return model.eval()

    def weights(self, device_map: Any = None, dtype: Any = None) -> nn.Module:
        """The model with its weights, in eval mode.

        Args:
            device_map: a device, `"auto"`, or a dict from module paths to devices; the CPU when
                not given.
            dtype: of the weights, such as `torch.bfloat16` or `"bfloat16"`; as stored when not
                given, and float32 for the demo model and GGUF files.

        Raises:
            LoadError: the weights cannot be read, or an option is unknown.
        """
        require_place(self.name, self.found)
        missing: list[str] = []
        with quiet(bars=self._is_long), failures_explained(self.name, remedy(self.found)):
            if file := self.found.gguf_file:
                model = self._gguf_weights(file, device_map, dtype)
            else:
                model, missing = self._stored_weights(device_map, dtype)
            if self.found.adapter:
                load_adapter(model, self.found.adapter)
        if missing:
            _warn_of_random(self.name, missing)
        return model.eval()

    def _stored_weights(self, device_map: Any, dtype: Any) -> tuple[nn.Module, list[str]]:
        """The model, and the parameters that its files lack."""
        options = {**self.place, **self.options}
        if device_map is not None:
            options["device_map"] = device_map
        options["dtype"] = dtype or ("float32" if self.found.demo else "auto")
        model, report = self.auto_class.from_pretrained(
            self.found.place, output_loading_info=True, **options
        )
        return model, sorted(report["missing_keys"])

    def _gguf_weights(self, file: str, device_map: Any, dtype: Any) -> nn.Module:
        place = self.found.place
        model = read_gguf(place, file, self.auto_class, **self.place, **self.options)
        if dtype is not None:
            model = model.to(_torch_dtype(dtype))
        return model if device_map is None else _placed(model, device_map)

    def _from_config(self, config: Any, options: dict[str, Any]) -> nn.Module:
        if hasattr(self.auto_class, "from_config"):
            trust = self.place["trust_remote_code"]
            return self.auto_class.from_config(config, trust_remote_code=trust, **options)
        return self.auto_class._from_config(config, **options)

    def _read_tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        options = {k: v for k, v in self.place.items() if k != "code_revision"}
        require_place(self.name, self.found)
        try:
            with quiet():
                if self.found.gguf_file:
                    place, file = self.found.place, self.found.gguf_file
                    return read_gguf_tokenizer(place, file, **options)
                tokenizer = AutoTokenizer.from_pretrained(self._tokenizer_place, **options)
        except Exception as problem:
            if not self._has_tokenizer_files():
                return None
            ask = "Install what it asks for, or pass one: LanguageModel(…, tokenizer=…)."
            raise LoadError(
                f"The tokenizer of {self.name} cannot be read.\n{first_lines(problem)}\n"
                f"{remedy(self.found) or ask}"
            ) from None
        # transformers makes up an empty tokenizer for some models that come without one.
        return tokenizer if len(tokenizer) > len(tokenizer.all_special_ids) else None

    @property
    def _tokenizer_place(self) -> str:
        """An adapter may come with a tokenizer of its own, which knows the words it was taught."""
        adapter = self.found.adapter
        if adapter and any((Path(adapter) / file).exists() for file in TOKENIZER_FILES):
            return adapter
        return self.found.place

    def _has_tokenizer_files(self) -> bool:
        if self.found.gguf_file:
            return True
        if self.found.local:
            return any((Path(self.found.place) / file).exists() for file in TOKENIZER_FILES)
        if self.found.offline:
            return any(
                cached_file(self.found.place, file, **self.place) for file in TOKENIZER_FILES
            )
        return any(hub_has(self.found.place, file, **self.place) for file in TOKENIZER_FILES)

    @property
    def _is_long(self) -> bool:
        """Whether loading takes so long that one wants to see it: a download, or large files."""
        if self.found.local:
            files = list(Path(self.found.place).glob(self.found.gguf_file or "*.safetensors"))
        else:
            cached = cached_file(self.found.place, "model.safetensors", **self.place)
            if not cached:
                return True
            files = [cached]
        return sum(file.stat().st_size for file in files) > LONG_LOAD


def auto_class_for(config: Any) -> Any:
    """The auto class that gives the architecture which a configuration names.

    A configuration that names none gets the first of `AUTO_CLASSES` that fits. An architecture
    that no auto class knows is taken from transformers by its name.
    """
    import transformers

    named = set(getattr(config, "architectures", None) or ())
    remote = set(getattr(config, "auto_map", None) or ())
    fitting = [getattr(transformers, name) for name in AUTO_CLASSES if hasattr(transformers, name)]
    for auto in fitting:
        if auto.__name__ in remote or named & _class_names(auto, config):
            return auto
    for name in sorted(named):
        if hasattr(transformers, name):
            return getattr(transformers, name)
    for auto in fitting:
        if _class_names(auto, config):
            return auto
    raise LoadError(
        f"transformers has no model for the configuration {type(config).__name__}"
        f" (architectures: {', '.join(sorted(named)) or 'none named'}).\n"
        "A newer transformers may have it; a model of your own can be passed as an object."
    )


def _class_names(auto: Any, config: Any) -> set[str]:
    """Names of the classes that an auto class gives for this kind of configuration."""
    try:
        classes = auto._model_mapping[type(config)]
    except KeyError:
        return set()
    return {c.__name__ for c in (classes if isinstance(classes, list | tuple) else (classes,))}


def _config(found: Found, place: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    options = dict(place)
    if found.gguf_file:
        options["gguf_file"] = found.gguf_file
    with quiet(), failures_explained(found.name, remedy(found)):
        return AutoConfig.from_pretrained(found.place, **options)


def _warn_of_random(name: str, missing: list[str]) -> None:
    shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
    # By the user's filters, and every time: `warn` would say it once for a line of code.
    warnings.warn_explicit(
        f"{name} holds no weights for {len(missing)} parameters; they are random now: {shown}",
        NnsightWarning,
        __file__,
        0,
        registry={},
    )


def _torch_dtype(dtype: Any) -> Any:
    import torch

    return getattr(torch, dtype) if isinstance(dtype, str) else dtype


def _placed(model: nn.Module, device_map: Any) -> nn.Module:
    """A model in memory, moved as a device map says."""
    import accelerate

    if isinstance(device_map, str) and device_map in DEVICE_MAPS:
        device_map = accelerate.infer_auto_device_map(
            model, no_split_module_classes=getattr(model, "_no_split_modules", None)
        )
    if isinstance(device_map, dict):
        return accelerate.dispatch_model(model, device_map)
    return model.to(device_map)
