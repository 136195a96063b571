"""How far a trace's model ran, told from where its main forward stands."""

from __future__ import annotations

from torch import nn

from nnsight_magic.engine.places.standard_names import StandardNames
from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.engine.sites.report import RunReport


def describe_extent(
    report: RunReport, main: Forward | None, root: nn.Module, names: StandardNames, blocks: int
) -> None:
    """Fill in how far the main forward came.

    Args:
        main: the forward whose end is the end of the trace; `None` if none was begun.
        root: the module that it runs.
        blocks: how many decoder blocks the model has.
    """
    report.blocks = blocks
    if main is None:
        report.stopped_at = "the start"
        return
    reached = range(_blocks_reached(report, main, root, names))
    known = [block for block in reached if block in main.left_out]
    report.ran = tuple(block for block in reached if block not in main.left_out)
    report.blocks_run, report.blocks_skipped = len(report.ran), len(known)
    if known:
        after = known[-1] + 1
        report.resumed_at = f"layers[{after}]" if after < blocks else "norm"


def _blocks_reached(report: RunReport, main: Forward, root: nn.Module, names: StandardNames) -> int:
    pause, layers = main.pause, names.layers
    at_operation = pause is not None and pause.site.operation is not None
    if pause is None or (
        pause.site.module is root and pause.site.kind == "output" and not at_operation
    ):
        return report.blocks
    touch = pause.touch
    report.stopped_at = touch.where if touch else f"step {pause.site.step}"
    path = ".".join(touch.parts) if touch else ""
    index = names.block_index(path)
    if index is not None:
        inside = at_operation or not names.is_block(path)
        return index + (inside or pause.site.kind == "output")
    holds_blocks = layers is not None and (not path or layers.startswith(f"{path}."))
    if at_operation and layers is not None and holds_blocks and touch:
        below = layers.split(".")[len(touch.parts) :]
        paths = ((*below, str(block)) for block in range(report.blocks))
        module = pause.site.module
        return sum(main.has_left(pause.site, each, module) for each in paths)
    behind = path in (names.norm, names.unembed) or (
        holds_blocks and pause.site.kind == "output" and not at_operation
    )
    return report.blocks if behind else 0
