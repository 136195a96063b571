"""Module trees as values, and the tree view's answers."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

from nnsight_magic.views import ModuleNote, TreeView, describe, tree_view
from nnsight_magic.views.data.module_details import forward_source
from nnsight_magic.views.data.modules import after_run, packed_notes, packed_tree
from tests.views.test_tensor_view import ask


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.ModuleDict({name: nn.Linear(4, 4) for name in "qkvo"})
        self.mlp = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(x)  # the line that a test looks for


def model(blocks: int = 3) -> nn.Module:
    with torch.device("meta"):
        whole = nn.Module()
        whole.layers = nn.ModuleList(Block() for _ in range(blocks))
        whole.norm = nn.LayerNorm(4)
    return whole


@pytest.mark.parametrize("name", ["gpt2", "llama", "mixtral", "mamba", "t5", "bert", "vit"])
def test_a_tree_has_every_module_at_its_path(tiny: Callable, name: str) -> None:
    module = tiny(name)
    tree = describe(module)
    walked = {path: kind.class_name for path, kind in tree.walk()}
    named = module.named_modules(remove_duplicate=False)
    assert walked == {path: type(m).__name__ for path, m in named}
    assert tree.size == len(walked)
    assert tree.parameters == sum(p.numel() for p in module.parameters())


def test_alike_blocks_are_described_once() -> None:
    tree = describe(model(500))
    assert tree.size == 500 * 12 + 3
    assert len(tree.kinds) < 10
    assert len(packed_tree(tree, 1 << 20)) < 2000


def test_a_block_that_differs_stands_for_itself() -> None:
    module = model(3)
    module.layers[1].mlp[0] = nn.Linear(4, 8, device="meta")
    tree = describe(module)
    layers = dict(tree.walk())["layers"]
    kinds = [number for _, number in layers.children]
    assert kinds[0] == kinds[2] != kinds[1]


def test_a_tied_parameter_counts_once_in_the_whole() -> None:
    module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    module[1].weight = module[0].weight
    assert describe(module).parameters == 16


def test_a_very_deep_tree_is_walked() -> None:
    module: nn.Module = nn.Identity()
    for _ in range(3000):
        module = nn.Sequential(module)
    assert describe(module).size == 3001


def test_a_tree_of_which_nothing_repeats_comes_in_parts() -> None:
    module = nn.Sequential(*(nn.Sequential(nn.Linear(k + 1, 1, device="meta")) for k in range(900)))
    tree = describe(module)
    sent = packed_tree(tree, 40_000)
    assert b'"whole":false' in sent
    view = TreeView(tree)
    number = tree.kinds[tree.root].children[-1][1]
    answer, _ = ask(view, do="kinds", numbers=[number])
    assert answer["kinds"][0][:2] == [number, "Sequential"]
    assert ask(view, do="kinds", numbers=[99_999])[0]["error"]


def test_what_all_blocks_have_in_common_is_noted_once() -> None:
    notes = {f"layers.{k}.mlp": ModuleNote("(1, 4)", "(1, 4)") for k in range(100)}
    notes["layers.7.mlp"] = ModuleNote("(1, 4)", "(1, 4)", saved=("h",))
    packed = packed_notes(notes, describe(model(100)))
    assert packed == {
        "layers.*.mlp": {"i": "(1, 4)", "o": "(1, 4)"},
        "layers.7.mlp": {"i": "(1, 4)", "o": "(1, 4)", "s": ["h"]},
    }


@pytest.mark.parametrize("noted", [[2], [0, 1], [2, 3, 4], [*range(29)], [*range(30)]], ids=len)
@pytest.mark.parametrize("place", ["layers.{}", "layers.{}.mlp", "layers.{}.mlp.3"])
def test_a_note_is_about_its_own_modules_and_no_others(noted: list[int], place: str) -> None:
    tree = describe(model(30))
    notes = {place.format(k): ModuleNote(saved=("h",), wrote=True) for k in noted}
    packed = packed_notes(notes, tree)
    # As the front end looks it up: by the path, else by the place with `*` for numbers.
    seen = {
        path: packed.get(path, packed.get(re.sub(r"(?<=\.)\d+(?=\.|$)", "*", path), {}))
        for path, _ in tree.walk()
    }
    assert {path for path, note in seen.items() if note} == set(notes)
    assert all(seen[path] == note.packed() for path, note in notes.items())


def test_details_have_weights_and_the_real_source() -> None:
    module = nn.Sequential(Block())
    answer, _ = ask(tree_view(module), do="details", path="0")
    assert "the line that a test looks for" in answer["source"]
    answer, _ = ask(tree_view(module), do="details", path="0.mlp.1")
    weight = answer["tensors"][0]
    assert (weight["name"], weight["shape"]) == ("weight", [4, 4])
    assert weight["stats"]["mean"] == pytest.approx(module[0].mlp[1].weight.mean().item())


def test_a_container_without_a_forward_shows_none() -> None:
    class Container(nn.Module):
        pass

    assert forward_source(Container()) == ("", "")
    assert "def forward" in forward_source(nn.Linear(2, 2))[0]


def test_details_of_weights_that_are_not_loaded_have_no_statistics() -> None:
    module = model(1)
    answer, _ = ask(tree_view(module), do="details", path="norm")
    assert "stats" not in answer["tensors"][0]


def test_a_deleted_model_is_told() -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    view = tree_view(module)
    del module
    gc.collect()
    answer, _ = ask(view, do="details", path="0")
    assert answer["gone"]
    assert "the model was deleted" in answer["error"]


def test_a_path_that_is_not_there_is_told() -> None:
    module = model(1)
    answer, _ = ask(tree_view(module), do="details", path="layers.9")
    assert "no module 'layers.9'" in answer["error"]


def test_still_and_text_fold_alike_blocks() -> None:
    view = tree_view(model(30), "tiny <b>")
    assert "[0 … 29] × 30" in view.text()
    assert "[0 … 29] × 30" in view.still()
    assert "tiny &lt;b&gt;" in view.still()
    assert len(view.still()) < 8000


def test_a_further_run_keeps_shapes_and_saved_tensors_and_replaces_badges():
    before = {
        "a": ModuleNote(input="(1, 2)", output="(1, 3)", saved=("h",), wrote=True),
        "b": ModuleNote(output="(4,)", idle=True, saved=("x", "y")),
        "c": ModuleNote(idle=True),
    }
    run = {"a": ModuleNote(output="(5, 3)", idle=True), "d": ModuleNote(saved=("x",), wrote=True)}
    assert after_run(before, run) == {
        "a": ModuleNote(input="(1, 2)", output="(5, 3)", saved=("h",), idle=True),
        "b": ModuleNote(output="(4,)", saved=("y",)),
        "d": ModuleNote(saved=("x",), wrote=True),
    }
