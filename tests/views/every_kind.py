"""A view of every kind, as `widgets/test/fixtures/views.json` has them for both languages' tests.

The front end's tests read those states with what the browser reads them with. When a view says more
than it did, its state there is to say it too: `python -m tests.views.every_kind` prints what it is.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import torch

from nnsight_magic.views import ModuleNote, compare, describe, show
from nnsight_magic.views.data.chart import Chart, Level, Line
from nnsight_magic.views.data.checks import Check, Checked
from nnsight_magic.views.data.points import Along, Points
from nnsight_magic.views.data.strips import Step, TokenStrip
from nnsight_magic.views.data.two_texts import two_texts
from nnsight_magic.views.data.written import Text, Written
from nnsight_magic.views.live.chart import ChartView
from nnsight_magic.views.live.checks import ChecksView
from nnsight_magic.views.live.heads import HeadsView
from nnsight_magic.views.live.points import PointsView
from nnsight_magic.views.live.steps import StepsView
from nnsight_magic.views.live.tokens import GridView, TokensView
from nnsight_magic.views.live.trace import TraceView
from nnsight_magic.views.live.tree import TreeView
from nnsight_magic.views.live.view import View
from nnsight_magic.views.live.written import WrittenView
from nnsight_magic.views.page import LEFT_OUT

VALUES = torch.tensor([[0.0, 1.0], [2.0, 4.0]], dtype=torch.float64)
PLACE = {"drawn": [0, 1], "index": [0, 0], "part": "real"}
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "plane": ("tensor", {**PLACE, "ordered": True, "size": [8, 8], "window": None}),
    "text": ("tensor", {**PLACE, "ordered": False, "index": [1, 1]}),
    "stats": ("tensor", {**PLACE}),
    "margins": ("tensor", {**PLACE, "ordered": False}),
    "lines": ("tensor", {}),
    "kinds": ("tree", {"numbers": [0]}),
    "details": ("tree", {"path": "1"}),
    "stop": ("steps", {}),
    "cell": ("grid", {"at": [0, 1]}),
    "open": ("points", {"at": [1, 0]}),
    "write": ("written", {"strength": 0.5}),
    "links": ("heads", {"heads": [[0, 0]], "token": 1}),
}
# What the bytes of a trait or of an answer are, beside JSON.
NUMBERS = {"levels": "<f8", "codes": "<u1", "small": "<u1"}
BUFFERS = {
    "plane": ("<f8", "<u1", "<i4"),
    "margins": ("<f4", "<f4", "<f4", "<f4"),
    "links": ("<f4", "<f4"),
}


class Doubled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor([2.0, 2.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def every_kind() -> dict[str, View]:
    """One view of each kind, by its kind; the trace has all but the grid in it."""
    tensor = show(VALUES, "x", axes=("token", "feature"), tokens=["a", "b"], module="1")
    compared = compare(VALUES, VALUES * 2, "x", names=("run 1", "run 2"))
    prompt = TokenStrip(
        ["a", "b"],
        name="one",
        top=[[("b", 0.5)], [("c", 0.25)]],
        clean=[[("b", 0.5)], []],
        kl=[0, 0.5],
    )
    model = torch.nn.Sequential(torch.nn.Sequential(*_linear(3)), Doubled())
    notes = {"0": ModuleNote(output="(1, 2)"), "0.1": ModuleNote(saved=("h",), wrote=True)}
    tree = TreeView(describe(model), "model", module=model, notes=notes, aliases={"0": "layers"})
    tree.kept = model  # a tree does not keep its model alive, and this one's weights are asked for
    texts = two_texts(["a", " b"], ["a"], name="one")
    parts = {
        "tokens": TokensView(prompt, "tokens"),
        "steps": StepsView(["a"], [Step(" b", 0.5, [(" b", 0.5), (" c", 0.25)], ["h"])], "run"),
        "tree": tree,
        "tensors": [tensor, compared],
    }
    trace = TraceView("run 3", ["2 tokens"], wrote=["h"], notices=["n"], texts=[texts], **parts)
    grid = GridView(
        [[[("b", 0.5)], [("c", 0.75)]]],
        ["a", "b"],
        ["block 3"],
        "lens",
        modules=["0"],
        cells=lambda row, position: f"%%trace {row} {position}",
    )
    small = np.array([[[[1.0, 0.0], [0.25, 0.75]]]])
    heads = HeadsView(small, [3], ["a", " b"], {"first": np.array([[0.25]])}, small, "heads")
    effect = show(VALUES, "effect", axes=("layer", "head"))
    points = PointsView(effect, points_of_values(), Asked())
    points.of, points.opened = [0, 1], [tensor]
    found = [Check("stands", "holds", "all finite"), Check("stays", "fails", "it moves")]
    checks = ChecksView("audit", [Checked("h (line 2)", found)], tensor, notices=["n"])
    all_kinds = [
        trace,
        checks,
        ChartView(chart_of_values()),
        WrittenView(written_texts(), lambda strength: written_texts()),
        grid,
        heads,
        points,
        tensor,
        compared,
        parts["tokens"],
        parts["steps"],
        tree,
    ]
    return {each.kind: each for each in all_kinds}


class Asked:
    """Measures a point again, as a result does."""

    can = ["cell", "open"]

    def cell(self, at: Sequence[int]) -> str:
        return f"%%trace {list(at)}"

    def opened(self, at: Sequence[int], selection: Any) -> list[View]:
        return [show(VALUES[tuple(at)], "a point", selection=selection)]


def chart_of_values() -> Chart:
    lines = [
        Line("accuracy", [0.5, 1.0], "main", [0.25, 0.75], [0.75, 1.0]),
        Line("AUC", [float("nan"), 1.0], "second"),
        Line("control", [0.5, 0.5], "spread", [0.25, 0.5], [0.75, 0.5]),
    ]
    notes = ["too few"]
    return Chart("probe", "layer", ["3", "4"], lines, [Level("majority", 0.5)], notes, [3, 4])


def written_texts() -> Written:
    said = {0.0: [Text(" a b", 0.5)], 0.5: [Text(" a c", 1.5)]}
    control = {0.5: [Text(" a b", 0.75)]}
    return Written("steered", ["one"], said, control, ["in nats"])


def points_of_values() -> Points:
    axes = [Along("layer", [3, 4]), Along("head", [0, 1])]
    values = VALUES.numpy()
    return Points(axes, values, values, np.full((2, 2), 0.5), "baseline 1")


def _linear(count: int) -> list[torch.nn.Module]:
    layers = [torch.nn.Linear(1, 2) for _ in range(count)]
    for layer in layers:
        torch.nn.init.ones_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return layers


def state_of(view: ipywidgets.Widget, names: dict[str, str]) -> dict[str, Any]:
    """What of a view's state the front end may read; bytes unpacked, other views by `names`."""
    state = {}
    for name, value in view.get_state().items():
        if name in LEFT_OUT or name.startswith("_") or name == "twin":
            continue
        if isinstance(value, bytes):
            inside = zlib.decompress(value)
            numbers = NUMBERS.get(name)
            value = np.frombuffer(inside, numbers).tolist() if numbers else json.loads(inside)
        state[name] = json.loads(json.dumps(value))
    return {name: _by_name(value, names) for name, value in state.items()}


