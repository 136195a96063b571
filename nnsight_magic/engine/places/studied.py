"""What is known of a model's blocks: where values with names of their own stand in each of them.

All blocks are looked at in one forward on a few tokens, when the first such name is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from torch import nn

from nnsight_magic.engine.places.flow import Flow, note_flows, run_of
from nnsight_magic.engine.places.halves import BlockStudy, Halves
from nnsight_magic.engine.places.neurons import Neurons, neurons_of
from nnsight_magic.engine.places.standard_names import part_of_block
from nnsight_magic.errors import NnsightError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Root


@dataclass
class Studied:
    """What was found out about one block.

    Attributes:
        halves: what its halves add, and the stream between them.
        neurons: those of its modules that hold projections, by path.
    """

    halves: Halves
    neurons: dict[str, Neurons] = field(default_factory=dict)


_known: WeakKeyDictionary[nn.Module, tuple[int, dict[str, Studied]]] = WeakKeyDictionary()


def studied(model: Root, path: str) -> Studied:
    """What is known of the block at a path.

    It is remembered until the module tree is another one.

    Raises:
        NnsightError: nothing is known that the model could be run on.
    """
    root = model.module
    state = hash((root.training, *((name, type(m)) for name, m in root.named_modules())))
    known = _known.get(root)
    if known is None or known[0] != state:
        known = _known[root] = (state, _study(model))
    return known[1][path]


def _study(model: Root) -> dict[str, Studied]:
    root, found = model.module, {}
    run = run_of(model)
    if run is None:
        raise NnsightError(
            "Where the values of this model's blocks stand is not known before one has run on "
            "something.\nTouch it inside a trace of one prompt."
        )

    def done(path: str, flow: Flow) -> None:
        block = root.get_submodule(path)
        study = BlockStudy(path, block, flow)
        found[path] = Studied(study.halves())
        held = dict.fromkeys([part_of_block(block, "mlp"), *_with_projections(block)])
        for name in filter(None, held):
            found[path].neurons[f"{path}.{name}"] = neurons_of(study, f"{path}.{name}")

    note_flows(root, [block.path for block in model.blocks], run, done)
    for block in model.blocks:
        found.setdefault(block.path, Studied(Halves("the block did not run")))
    return found


def _with_projections(block: nn.Module) -> Iterator[str]:
    """The modules in a block that hold linear ones themselves."""
    for name, module in block.named_modules():
        if any(
            hasattr(child, "in_features") or hasattr(child, "nf") for child in module.children()
        ):
            yield name
