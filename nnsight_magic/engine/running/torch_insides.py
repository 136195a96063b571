"""What rests on insides of torch, with the versions that each was checked against.

Where an inside is not there, or not as expected, what is asked here answers in the way that runs
more and remembers less: never with a guess.
"""

from __future__ import annotations

from torch.nn.modules import module as _module

# In torch 2.6 to 2.15; `_has_any_global_hook`, which tells at once, from 2.8 on.
_GLOBAL_HOOKS = (
    "_global_backward_pre_hooks",
    "_global_backward_hooks",
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
)


def any_global_hook() -> bool:
    """Whether a hook for all modules is set; yes where torch does not say."""
    tells = getattr(_module, "_has_any_global_hook", None)
    if tells is not None:
        return bool(tells())
    return any(getattr(_module, name, True) for name in _GLOBAL_HOOKS)
