"""The run of a sweep's inputs without any change: what all its variants begin with.

It gives the values of the sites that variants touch first, the hidden states that batches start
from, and the keys and values that packed variants attend to (see `layout`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from nnsight_magic.engine.insides import transformers_insides
from nnsight_magic.engine.insides.transformers_insides import Keys
from nnsight_magic.engine.memory.fingerprint import Fingerprint, Obstacle
from nnsight_magic.engine.memory.shortcut import Shortcut, bypass_once
from nnsight_magic.engine.running.bypass import hidden_of
from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.engine.sites.site import Site
from nnsight_magic.engine.sweeping.layout import NotTokenwise, Packed
from nnsight_magic.engine.values.containers import copy_tree
from nnsight_magic.engine.values.value import own_copy

if TYPE_CHECKING:
    from torch import nn

    from nnsight_magic.engine.places.handle import Handle
    from nnsight_magic.engine.sites.site import Touch

# Attention whose mask may be any tensor that is added to the scores.
_ATTENTION = ("eager", "sdpa")
_ARGUMENTS = {"input_ids", "attention_mask", "use_cache", "logits_to_keep"}
# A packed run adds numbers up in another order: relative to the length of a token's vector.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}
_COARSE = 3e-2  # half precision


@dataclass(frozen=True)
class Prompt:
    """What a sweep runs on.

    Attributes:
        args, inputs: the arguments of the model.
        tokens: of each row.
        blocks: the model's decoder blocks.
        cache: the name by which the model takes keys and values, if it does.
    """

    args: tuple
    inputs: dict[str, Any]
    tokens: int
    blocks: list[Handle]
    cache: str | None


def start_behind(blocks: list[Handle], forward: Forward, hidden: torch.Tensor) -> None:
    """Let a forward leave out its first blocks, these: `hidden` is what they give."""
    *before, last = [handle.module for handle in blocks]
    for module in before:
        bypass_once(forward, module, hidden_of)
    bypass_once(forward, last, lambda args, kwargs: hidden)


class CleanRun:
    """The sweep's inputs without any change, run as far as it is asked for.

    Attributes:
        prompt: what the model is called with.

    Args:
        prompt: the same.
        new_forward: a forward on these arguments of the model, which is cancelled here.
    """

    def __init__(self, prompt: Prompt, new_forward: Callable[[tuple, dict[str, Any]], Forward]):
        self.prompt, self._new_forward = prompt, new_forward
        self._values: dict[Site, Any] = {}
        self._hidden: dict[int, torch.Tensor] = {}
        self._keys: Keys = []
        self._running: Forward | None = None

    def learn(
        self, touches: list[tuple[Touch, list[nn.Module]]], starts: set[int], *, keys: bool
    ) -> bool:
        """Run past the sites of these touches, and as far as batches start.

        Args:
            touches: each with the modules from the root down to its own.
            starts: after how many blocks batches start.
            keys: keep what packed variants attend to.

        Returns:
            Whether that was asked for, and is there.
        """
        if keys:
            cache = transformers_insides.new_cache()
            first = {1, len(self.prompt.blocks)}
            try:
                self._pass_once(touches, starts | first, cache)
            except Exception:  # a hybrid's blocks keep something else, and ask for another cache
                self._values.clear()
                self._hidden.clear()
            else:
                self._keys = transformers_insides.keys_and_values(cache)
                return True
        self._pass_once(touches, starts, None)
        return False

    def _pass_once(
        self, touches: list[tuple[Touch, list[nn.Module]]], starts: set[int], cache: Any
    ) -> None:
        """One forward, whose keys and values go into `cache` where there is one."""
        prompt, blocks = self.prompt, self.prompt.blocks
        own = {} if cache is None else {prompt.cache: cache, "use_cache": True}
        with self._forward(prompt.args, {**prompt.inputs, **own}) as forward:
            for block in starts - {0}:
                keep = self._keeper(block, cache)
                forward.record(blocks[block - 1].ancestors(), keep)
            sites = {touch.site for touch, _ in touches}
            for touch, ancestry in touches:
                forward.attend(touch.site, ancestry)
            self._pass_by(forward, sites)
            if starts - {0} - self._hidden.keys() and not forward.finished:
                forward.run_to(Site(blocks[max(starts) - 1].module, "output", 0, 0))

    @contextmanager
    def _forward(self, args: tuple, kwargs: dict[str, Any]) -> Iterator[Forward]:
        forward = self._new_forward(args, kwargs)
        try:
            yield forward
        finally:
            forward.cancel()

    def _keeper(self, block: int, cache: Any) -> Callable[[Any, tuple, dict], None]:
        module = self.prompt.blocks[block - 1].module

        def keep(raw: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            others = [each for each in (*args, *kwargs.values()) if each is not cache]
            hidden = Shortcut.hidden_alone(module, raw, others)
            if hidden is not None:
                self._hidden[block] = own_copy(hidden)

        return keep

    def _pass_by(self, forward: Forward, sites: set[Site]) -> None:
        """Keep the values of these sites, in whichever order they come."""
        waiting = set(sites)
        while waiting:
            pause = forward.run_to_any(waiting)
            if pause is None:
                break
            self._values[pause.site] = copy_tree(pause.current)
            waiting.discard(pause.site)

    def has(self, site: Site) -> bool:
        return site in self._values

    def value(self, touch: Touch, ancestry: list[nn.Module]) -> Any:
        """The clean value of a site; runs a forward there if none has passed it with an eye on it.

        Raises:
            NotTokenwise: no forward on all tokens comes there.
        """
        site, prompt = touch.site, self.prompt
        for _ in range(2):  # what runs already may have left the site behind
            if site in self._values:
                break
            if self._running is None:
                self._running = self._new_forward(prompt.args, prompt.inputs)
            self._running.attend(site, ancestry)
            self._pass_by(self._running, {site})
            if site not in self._values:
                self.close()
        if site not in self._values:
            raise NotTokenwise
        return self._values[site]

    def hidden(self, block: int) -> torch.Tensor | None:
        """`(rows, tokens, hidden)` behind the first `block` blocks, where that is all there is."""
        return self._hidden.get(block)

    def packed(self, starts: list[int]) -> Packed:
        """A layout for variants that change nothing before these tokens."""
        prompt = self.prompt
        kept = prompt.inputs.get("logits_to_keep", 0)
        kept = min(kept, prompt.tokens)
        assert prompt.cache is not None, "only what takes keys and values is packed"
        return Packed(prompt.tokens, starts, self._keys, prompt.cache, kept)

    def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            self._running = None

    # ── whether variants may be packed ───────────────────────────────────────────────────

    def packs_truly(self) -> bool:
        """Whether this model, run packed behind its first block, gives what it gives in a row.

        The hidden states are changed from the middle of the prompt on. In a run of all tokens
        nothing before may change; in a packed one, behind the tokens of another variant, the
        rest must come out the same.
        """
        prompt, blocks = self.prompt, len(self.prompt.blocks)
        first, last = self._hidden.get(1), self._hidden.get(blocks)
        if first is None or last is None or len(self._keys) != blocks:
            return False
        middle = prompt.tokens // 2
        changed = first.clone()
        changed[:, middle:] = changed[:, middle:].roll(1, -1)
        layout = self.packed([prompt.tokens - 1, middle])
        try:
            alone = self._last_hidden(prompt.args, prompt.inputs, changed)
            args, kwargs = layout.arguments(prompt.args, prompt.inputs)
            packed = self._last_hidden(args, kwargs, layout.spread(changed))
        except Exception:  # whatever a model says to a mask or a cache that it does not expect
            return False
        if alone is None or packed is None:
            return False
        return _same(alone[:, :middle], last[:, :middle]) and _same(
            alone[:, middle:], packed[:, 1:]
        )

    def _last_hidden(self, args: tuple, kwargs: dict, hidden: torch.Tensor) -> torch.Tensor | None:
        last = self.prompt.blocks[-1]
        with self._forward(args, kwargs) as forward:
            start_behind(self.prompt.blocks[:1], forward, hidden)
            forward.hook(last.ancestors(), "output")
            pause = forward.run_to(Site(last.module, "output", 0, 0))
            if pause is None:
                return None
            found = Shortcut.hidden_alone(last.module, pause.current)
            return None if found is None else own_copy(found)


def may_pack(root: nn.Module, blocks: int, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether it is worth trying: a decoder with the usual arguments, a prompt without padding."""
    config, ids = getattr(root, "config", None), kwargs.get("input_ids")
    mask, kept = kwargs.get("attention_mask"), kwargs.get("logits_to_keep", 0)
    if args or not isinstance(ids, torch.Tensor) or ids.ndim != 2 or ids.shape[1] < 3:
        return False
    return (
        blocks > 1
        and kwargs.keys() <= _ARGUMENTS
        and isinstance(kept, int)
        and not kwargs.get("use_cache")
        and (mask is None or bool(mask.all()))
        and hasattr(root, "generate")
        and not getattr(config, "is_encoder_decoder", False)
        and transformers_insides.attention_of(config) in _ATTENTION
        and "position_ids" in inspect.signature(root.forward).parameters
        and transformers_insides.cache_argument(root) is not None
        and not isinstance(Fingerprint(root).take(Forward), Obstacle)
    )


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether the vectors of all tokens are equal but for rounding."""
    if one.shape != other.shape:
        return False
    tolerance = _TOLERANCE.get(one.dtype, _COARSE)
    difference = (one.double() - other.double()).norm(dim=-1)
    return bool((difference <= tolerance * one.double().norm(dim=-1)).all())
