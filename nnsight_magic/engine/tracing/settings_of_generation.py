"""What a generation is really done with: what the call says, and what the models' settings say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from transformers import GenerationMixin


class Settings:
    """The settings of one generation, by transformers' rules.

    The call's own argument goes first, then the `generation_config` of the call, then that of the
    model, or of a model inside that generates for it: until it runs nobody knows which one does.

    Attributes:
        generators: how many modules there are that transformers can have generate.

    >>> from nnsight_magic import LanguageModel
    >>> module = LanguageModel("demo").module
    >>> Settings([module], {"num_beams": 2}).beams
    2
    """

    def __init__(self, generators: Iterable[nn.Module], options: Mapping[str, Any]):
        said = options.get("generation_config")
        self._options = options
        self._said = [] if said is None else [said]
        generators = [*generators]
        self.generators = sum(isinstance(each, GenerationMixin) for each in generators)
        found = (getattr(each, "generation_config", None) for each in generators)
        self._defaults = [config for config in found if config is not None]

    def __call__(self, name: str) -> Any:
        """The value of a setting; `None` where nothing says one."""
        places = (getattr(config, name, None) for config in (*self._said, *self._defaults))
        values = (self._options.get(name), *places)
        return next((value for value in values if value is not None), None)

    def _any(self, name: str) -> list[Any]:
        """Every value that it may have, whichever model generates."""
        if self._options.get(name) is not None:
            return [self._options[name]]
        said = [getattr(config, name, None) for config in self._said]
        if any(value is not None for value in said):
            return said
        return [v for c in self._defaults if (v := getattr(c, name, None)) is not None]

    def may_be(self, name: str) -> bool:
        """Whether a setting is on in any model that may generate."""
        return any(bool(value) for value in self._any(name))

    def most(self, name: str) -> int:
        """The largest count of any model that may generate, 1 where nothing says one."""
        return max((value for value in self._any(name) if value), default=1)

    @property
    def beams(self) -> int:
        return self.most("num_beams")

    @property
    def ends(self) -> list[int]:
        """The ids with which a text ends."""
        ids = self("eos_token_id")
        if ids is None:
            return []
        return list(ids) if isinstance(ids, Iterable) else [int(ids)]


def generating(root: nn.Module) -> dict[nn.Module, list[nn.Module]]:
    """The modules that may be what generates, each with the modules from the root down to it.

    PEFT's models, those of `torch.compile`, BLIP-2 and others let a model inside do it.
    """
    found = {root: [root]}
    for path, module in root.named_modules():
        if path and isinstance(module, GenerationMixin):
            parts = path.split(".")
            parents = [root.get_submodule(".".join(parts[:k])) for k in range(1, len(parts))]
            found[module] = [root, *parents, module]
    return found


def settings_of(module: nn.Module, options: Mapping[str, Any]) -> Settings:
    """The settings with which `module` would generate, the models inside it looked at too."""
    return Settings(generating(module), options)
