"""Which module runs before which: told from the tree alone, and only where it is certain."""

from __future__ import annotations

import pytest
from torch import nn

from nnsight_magic.engine.tracing.order import runs_before

BLOCK = {"attn": nn.Linear(1, 1), "mlp": nn.Sequential(nn.Linear(1, 1), nn.Tanh())}
ROOT = nn.ModuleDict(
    {
        "embed": nn.Linear(1, 1),
        "layers": nn.ModuleList([nn.ModuleDict(BLOCK) for _ in range(12)]),
        "experts": nn.ModuleDict({"0": nn.Linear(1, 1), "1": nn.Linear(1, 1)}),
    }
)


def before(path: str, other: str) -> bool:
    return runs_before(tuple(path.split(".")), tuple(other.split(".")), ROOT)


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("layers.2", "layers.10"),  # by number, not by letters
        ("layers.0.mlp", "layers.1.attn"),  # the list decides, whatever comes below
        ("layers.3.mlp.0", "layers.3.mlp.1"),  # a sequence is a list too
        ("layers.0", "layers.11.mlp.1"),
    ],
)
def test_the_items_of_a_list_run_by_their_numbers(path: str, other: str) -> None:
    assert before(path, other)
    assert not before(other, path)


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("embed", "layers.0"),  # a module calls its children as it likes
        ("layers.3.attn", "layers.3.mlp"),
        ("experts.0", "experts.1"),  # numbers that are names
        ("layers.3", "layers.3.mlp"),  # one inside of the other
        ("layers.3", "layers.3"),
        ("nothing.0", "nothing.1"),
    ],
)
def test_nothing_is_told_where_the_tree_does_not_tell(path: str, other: str) -> None:
    assert not before(path, other)
    assert not before(other, path)
