"""Rules for a backward pass that says more than the plain gradient does.

A gradient tells what an infinitesimal change does; a patch is a large one. Three parts of a block
make the difference, and in each the forward's numbers stay while the backward follows a rule:

    norm     1/σ or 1/rms counts as a constant
    pattern  attention weights count as constants
    act      the activation counts as the straight line from 0 to its value, slope act(x)/x, and
             the product of gate and up shares its gradient between both, a half each

*norm* is the first, *relp* all three: layer-wise relevance propagation as gradients, Jafari et al.
2025, "RelP"; Achtibat et al. 2024, arXiv:2402.05602, AttnLRP; Ali et al. 2022, arXiv:2202.07304.
Each is `old.detach() + rule - rule.detach()` where the old value stood: the value is the old one,
the gradient the rule's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import nn

from nnsight_magic.analyses.readout import NormShape, norm_shape
from nnsight_magic.errors import BadInputError, WrongValueError
from nnsight_magic.near import asked_sentence

Rule = Literal["grad", "norm", "relp"]
RULES: tuple[Rule, ...] = ("grad", "norm", "relp")
# As the blocks of transformers call them.
ACTIVATIONS = ("act_fn", "act", "activation_fn", "activation", "activation_func", "gelu_impl")
DOWN = ("down_proj", "w2", "wo", "fc_out", "c_proj", "dense_4h_to_h", "fc2")
GATES = ("gate_proj", "gate_up_proj", "w1", "wi_0", "gate_linear")


def check_method(method: str | None, known: Sequence[str]) -> None:
    """Refuses a method that there is not.

    Raises:
        BadInputError: it is none of `known`.
    """
    if method is not None and method not in known:
        raise BadInputError(
            f"There is no method {method!r}.{asked_sentence(str(method), known)}\n"
            f"Methods are {', '.join(known)}."
        )


def same_value(old: torch.Tensor, rule: torch.Tensor) -> torch.Tensor:
    """The value of `old`, to the bit, with the gradient of `rule`."""
    return old.detach() + (rule - rule.detach())


def norm_rule(before: torch.Tensor, after: torch.Tensor, shape: NormShape) -> torch.Tensor:
    """What a norm gives, with its statistics as constants in the backward.

    Args:
        before, after: `(batch, tokens, hidden)`.
    """
    scale = shape.scale(before.detach(), after.detach())
    return same_value(after, shape.unscaled(before) * scale.to(before.dtype))


def activation_rule(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """What an activation function gives, with the slope act(x)/x; where x is 0, its own."""
    plain = before.detach()
    slope = after.detach() / torch.where(plain == 0, torch.ones_like(plain), plain)
    return same_value(after, torch.where(plain == 0, after, before * slope))


def halved(product: torch.Tensor) -> torch.Tensor:
    """A product whose factors get half its gradient each."""
    return same_value(product, product / 2)


@contextmanager
def followed(model: Any, rule: Rule) -> Iterator[None]:
    """Within it a backward pass through the model follows the rule, but for the patterns.

    Raises:
        WrongValueError: a block has no part that the rule speaks of.
    """
    with ExitStack() as hooks:
        if rule != "grad":
            for norm in _norms(model, rule):
                shape = norm_shape(norm, _hidden(model), next(model.module.parameters()))
                hooks.enter_context(_hooked(norm, shape))
        if rule == "relp":
            for block in model.layers:
                _follow_mlp(block, hooks)
        yield


@contextmanager
def _hooked(norm: nn.Module, shape: NormShape) -> Iterator[None]:
    def follow(_: nn.Module, args: tuple[torch.Tensor, ...], after: torch.Tensor) -> torch.Tensor:
        return norm_rule(args[0], after, shape)

    handle = norm.register_forward_hook(follow)
    try:
        yield
    finally:
        handle.remove()


def _norms(model: Any, rule: Rule) -> list[nn.Module]:
    """The norms of the residual stream: those of the blocks, and the last one."""
    found = [
        child
        for block in model.layers
        for child in block.module._modules.values()
        if child is not None and "norm" in type(child).__name__.lower()
    ]
    if not found:
        raise WrongValueError(
            f'"{rule}" counts the scales of norms as constants, and the blocks of this model have '
            'no norm of their own. Use method="grad".'
        )
    return [*found, model.norm.module]


def _follow_mlp(block: Any, hooks: ExitStack) -> None:
    """The activation's rule, and the product's where there is a gate."""
    mlp = block.mlp
    children = mlp.module._modules
    act = next((children[name] for name in ACTIVATIONS if children.get(name) is not None), None)
    down = next((children[name] for name in DOWN if children.get(name) is not None), None)
    if act is None or down is None:
        raise WrongValueError(
            f'"relp" follows the activation of an MLP, and {mlp.path} '
            f'({type(mlp.module).__name__}) has none that is a module. Use method="norm".'
        )
    after = act.register_forward_hook(lambda _, args, out: activation_rule(args[0], out))
    hooks.callback(after.remove)
    if any(children.get(name) is not None for name in GATES):
        before = down.register_forward_pre_hook(lambda _, args: (halved(args[0]), *args[1:]))
        hooks.callback(before.remove)


def _hidden(model: Any) -> int:
    return model.module.config.get_text_config().hidden_size
