"""What rests on insides of torch: names that torch promises nobody, each with a check.

Checked against torch 2.6, 2.9, 2.13 and 2.15 (`make test-versions` runs them). Where an inside is
not there, what is asked here answers in the way that runs more and remembers less, never with a
guess, and says so once.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as _module

from nnsight_magic.engine.insides.unlike import unlike

_FORGETS = "Nothing is remembered from one forward to the next: every forward runs from its start."


def _inside(name: str) -> Any:
    """What torch has under a dotted name; `None` where it has nothing.

    A part of torch that nobody has imported yet is imported: which ones torch imports by itself
    changes with its version.
    """
    found: Any = torch
    for part in name.split(".")[1:]:
        if not hasattr(found, part) and hasattr(found, "__path__"):
            try:
                importlib.import_module(f"{found.__name__}.{part}")
            except ImportError:
                return None
        found = getattr(found, part, None)
    return found


# ── calls that have a public twin, which takes longer ────────────────────────────────────


def _slowly(func: Callable, types: tuple, args: tuple, kwargs: dict[str, Any]) -> Any:
    with torch._C.DisableTorchFunctionSubclass():  # torch's documented way
        return func(*args, **kwargs)


# In one call of C: a `with` could be left by an interrupt between its end and its exit.
as_plain_tensors: Callable = _inside("torch._C._disabled_torch_function_impl") or _slowly
set_grad_enabled: Callable = _inside("torch._C._set_grad_enabled") or torch.set_grad_enabled
any_autocast: Callable[[], bool] = _inside("torch._C._is_any_autocast_enabled") or (lambda: True)

# The frame in which every call of a module runs. The public name is that of the frame around it.
call_of_a_module = getattr(getattr(nn.Module, "_call_impl", nn.Module.__call__), "__code__", None)

# What torch.compile gives holds the module that was compiled under this name; what is compiled in
# place (`module.compile()`) is called through another attribute, which torch 2.6 to 2.15 have.
COMPILED = "_orig_mod"


def compiled_call(module: nn.Module) -> Any:
    """What is called instead of a module that was compiled in place; `None` of any other."""
    return getattr(module, "_compiled_call_impl", None)


def compiled_from(function: Any) -> Any:
    """The function that `torch.compile` made another one of; `None` of any other."""
    return getattr(function, "_torchdynamo_orig_callable", None)


# The types of `torch.ops.aten.add` and of `torch.ops.aten.add.Tensor`.
OPERATOR, OVERLOAD = type(torch.ops.aten.add), type(torch.ops.aten.add.Tensor)

# ── what intercepts torch's functions in this thread ─────────────────────────────────────

_depth = _inside("torch._C._len_torch_function_stack")
_at = _inside("torch._C._get_function_stack_at")
_pop = _inside("torch._C._pop_torch_function_stack")
_push = _inside("torch._C._push_on_torch_function_stack")
_dispatchers = _inside("torch._C._len_torch_dispatch_stack")
_default_device = _inside("torch.utils._device.DeviceContext")
_knows_modes = None not in (_depth, _at, _pop, _push)
_MODES = (
    "torch._C._get_function_stack_at",
    f"{_FORGETS} A torch function mode that is entered between two touches reaches into the "
    "forward.",
)


def function_modes() -> tuple[Any, ...]:
    """The stack of torch function modes, the outermost first; none where torch does not tell."""
    if not _knows_modes:
        unlike(*_MODES)
        return ()
    depth = _depth()
    return tuple(_at(i) for i in range(depth)) if depth else ()


def change_function_modes(now: Iterable[Any], then: Iterable[Any]) -> None:
    """Put other modes on the stack in place of those that `function_modes` gave."""
    for _ in now:
        _pop()
    for mode in then:
        _push(mode)


def any_dispatch_mode() -> bool:
    """Whether a torch dispatch mode is active; yes where torch does not say."""
    if _dispatchers is None:
        unlike("torch._C._len_torch_dispatch_stack", _FORGETS)
        return True
    return bool(_dispatchers())


def any_mode_of_others() -> bool:
    """Whether torch's functions are intercepted by anything but a default device."""
    if any_dispatch_mode():
        return True
    if not _knows_modes:
        unlike(*_MODES)
        return True
    return any(
        _default_device is None or not isinstance(mode, _default_device)
        for mode in function_modes()
    )


