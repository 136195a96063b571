"""The process-wide settings that change a forward's numbers: precision, kernels, threads, and
functions of torch that were replaced.

torch has two interfaces to precision. Once a program has used the new one (`fp32_precision`), the
old one's getters raise: what cannot be read counts as a value of its own, and the new one's are
read beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import torch

from nnsight_magic.engine.insides import torch_insides
from nnsight_magic.engine.memory.replaced import replacements

_MATMUL = (
    "allow_tf32",
    "allow_fp16_accumulation",
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
)
_CUDNN = ("enabled", "benchmark", "deterministic", "allow_tf32")
_MKLDNN = ("enabled", "deterministic", "allow_tf32")
_READ: tuple[Callable[[], Any], ...] = (
    torch.get_num_threads,
    torch.get_default_dtype,
    torch.are_deterministic_algorithms_enabled,
    torch.get_float32_matmul_precision,
    torch.backends.cuda.preferred_blas_library,
    torch.backends.mha.get_fastpath_enabled,
    # Which kernels of fused attention may run; sdpa_kernel() sets them for a while.
    torch.backends.cuda.flash_sdp_enabled,
    torch.backends.cuda.mem_efficient_sdp_enabled,
    torch.backends.cuda.math_sdp_enabled,
    torch.backends.cuda.cudnn_sdp_enabled,
    *(partial(getattr, torch.backends.cuda.matmul, name) for name in _MATMUL),
    *(partial(getattr, torch.backends.cudnn, name) for name in _CUDNN),
    *(partial(getattr, torch.backends.mkldnn, name) for name in _MKLDNN),
)


def settings() -> tuple[Hashable, ...] | None:
    """All of them as they are now; `None` where one cannot be read that this torch has."""
    precisions = torch_insides.precisions()
    if precisions is None:
        return None
    return (*map(_value, _READ), *precisions, *replacements())


def _value(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (RuntimeError, AttributeError):  # the new interface was used, or this torch has none
        return None


# torch 2.9 warns at the first reading of the old interface, which nobody here has used.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for read in _READ:
        _value(read)