def _by_name(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_by_name(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) else value


def states() -> dict[str, dict[str, Any]]:
    """The states by kind, and that of the selection which the parts of a trace share."""
    views = every_kind()
    names = {f"IPY_MODEL_{each.model_id}": f"IPY_MODEL_{kind}" for kind, each in views.items()}
    names[f"IPY_MODEL_{views['trace'].selection.model_id}"] = "IPY_MODEL_selection"
    names[f"IPY_MODEL_{views['grid'].selection.model_id}"] = "IPY_MODEL_selection"
    names[f"IPY_MODEL_{views['heads'].selection.model_id}"] = "IPY_MODEL_selection"
    names[f"IPY_MODEL_{views['points'].selection.model_id}"] = "IPY_MODEL_selection"
    names[f"IPY_MODEL_{views['checks'].selection.model_id}"] = "IPY_MODEL_selection"
    names[f"IPY_MODEL_{views['written'].selection.model_id}"] = "IPY_MODEL_selection"
    names[f"IPY_MODEL_{views['chart'].selection.model_id}"] = "IPY_MODEL_selection"
    names[f"IPY_MODEL_{views['points'].map.model_id}"] = "IPY_MODEL_map"
    names[f"IPY_MODEL_{views['heads'].large.model_id}"] = "IPY_MODEL_large"
    for part in ("first", "second", "difference"):
        names[f"IPY_MODEL_{getattr(views['compare'], part).model_id}"] = f"IPY_MODEL_{part}"
    found = {kind: state_of(each, names) for kind, each in views.items()}
    return found | {"selection": state_of(views["trace"].selection, names)}


def answers() -> dict[str, dict[str, Any]]:
    """What each question is answered with: to whom it is put, the words, and the numbers."""
    views, found = every_kind(), {}
    for what, (kind, question) in QUESTIONS.items():
        info, buffers = views[kind].answers[what](question)
        info = json.loads(json.dumps(info))
        if "where" in info:  # a file of this machine, and its line
            info["where"] = Path(info["where"]).name.partition(":")[0]
        numbers = [
            np.frombuffer(each, dtype).tolist()
            for each, dtype in zip(buffers, BUFFERS.get(what, ()), strict=True)
        ]
        found[what] = {"kind": kind, "question": question, "info": info, "buffers": numbers}
    return found


def fixture_text() -> str:
    """The fixture's text: a trait a line."""
    lines = ["{"]
    for section, content in (("states", states()), ("answers", answers())):
        lines.append(f'  "{section}": {{')
        for name, each in content.items():
            rows = [f"      {json.dumps(k)}: {json.dumps(v)}" for k, v in each.items()]
            lines += [f'    "{name}": {{', ",\n".join(rows), "    },"]
        lines[-1] = "    }"
        lines.append("  }," if section == "states" else "  }")
    return "\n".join([*lines, "}"]) + "\n"


if __name__ == "__main__":
    print(fixture_text(), end="")