def dispatch_modes() -> list[Any]:
    """The stack of torch dispatch modes, for another thread to take over with `enter_dispatch`."""
    try:
        from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
    except ImportError:
        unlike(
            "torch.utils._python_dispatch._get_current_dispatch_mode_stack",
            "On threads, dispatch modes entered outside a trace do not reach into it.",
        )
        return []
    return _get_current_dispatch_mode_stack()


def enter_dispatch(modes: Iterable[Any]) -> None:
    """Put dispatch modes on this thread's stack."""
    for mode in modes:
        from torch.utils._python_dispatch import _push_mode

        _push_mode(mode)


def shapes_alone() -> Any:
    """A mode under which torch computes shapes and no numbers; `None` where it has none."""
    mode = _inside("torch._subclasses.fake_tensor.FakeTensorMode")
    return None if mode is None else mode(allow_non_fake_inputs=True)


# ── where the warnings of torch's C++ go in this thread ──────────────────────────────────
#
# Most functions of torch that Python calls collect warnings in an object on their own stack, and
# the thread keeps its address until they return. A forward that is suspended inside one (it stands
# at an operation, or in an `autograd.Function`) leaves an address that is not sound any more.

_HANDLER = (
    "_ZN3c1012WarningUtils19get_warning_handlerEv",
    "_ZN3c1012WarningUtils19set_warning_handlerEPNS_14WarningHandlerE",
)


def _warning_handlers() -> tuple[Callable[[], int], Callable[[int], object]] | None:
    """What reads and what sets the address; `None` where torch has no such functions."""
    try:
        library = ctypes.PyDLL(torch._C.__file__)  # finds what is in the libraries beneath it too
        read, write = (library[name] for name in _HANDLER)
    except (AttributeError, OSError, TypeError):
        return None
    read.restype, read.argtypes = ctypes.c_void_p, ()
    write.restype, write.argtypes = None, (ctypes.c_void_p,)
    return read, write


_handlers = _warning_handlers()
knows_warning_handler = _handlers is not None
BASE_HANDLER = 0  # torch's own, that of a thread which is in none of its functions


def warning_handler() -> int:
    """The address of what takes warnings of torch's C++ in this thread."""
    return BASE_HANDLER if _handlers is None else _handlers[0]()


def set_warning_handler(address: int) -> None:
    """Let warnings go to another one, that `warning_handler` gave in this thread."""
    if _handlers is not None:
        _handlers[1](address)


# ── what changes a forward's numbers, besides the modules ────────────────────────────────

# `_has_any_global_hook`, which tells at once, is there from torch 2.8 on.
_GLOBAL_HOOKS = (
    "_global_backward_pre_hooks",
    "_global_backward_hooks",
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
)
_knows_global_hooks = all(hasattr(_module, name) for name in _GLOBAL_HOOKS)
_tells_of_hooks = getattr(_module, "_has_any_global_hook", None)
_holds = {"_forward_hooks", "_forward_pre_hooks", "_parameters", "_buffers", "_modules"}
KEPT_IN_A_MODULE = frozenset(vars(nn.Module()))  # what torch itself keeps there


def any_global_hook() -> bool:
    """Whether a hook for all modules is set; yes where torch does not say."""
    if _tells_of_hooks is not None:
        return bool(_tells_of_hooks())
    if not _knows_global_hooks:
        unlike("torch.nn.modules.module._global_forward_hooks", _FORGETS)
        return True
    return any(getattr(_module, name) for name in _GLOBAL_HOOKS)


def modules_are_as_known() -> bool:
    """Whether modules keep their hooks, weights and children under the names known here."""
    if _holds <= KEPT_IN_A_MODULE:
        return True
    unlike("torch.nn.Module._forward_hooks", _FORGETS)
    return False


# From torch 2.9 on there is a second interface to precision, `torch.backends.fp32_precision`.
_PRECISIONS = [
    (backend, part)
    for backend, parts in {
        "generic": ("all",),
        "cuda": ("all", "matmul", "conv", "rnn"),
        "mkldnn": ("all", "matmul", "conv", "rnn"),
    }.items()
    for part in parts
]
_precision = _inside("torch._C._get_fp32_precision_getter")


def precisions() -> tuple[Hashable, ...] | None:
    """All that is set through torch's newer interface; `None` where it cannot be read."""
    if _precision is not None:
        return tuple(_precision(*each) for each in _PRECISIONS)
    if not hasattr(torch.backends, "fp32_precision"):
        return ()
    unlike("torch._C._get_fp32_precision_getter", _FORGETS)
    return None
