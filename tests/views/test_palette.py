"""The views' colours: one place, the same in both languages, and matplotlib's by name."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnsight_magic.views import COLOUR_MAPS, show
from nnsight_magic.views.still import palette

WIDGETS = Path(__file__).parents[2] / "widgets"


def test_the_front_end_has_the_colours_that_are_written_in_python() -> None:
    write = runpy.run_path(str(WIDGETS / "palette.py"))["typescript"]
    written = (WIDGETS / "src/core/palette.ts").read_text(encoding="utf-8")
    assert written == write(vars(palette)), "run `make palette`"


def test_no_other_file_of_the_front_end_writes_a_colour_of_a_scale() -> None:
    points = {p for scales in (palette.LIGHT, palette.DARK) for s in scales.values() for p in s}
    points -= {"ffffff", "111111"}  # grounds of a page, too
    for file in (WIDGETS / "src").rglob("*.ts*"):
        if file.name != "palette.ts":
            found = [p for p in points if p in file.read_text(encoding="utf-8")]
            assert not found, f"{file}: {found}"


@pytest.mark.parametrize("name", list(palette.LIGHT))
@pytest.mark.parametrize("dark", [False, True])
def test_matplotlib_knows_each_scale_by_name(name: str, dark: bool) -> None:
    import matplotlib

    known = matplotlib.colormaps[f"nnsight_magic.{name}{'_dark' * dark}"]
    ends = (palette.DARK if dark else palette.LIGHT)[name]
    for value, point in ((0.0, ends[0]), (1.0, ends[-1])):
        assert matplotlib.colors.to_hex(known(value)) == f"#{point}"
    assert known(np.nan)[:3] == pytest.approx([each / 255 for each in palette.NAN])
    assert f"nnsight_magic.{name}" in COLOUR_MAPS


def test_a_figure_draws_with_the_map_of_that_name() -> None:
    drawn = show(np.linspace(-1, 1, 400).reshape(20, 20)).figure().axes[0].images[0]
    assert drawn.get_cmap().name == "nnsight_magic.diverging"


def test_matplotlib_is_imported_with_the_maps_and_not_before() -> None:
    code = """
import sys
import torch
import nnsight_magic.views.still.tensor, nnsight_magic.views.still.tokens
from nnsight_magic.views import TokenStrip, show, tokens_view
show(torch.randn(9, 9)).still()
tokens_view(TokenStrip(["a"], kl=[0.5])).still()
assert "matplotlib" not in sys.modules, "imported too early"
show(torch.randn(9, 9)).figure()
assert "nnsight_magic.sequential" in sys.modules["matplotlib"].colormaps
assert "matplotlib.pyplot" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
