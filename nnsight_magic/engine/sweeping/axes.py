"""Which axes of a value go over prompts, and which over tokens.

A shape alone does not tell: nine tokens are as many as nine heads, and a mixture of experts has all
tokens of all prompts in one axis. Where lengths could be mistaken for each other the model is run
as far as the same site again: on one token fewer, on one prompt more, and with other tokens in the
other prompts. What changes with what tells the axes, and that a prompt's part is its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nnsight_magic.engine.insides import transformers_insides
from nnsight_magic.engine.running.bypass import Bypasses
from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.engine.sites.site import PATTERN, SCORES, Site
from nnsight_magic.engine.values.laid_out import item, layout_of
from nnsight_magic.engine.values.value import handed_out, plain

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Root

PER_TOKEN = ("input_ids", "attention_mask", "position_ids", "token_type_ids")
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}  # of the largest number; else:
_COARSE = 3e-2


@dataclass(frozen=True)
class Axes:
    """The axes of one tensor.

    Attributes:
        prompts: how axis 0 holds the prompts: `"rows"`, one each; `"parts"`, so many entries each,
            one prompt after another; `"tokens"`, all tokens of one prompt after another;
            `"shared"`, not at all, since all prompts have the value in common; `"mixed"`, in no
            order that a part could be taken of.
        tokens: which other axes go over the prompt's tokens.
    """

    prompts: str
    tokens: tuple[int, ...] = ()


SHARED, MIXED = Axes("shared"), Axes("mixed")


@dataclass(frozen=True)
class PromptBatch:
    """The prompts of a trace in one batch.

    Attributes:
        prompts: how many there are.
        width: columns of tokens, padding included.
        each: rows of each prompt: its beams, or the texts that are drawn for it.
    """

    prompts: int
    width: int
    each: int = 1


def axes_of(model: Root, value: torch.Tensor, batch: PromptBatch) -> Axes:
    """The axes of a value that the running trace has handed out."""
    handed = handed_out(value)
    if handed is None or handed.pause.site is None:
        return _by_shape(value.shape, batch)
    return axes_at(model, handed.pause.site, handed.path, value, batch)


def axes_at(model: Root, site: Site, path: tuple, value: torch.Tensor, batch: PromptBatch) -> Axes:
    """The axes of the tensor that stands at `path` in what a site gives."""
    if site.operation in (PATTERN, SCORES):
        return Axes("rows", (2, 3))
    if _is_plain(value.shape, batch, site.step) and (
        _is_standard(model, site) or batch.width not in _sizes(model)
    ):
        return Axes("rows", (1,))
    layout = layout_of(path)
    if layout is not None and _has_tokens_at(value.shape, layout.tokens, batch, site.step):
        return Axes("rows", layout.tokens)
    config = getattr(model._root, "config", None)
    how = transformers_insides.attention_of(config)
    key = (site.module, site.kind, site.call, site.operation, path, value.ndim, how)
    known = model._findings.axes.get(key)
    if known is None:
        known = _probe(model, site, path, value.ndim, batch)
        model._findings.axes[key] = known
    return known


def _by_shape(shape: torch.Size, batch: PromptBatch) -> Axes:
    if not shape or shape[0] != batch.prompts * batch.each:
        return SHARED if not shape or shape[0] == 1 else MIXED
    return Axes("rows", tuple(axis for axis in range(1, len(shape)) if shape[axis] == batch.width))


def _is_plain(shape: torch.Size, batch: PromptBatch, step: int) -> bool:
    """Whether it looks like `(batch, tokens, features)`; later steps have a single token."""
    rows = batch.prompts * batch.each
    return len(shape) == 3 and shape[0] == rows and shape[1] == (1 if step else batch.width)


def _has_tokens_at(shape: torch.Size, axes: tuple[int, ...], batch: PromptBatch, step: int) -> bool:
    """Whether a part whose layout is known is of these prompts, and not of what they look at."""
    tokens = all(shape[axis] == batch.width or step for axis in axes)
    return shape[0] == batch.prompts * batch.each and tokens


def _is_standard(model: Root, site: Site) -> bool:
    """Whether this is a place where every model has `(batch, tokens, features)`."""
    if site.operation is not None:
        return False
    names = model.names
    path = model._handles.paths().get(id(site.module), "?")
    if path in ("", names.embed, names.norm, names.unembed) or names.is_block(path):
        return True
    return isinstance(site.module, nn.Linear) and names.block_index(path) is not None


def _sizes(model: Root) -> frozenset[int]:
    """Every length that this model gives an axis, whatever it is run on."""
    found = model._findings.lengths
    if found is None:
        root = model._root
        numbers = set(_integers(getattr(getattr(root, "config", None), "__dict__", {})))
        for module in root.modules():
            numbers.update(v for v in vars(module).values() if type(v) is int)
        for tensor in root.parameters():
            numbers.update(tensor.shape)
        found = model._findings.lengths = frozenset(numbers)
    return found


def _integers(values: Any) -> Iterator[int]:
    if type(values) is int:
        yield values
    elif isinstance(values, dict):
        for item in values.values():
            yield from _integers(item)
    elif isinstance(values, list | tuple):
        for item in values:
            yield from _integers(item)
    elif hasattr(values, "to_dict"):
        yield from _integers(vars(values))


# ── looking ──────────────────────────────────────────────────────────────────────────────


def _probe(model: Root, site: Site, path: tuple, ndim: int, batch: PromptBatch) -> Axes:
    """Find out by running as far as the site on other inputs."""
    prompts, tokens = batch.prompts, batch.width
    inputs = model._turn.active.inputs
    change = -1 if tokens > 2 else 1
    other = _resized(inputs, prompts, tokens, change)
    if other is None or "input_ids" not in inputs:
        return MIXED
    given = (inputs, other, _one_prompt_more(inputs, prompts))
    found = [_seen(model, site, path, each) for each in given]
    seen = [each for each in found if each is not None and each.ndim == ndim]
    if len(seen) < len(found):
        return MIXED
    now, resized, more = seen
    by_token = [(b - a) * change for a, b in zip(now.shape, resized.shape, strict=True)]
    by_prompt = [b - a for a, b in zip(now.shape, more.shape, strict=True)]
    axes = _from_changes(now.shape, by_token, by_prompt, prompts, tokens)
    if axes in (SHARED, MIXED) or _is_own(model, site, path, now, prompts):
        return axes
    return MIXED


def _from_changes(
    shape: torch.Size, by_token: list[int], by_prompt: list[int], prompts: int, tokens: int
) -> Axes:
    """The axes by how their lengths change with a token and with a prompt."""
    if not shape:
        return SHARED
    if not any(by_prompt):
        # Two prompts' entries may be summed up in it; it does not say whose they are.
        return SHARED
    if any(by_prompt[1:]) or shape[0] != by_prompt[0] * prompts:
        return MIXED
    theirs = tuple(
        axis for axis in range(1, len(shape)) if by_token[axis] == 1 and shape[axis] == tokens
    )
    if any(by_token[axis] and axis not in theirs for axis in range(1, len(shape))):
        return MIXED  # such as a column more, for a sink
    if by_token[0]:
        whole = shape[0] == prompts * tokens and by_token[0] == prompts
        return Axes("tokens", theirs) if whole else MIXED
    return Axes("rows" if by_prompt[0] == 1 else "parts", theirs)


def _is_own(model: Root, site: Site, path: tuple, now: torch.Tensor, prompts: int) -> bool:
    """Whether a prompt's part depends on no other prompt: it is the same beside other ones."""
    if model._root.training:
        return True  # it is not even the same twice
    for index in (0, prompts - 1):
        beside = _seen(model, site, path, _others_changed(model._turn.active.inputs, index))
        if beside is None or beside.shape != now.shape:
            return False
        both = (each.unflatten(0, (prompts, -1))[index] for each in (now, beside))
        if not _close(*both):
            return False
    return True


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    if not one.dtype.is_floating_point:
        return torch.equal(one, other)
    one, other = one.double(), other.double()
    finite = torch.isfinite(one) & torch.isfinite(other)
    if not torch.equal(torch.isfinite(one), torch.isfinite(other)):
        return False
    scale = float(one[finite].abs().max()) if bool(finite.any()) else 0.0
    tolerance = _TOLERANCE.get(one.dtype, _COARSE) * max(scale, 1e-12)
    return bool(((one - other)[finite].abs() <= tolerance).all())


