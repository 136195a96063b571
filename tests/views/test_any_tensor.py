"""No tensor, of any dtype, layout and size, breaks its view, nor any state that a page may set."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from traitlets import TraitError

from nnsight_magic.errors import BadInputError
from nnsight_magic.views import show
from nnsight_magic.views.display import still_bundle

DTYPES = [
    each
    for each in vars(torch).values()
    if isinstance(each, torch.dtype)
    and (
        each.is_floating_point
        or each.is_complex
        or str(each)[6:].startswith(("int", "uint", "bool"))
    )
]
VALUES = [0, 1, -1, 0.5, 1e-30, 1e30, -1e308, 5e-324, float("nan"), float("inf"), -float("inf")]

sizes = st.lists(st.sampled_from([0, 1, 2, 3, 7, 40, 130]), max_size=4)
numbers = st.integers(-(10**12), 10**12) | st.integers(-3, 9)
states = st.fixed_dictionaries(
    {},
    optional={
        "index": st.lists(numbers, max_size=5),
        "window": st.lists(numbers, max_size=6),
        "drawn": st.lists(st.integers(-9, 9), min_size=2, max_size=2),
        "limits": st.lists(st.floats() | st.sampled_from([0.0, 1e308]), max_size=3),
        "palette": st.sampled_from(["auto", "sequential", "diverging", "nonsense"]),
        "part": st.sampled_from(["real", "imag", "abs", "nonsense"]),
        "ordered": st.booleans(),
        "cell": st.lists(numbers, max_size=5),
    },
)


def masked(tensor: torch.Tensor) -> Any:
    return torch.masked.masked_tensor(tensor, torch.ones(tensor.shape, dtype=torch.bool))


def inference(tensor: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return tensor.clone()


LAYOUTS = {
    "plain": lambda tensor: tensor,
    "transposed": lambda tensor: tensor.transpose(0, -1),
    "strided": lambda tensor: tensor[..., ::2],
    "expanded": lambda tensor: tensor.expand(3, *tensor.shape),
    "conjugate": lambda tensor: tensor.conj().imag,
    "sparse": torch.Tensor.to_sparse,
    "csr": torch.Tensor.to_sparse_csr,
    "nested": lambda tensor: torch.nested.nested_tensor([tensor, tensor[:1]]),
    "masked": masked,
    "meta": lambda tensor: tensor.to("meta"),
    "parameter": torch.nn.Parameter,
    "inference": inference,
}


def made(shape: list[int], dtype: torch.dtype, layout: str, values: list[float]) -> Any:
    """A tensor of that kind; `None` where torch has no such tensor."""
    while torch.Size(shape).numel() > 50_000:
        shape = shape[:-1]
    count = torch.Size(shape).numel()
    flat = torch.tensor(values, dtype=torch.float64).repeat(count // len(values) + 1)[:count]
    try:
        return LAYOUTS[layout](flat.reshape(shape).to(dtype))
    except (RuntimeError, TypeError, IndexError, NotImplementedError, ValueError):
        return None


@pytest.mark.filterwarnings("ignore")
@given(
    shape=sizes,
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(sorted(LAYOUTS)),
    values=st.lists(st.sampled_from(VALUES), min_size=1, max_size=5),
    state=states,
)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_tensor_and_no_state_breaks_a_view(shape, dtype, layout, values, state) -> None:
    tensor = made(shape, dtype, layout, values)
    if tensor is None:
        return
    try:
        view = show(tensor, "x")
    except BadInputError:  # refused in words, such as a tensor without values
        return
    for name, value in state.items():
        with contextlib.suppress(TraitError):  # refused by the trait, as it is from a page
            setattr(view, name, value)
    bundle = still_bundle(view)
    assert "<" in bundle["text/html"]
    assert repr(view).startswith("<TensorView")
    kept = {key: value for key, value in view.get_state().items() if isinstance(value, dict | list)}
    json.dumps({key: v for key, v in kept.items() if key != "layout"}, allow_nan=False, default=str)
    plt.close(view.figure())
