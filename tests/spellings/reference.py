"""What plain transformers and hand-written hooks give, for the assertions of the corpus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

Changes = dict[str, Callable[..., Any]]


class Reference:
    """A plain model beside the wrapped one, with the same weights.

    Modules go by their paths without the stem (`transformer.`, `model.`): `"h.1.mlp"`, `"wte"`.
    """

    def __init__(self, hf: nn.Module, tokenizer: Any):
        self.hf, self.tokenizer = hf, tokenizer
        self._running: list[Run] = []  # the innermost last: a change may ask for a run of its own

    def ids(self, prompt: str | list[str] | torch.Tensor) -> torch.Tensor:
        """Token ids `(batch, tokens)`."""
        if isinstance(prompt, torch.Tensor):
            return prompt
        return self.tokenizer(prompt, return_tensors="pt", padding=True)["input_ids"]

    def plain(
        self,
        prompt: Any,
        change: Changes | None = None,
        before: Changes | None = None,
        grad: bool = False,
        **options: Any,
    ) -> Run:
        """One forward; `change` and `before` are functions of a module's output and input."""
        with torch.set_grad_enabled(grad), self._watched(change or {}, before or {}, grad) as run:
            run.raw = self.hf(self.ids(prompt), use_cache=False, **options)
            run.logits = run.raw.logits
        return run

    def generated(self, prompt: Any, count: int, change: Changes | None = None, **options) -> Run:
        """A greedy text; functions are given the step and the output."""
        ids = self.ids(prompt)
        options = {"do_sample": False, "pad_token_id": 0, **options}
        with torch.no_grad(), self._watched(change or {}, {}, False, steps=True) as run:
            run.sequences = self.hf.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, **options
            )
        return run

    @contextmanager
    def _watched(
        self, change: Changes, before: Changes, grad: bool, steps: bool = False
    ) -> Iterator[Run]:
        run = Run()
        with ExitStack() as stack:
            for path, module in self.hf.named_modules():
                name = path.removeprefix("transformer.").removeprefix("model.")
                given = self._of(run, _given(run, name, before.get(name)))
                gives = self._of(run, _gives(run, name, change.get(name), grad, steps))
                stack.callback(module.register_forward_pre_hook(given, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(gives).remove)
            self._running.append(run)
            stack.callback(self._running.pop)
            yield run

    def _of(self, run: Run, hook: Callable) -> Callable:
        return lambda *args: hook(*args) if self._running[-1] is run else None


class Run:
    """What a run gave: the main tensor of each module, at its last call and at each."""

    logits: torch.Tensor
    sequences: torch.Tensor
    raw: Any

    def __init__(self):
        self.outputs: dict[str, list[torch.Tensor]] = defaultdict(list)
        self.given: dict[str, torch.Tensor] = {}

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.outputs[name][-1]


def _given(run: Run, name: str, change: Callable | None) -> Callable:
    def hook(module: nn.Module, args: tuple, kwargs: dict) -> Any:
        if not args or not isinstance(args[0], torch.Tensor):
            return None
        first = args[0] if change is None else change(args[0])
        run.given[name] = first
        return None if change is None else ((first, *args[1:]), kwargs)

    return hook


def _gives(run: Run, name: str, change: Callable | None, grad: bool, steps: bool) -> Callable:
    def hook(module: nn.Module, args: tuple, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        if not isinstance(first, torch.Tensor):
            return None
        if change is not None:
            made = change(len(run.outputs[name]), first) if steps else change(first)
            first = first if made is None else made
        if grad and first.requires_grad:
            first.retain_grad()
        run.outputs[name].append(first)
        if change is None:
            return None
        return (first, *output[1:]) if isinstance(output, tuple) else first

    return hook


def same(found: Any, expected: Any) -> None:
    """The same numbers in the same shape, up to rounding."""
    if isinstance(found, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
        return
    found = torch.as_tensor(found).detach().as_subclass(torch.Tensor)
    expected = torch.as_tensor(expected).detach().as_subclass(torch.Tensor)
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-4, atol=1e-5)
