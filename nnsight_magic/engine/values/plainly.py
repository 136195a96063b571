"""torch's own functions, and what they say."""

from __future__ import annotations

from typing import Any

import torch

from nnsight_magic.engine.insides import torch_insides

# For the descriptors of its attributes, `TENSOR.grad.__get__`; to a checker they are values.
TENSOR: Any = torch.Tensor


def plainly(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a torch function with `Value`s as the plain tensors that they are.

    In one call of C, where `with torch._C.DisableTorchFunctionSubclass()` could be left by an
    interrupt between its end and its exit, and would stay in force for the whole thread.
    """
    return torch_insides.as_plain_tensors(func, (), args, kwargs)


def first_line(error: Exception) -> str:
    """What an error of torch says, without the lines that explain its insides."""
    return str(error).strip().split("\n")[0]