def _seen(model: Root, site: Site, path: tuple, inputs: dict[str, Any]) -> torch.Tensor | None:
    """The value at a site in a forward on these inputs, nothing written; `None` if none comes."""
    root, bypasses = model._turn.active._forwards.factory.root, Bypasses()
    module_path = model._handles.paths().get(id(site.module))
    if module_path is None or root is not model._root:
        return None
    ancestry = model._handles.at(module_path).ancestors() if module_path else [root]
    given = transformers_insides.without_cache(inputs)
    forward = Forward(
        lambda: root(**given), root, lambda pause: None, bypasses=bypasses, written={}
    )
    site = site._replace(step=0)
    try:
        forward.attend(site, ancestry)
        pause = forward.run_to(site)
        if pause is None:
            return None
        raw = pause.part(())
        for key in path:
            raw = item(raw, key)
        return plain(raw.detach()).clone() if isinstance(raw, torch.Tensor) else None
    except Exception:
        return None
    finally:
        forward.cancel()
        bypasses.close()


def _resized(
    inputs: dict[str, Any], prompts: int, tokens: int, change: int
) -> dict[str, Any] | None:
    """The inputs with one token fewer, or one more."""
    new = dict(inputs)
    for name in PER_TOKEN:
        given = inputs.get(name)
        if not isinstance(given, torch.Tensor):
            continue
        if given.shape != (prompts, tokens):
            return None
        last = given[:, -1:] + (name == "position_ids")
        new[name] = given[:, :-1] if change < 0 else torch.cat([given, last], 1)
    return new


