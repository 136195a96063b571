"""The neurons of an MLP: what its down projection is given, and what its activation is given.

Both are found in what the block computes, so that it does not matter how an architecture calls its
projections, whether gate and up projection are one (Phi-3), or whether there is a gate at all. In
an MLP with a gate, a neuron is the activation of the gate times the up projection, and what stands
before the activation is the gate.
"""

from __future__ import annotations

from dataclasses import dataclass

from nnsight_magic.engine.places.flow import Event
from nnsight_magic.engine.places.halves import BlockStudy, Found, Spot, first_state

# Activations that are written as functions of torch, by the names that operations have here.
_FUNCTIONS = frozenset(
    {"relu", "relu_", "gelu", "silu", "silu_", "tanh", "sigmoid", "leaky_relu", "elu", "mish"}
)
_EXPERTS = (
    "it is a mixture of experts, each of which has neurons of its own for the tokens that go to it"
)


@dataclass(frozen=True)
class Neurons:
    """Where the neurons of one MLP stand.

    Attributes:
        behind: what the down projection is given, `mlp.neurons`.
        before: what the activation is given, `mlp.neurons_pre`.
    """

    behind: Found
    before: Found


def neurons_of(study: BlockStudy, path: str, last: str | None = None) -> Neurons:
    """The neurons of a module of a block.

    Args:
        study: of the block.
        path: the module, or the block where it is itself what holds the projections (OPT).
        last: the module whose result is the MLP's, if that is not the module itself.
    """
    return _Search(study, path).found(last or path)


class _Search:
    def __init__(self, study: BlockStudy, path: str):
        self.study, self.flow, self.path = study, study.flow, path
        self.inside = f"{path}."

    def found(self, last: str) -> Neurons:
        call = self.study.calls.get(last)
        if call is None:
            return Neurons("it did not run", "it did not run")
        down = self._down_projection(self._result(call))
        if down is None:
            why = self._why_not()
            return Neurons(why, why)
        number = first_state(down.reads, self.flow)
        behind = Spot(down.path, down.call, None, "input", (), self.study.is_flat(number))
        return Neurons(behind, self._before(number))

    def _result(self, call: Event) -> int:
        """What the MLP gives; of BLOOM's, which gives the stream, what it has added to it."""
        given = first_state(call.gives, self.flow)
        added = (a.added for a in self.study.additions if f"{a.event.path}." == self.inside)
        return next(added, given) if given in self.study.stops else given

    def _why_not(self) -> str:
        inside = (c.module for p, c in self.study.calls.items() if f"{p}.".startswith(self.inside))
        kinds = {type(module).__name__.lower() for module in inside}
        if any(word in kind for kind in kinds for word in ("expert", "moe", "sparse", "router")):
            return _EXPERTS
        return "what it gives is not what one projection gives, behind which it has neurons"

    def _down_projection(self, number: int) -> Event | None:
        """The projection whose result is the MLP's, whatever dropout comes behind it."""
        while True:
            givers = [each for each in self._calls_giving(number) if _is_projection(each)]
            if givers:
                return givers[-1]  # the outermost: an adapter holds the projection
            event = self.flow.maker.get(number)
            if number in self.flow.same:
                number = self.flow.same[number]
            elif event is not None and event.operation and event.operation.name == "dropout":
                number = event.reads[0][1]
            else:
                return None

    def _before(self, number: int) -> Found:
        """Where the one activation on the way to the neurons is given what it activates."""
        found: dict[Event, None] = {}
        seen, left = set(), [number]
        while left:
            each = left.pop()
            calls, event = self._calls_giving(each), self.flow.maker.get(each)
            if each in seen or any(map(_is_projection, calls)):
                continue
            seen.add(each)
            activation = next((call for call in reversed(calls) if _is_activation(call)), None)
            if activation is None and event is not None and event.operation is not None:
                activation = event if event.operation.name in _FUNCTIONS else None
            if activation is not None:
                found[activation] = None
            elif event is not None and f"{event.path}.".startswith(self.inside):
                left += [read for _, read in event.reads]
        if len(found) != 1:
            return f"there are {len(found)} activations on the way to its neurons"
        (activation,) = found
        at, given = activation.reads[0]
        kind, item = ("input", ()) if activation.operation is None else ("inputs", at)
        flat = self.study.is_flat(given)
        return Spot(activation.path, activation.call, activation.operation, kind, item, flat)

    def _calls_giving(self, number: int) -> list[Event]:
        """Calls of modules inside that give a tensor which they were not given, in their order."""
        return [
            each
            for each in self.study.givers[number]
            if each.path.startswith(self.inside) and all(number != read for _, read in each.reads)
        ]


def _is_projection(call: Event) -> bool:
    """Whether a module is a linear one; GPT-2's is a `Conv1D`."""
    module = call.module
    return hasattr(module, "in_features") or (
        hasattr(module, "nf") and getattr(module, "weight", None) is not None
    )


def _is_activation(call: Event) -> bool:
    module = call.module
    return (
        module is not None
        and "dropout" not in type(module).__name__.lower()
        and next(module.parameters(), None) is None
    )
