"""What a trace says of mistakes: what was touched, what was found there, what to do next."""

from __future__ import annotations

from collections import Counter

from torch import nn

from nnsight_magic.engine.places.source import tally
from nnsight_magic.engine.running.fused import FUSED
from nnsight_magic.engine.sites.site import NAMED, PATTERN, SCORES, Operation, Touch
from nnsight_magic.near import asked_sentence

_STEPS = ("matmul", "bmm", "baddbmm", "dropout")  # of fused attention, besides its softmax


def no_such_operation(touch: Touch, counts: Counter[str]) -> str:
    """What to tell about an operation that a module's forward did not issue."""
    operation = touch.site.operation
    assert operation is not None, "the touch is one of an operation"
    name, index = Operation("softmax", 0) if operation in (PATTERN, SCORES) else operation
    where = touch.name.removesuffix(f".ops.{name}[{index}]")
    kind = type(touch.site.module).__name__
    lines = []
    if operation in NAMED and operation not in (PATTERN, SCORES):
        lines.append(f"{touch.called}: {kind} computes it in no way that this package knows.")
        lines.append(f"It ran: {tally(counts)}.")
    elif name in counts:
        last = counts[name] - 1
        there = f"{name}[0]" if last == 0 else f"{name}[0] to {name}[{last}]"
        lines.append(f"{where} ({kind}) has no {name}[{index}]: it ran {there} in this forward.")
    else:
        hint = asked_sentence(name, counts)
        lines.append(f"{where} ({kind}) ran no operation {name!r} in this forward.{hint}")
        lines.append(f"It ran: {tally(counts)}.")
    if name in _STEPS and FUSED in counts:
        lines.append(
            "Attention runs fused into one operation here, of which only the softmax is at hand. "
            "To have\nit computed step by step: model.module.set_attn_implementation('eager')."
        )
    inside = _with_operations(touch.site.module)
    if inside:
        lines.append(f"What its submodules do is found on them: {', '.join(inside)}.")
    lines.append(f"Its forward with the operations beside their lines: print({where}.source)")
    return "\n".join(lines)


def _with_operations(module: nn.Module) -> list[str]:
    names = [name for name, child in module._modules.items() if child is not None]
    return [*names[:8], "…"] if len(names) > 8 else names


def never_ran(touch: Touch) -> str:
    """What to tell about a module that no forward comes to."""
    if touch.step:
        return (
            f"{touch.where} never came: the forward ended before.\n"
            "Ask for a step that the generation reaches (see max_new_tokens)."
        )
    times = f" a call number {touch.site.call}" if touch.site.call else ""
    name = touch.name or "The model"
    return (
        f"{name} ({type(touch.site.module).__name__}) did not run{times} in this forward, so it "
        f"has no {touch.kind}.\nThe model does not call this module on this input. "
        "Touch a module that runs: its parent, or one of its children."
    )


def too_late(touch: Touch, passer: Touch | None) -> str:
    """What to tell about a write to a value that the forward has gone past, for `passer`."""
    lines = [f"{touch.where} was written after the forward had gone on past it."]
    if passer is not None:
        at = f"Line {passer.line}" if passer.line else "Reading"
        lines.append(f"{at} ran past it, for {passer.where}, which was computed without the write.")
        lines.append(f"Write to {touch.where} before {passer.where} is read.")
    lines.append("For a change that stays out of the model, work on a copy: h = h.clone().")
    return "\n".join(lines)


def numpy_lent(name: str) -> str:
    """What to add where numpy refuses to write into the memory of a value."""
    return (
        f"numpy shares the memory of {name}, and the forward has gone on past it: a "
        "write would not flow on.\nWrite before anything behind it is read, or work on a "
        "copy: h.numpy().copy(). When the block is over, the array can be written."
    )