def _one_prompt_more(inputs: dict[str, Any], prompts: int) -> dict[str, Any]:
    return {
        key: torch.cat([item, item[-1:]])
        if isinstance(item, torch.Tensor) and item.ndim and item.shape[0] == prompts
        else item
        for key, item in inputs.items()
    }


def _others_changed(inputs: dict[str, Any], index: int) -> dict[str, Any]:
    """The inputs with other tokens in all prompts but one."""
    ids = inputs["input_ids"]
    others = (ids + 1 + ids.flip(1)) % (int(ids.max()) + 1)
    others[index] = ids[index]
    return {**inputs, "input_ids": others}


# ── taking a part ────────────────────────────────────────────────────────────────────────


def part_of(
    value: torch.Tensor, axes: Axes, batch: PromptBatch, index: int, columns: slice
) -> torch.Tensor | None:
    """One prompt's part of a value, as it would be if the prompt were alone: a view.

    Args:
        index: which of the prompts it is.
        columns: the prompt's own tokens among the columns of the batch.

    Returns:
        `None` where the value has no part of it.
    """
    if axes.prompts == "shared":
        return value
    if axes.prompts == "mixed" or not value.ndim or value.shape[0] % batch.prompts:
        return None
    each = value.shape[0] // batch.prompts
    first, last = index * each, (index + 1) * each
    if axes.prompts == "tokens" and each >= batch.width:  # and not the one of a later step
        if each > batch.width and columns != slice(0, batch.width):
            return None
        if each == batch.width:
            first, last = first + columns.start, first + columns.stop
    found = [slice(first, last), *[slice(None)] * (value.ndim - 1)]
    for axis in axes.tokens:
        if value.shape[axis] >= batch.width:
            # In a later step of a generation the keys go on behind the prompt's.
            ends = value.shape[axis] == batch.width
            found[axis] = slice(columns.start, columns.stop if ends else None)
    return value[tuple(found)]
