"""What rests on insides of transformers, or on names that change between its versions.

Checked against transformers 4.56, 4.57, 5.23 and 5.24 (`make test-versions` runs them). Where an
inside is not there, what is asked here answers so that more is run, never with a guess, and says
so once.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from types import CodeType
from typing import Any

import torch
import transformers
from torch import nn

from nnsight_magic.engine.insides.unlike import unlike

# ── the cache of keys and values ─────────────────────────────────────────────────────────

# By which a decoder's forward is given its cache: the first from 5.24 on, the second before.
_CACHES = ("cache", "past_key_values")

Keys = list[tuple[torch.Tensor, torch.Tensor]]  # and values, (rows, heads, tokens, size), by block


def cache_argument(module: nn.Module) -> str | None:
    """The name by which a decoder takes its cache; `None` of a model that takes none."""
    try:
        taken = inspect.signature(module.forward).parameters
    except (TypeError, ValueError):  # a compiled one does not say
        return None
    found = next((name for name in _CACHES if name in taken), None)
    is_decoder = type(module).__module__.startswith("transformers.") and "use_cache" in taken
    if found is None and is_decoder and "position_ids" in taken:
        unlike(
            f"transformers.{type(module).__name__}.forward(past_key_values=…)",
            "The variants of a sweep run all their tokens.",
        )
    return found


def without_cache(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a model without its cache."""
    return {name: value for name, value in inputs.items() if name not in _CACHES}


def new_cache() -> Any:
    """An empty cache that grows."""
    from transformers import DynamicCache

    return DynamicCache()


def keys_and_values(cache: Any) -> Keys:
    """What a cache holds of every block, empty where it keeps something else."""
    layers = getattr(cache, "layers", None)
    if layers is None:
        unlike("transformers.DynamicCache.layers", "The variants of a sweep run all their tokens.")
        return []
    found: Keys = []
    for layer in layers:
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if not (isinstance(keys, torch.Tensor) and isinstance(values, torch.Tensor)):
            return []
        if keys.ndim != 4 or values.ndim != 4:
            return []
        found.append((keys, values))
    return found


# ── attention ────────────────────────────────────────────────────────────────────────────


def attention_of(config: Any) -> Any:
    """By which implementation a model attends: `"eager"`, `"sdpa"`, …; `None` where none is told.

    What is registered under that name is compared where a model's code is, see `model_code`.
    """
    if hasattr(config, "to_diff_dict") and not hasattr(config, "_attn_implementation"):
        unlike(
            "transformers.PreTrainedConfig._attn_implementation",
            "The variants of a sweep run all their tokens.",
        )
        return object()  # equal to none that was met before
    return getattr(config, "_attn_implementation", None)


# Hooks that note hidden states and attentions for a model's result. They are set by the first
# forward that is asked for these, and stay: those of a trace, which come later, would run behind.
_CAPTURING = "transformers.utils.output_capturing"


def captures(hook: Callable) -> bool:
    """Whether a hook is one by which transformers notes what a module gives."""
    module = getattr(hook, "__module__", None) or ""
    if not module.startswith("transformers.") or _knows_capturing():
        return module == _CAPTURING
    # Those of its integrations, such as tensor parallelism, change what a module gives.
    return not module.startswith("transformers.integrations.")


@cache
def _knows_capturing() -> bool:
    if not _captures_by_hooks() or importlib.util.find_spec(_CAPTURING) is not None:
        return True
    unlike(_CAPTURING, "All hooks of transformers itself run behind those of a trace.")
    return False


def put_forwards_back(root: nn.Module) -> None:
    """Take away what notes outputs in place of modules' forwards, after a forward was cut short.

    Before transformers 5 a model puts that into its modules when its forward begins, and takes it
    away only if that comes to its end.
    """
    if _captures_by_hooks():
        return
    for module in root.modules():
        forward = module.__dict__.get("forward")
        found: Any = forward
        while _notes_outputs(found):
            found = found.__wrapped__
        if found is forward:
            continue
        if getattr(found, "__func__", None) is type(module).forward:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = found


def _notes_outputs(forward: Any) -> bool:
    code = getattr(forward, "__code__", None)
    return (
        isinstance(code, CodeType)
        and code.co_name == "wrapped_forward"
        and "transformers" in code.co_filename
        and hasattr(forward, "__wrapped__")
    )


def _captures_by_hooks() -> bool:
    """From transformers 5 on; before, a model's forward collects hidden states itself."""
    return int(transformers.__version__.partition(".")[0]) >= 5


# ── shapes without numbers ───────────────────────────────────────────────────────────────


def without_a_look_at_padding(module: nn.Module) -> None:
    """In a copy that runs on shapes alone: it shall not look for padding among its tokens.

    Models of transformers 4 do so to warn where they were given no mask; those of 5 see that there
    are no numbers.
    """
    if hasattr(module, "warn_if_padding_and_no_attention_mask"):
        module.warn_if_padding_and_no_attention_mask = _no_warning  # type: ignore[assignment]


def _no_warning(*_: Any, **__: Any) -> None:
    """Warns of nothing."""


# ── arguments ────────────────────────────────────────────────────────────────────────────

# What the attention functions of transformers and its losses take, and no forward names.
TAKEN_INSIDE = (
    "output_attentions", "output_hidden_states", "output_router_logits", "return_dict",
    "num_items_in_batch", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k",
    "seq_idx", "is_causal", "labels", "use_cache", "shift_labels", "ignore_index",
)  # fmt: skip

# What `generate` takes out of its keyword arguments without naming it.
TAKEN_BY_GENERATE = ("tokenizer", "assistant_tokenizer", "trust_remote_code")
METHODS_OF_GENERATE = ("generate", "prepare_inputs_for_generation", "_sample")


@lru_cache(maxsize=1024)
def earlier_names(function: Any) -> tuple[frozenset[str], bool]:
    """The names by which a function still takes arguments that have another name now.

    transformers' decorator for this (`deprecate_kwarg`) hands them on under the new one.

    Returns:
        The names, and whether there are others that could not be found out.
    """
    names: set[str] = set()
    for each in _wrappers(function):
        if getattr(each.__code__, "co_filename", "").endswith("deprecation.py"):
            held = inspect.getclosurevars(each).nonlocals
            if not isinstance(held.get("old_name"), str):
                return frozenset(names), True
            names.add(held["old_name"])
    return frozenset(names), False


def _wrappers(function: Any) -> Iterator[Any]:
    """A function and those that it was made of, the outermost first."""
    while function is not None:
        if hasattr(function, "__code__"):
            yield function
        function = getattr(function, "__wrapped__", None)
