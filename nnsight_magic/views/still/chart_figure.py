"""A chart as a matplotlib figure, for a paper."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnsight_magic.views.data.chart import Chart
from nnsight_magic.views.still.chart import COLOURS, TICKS
from nnsight_magic.views.still.figure import new_figure


def chart_figure(chart: Chart) -> Any:
    """The lines on axes from 0 to 1, with a legend."""
    sheet = new_figure((6.4, 3.4))
    axes = sheet.subplots()
    places = np.arange(len(chart.labels))
    for level in chart.levels:
        axes.axhline(level.value, color="0.4", linestyle=":", linewidth=1, label=level.name)
    for line in reversed(chart.lines):
        colour, values = COLOURS[line.role], np.array(line.values)
        ends = None if line.low is None or line.high is None else (line.low, line.high)
        if line.role == "spread" and ends is not None:
            axes.fill_between(places, *ends, color=colour, alpha=0.25, linewidth=0)
        if line.role == "main":
            off = None if ends is None else np.abs(np.array(ends) - values)
            axes.errorbar(
                places, values, off, color=colour, marker="o", markersize=4, elinewidth=0.8,
                label=line.name,
            )  # fmt: skip
        else:
            dashes = "--" if line.role == "second" else "-"
            marker = "o" if len(places) == 1 else None
            axes.plot(places, values, dashes, color=colour, label=line.name, marker=marker)
    step = -(-len(chart.labels) // TICKS)
    axes.set_xticks(places[::step], [_plain(each) for each in chart.labels[::step]])
    axes.set(xlabel=chart.across, ylim=(0, 1.03))
    axes.set_title(_plain(chart.title), fontsize=9, loc="left", wrap=True)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return sheet


def _plain(text: str) -> str:
    """Text that matplotlib takes for text."""
    return text.replace("$", r"\$")
