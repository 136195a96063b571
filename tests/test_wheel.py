"""The wheel holds what a notebook needs, and nothing of the workshop."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_brings_the_front_end(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("loader.js", "views.js", "page.js"):
        assert f"nnsight_magic/views/static/{name}" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"nnsight_magic"}
    notices = zipfile.ZipFile(wheel).read("nnsight_magic/views/NOTICES.txt").decode()
    for bundled in json.loads((ROOT / "widgets" / "package.json").read_text())["dependencies"]:
        assert f"contains {bundled} " in notices
    assert "Permission is hereby granted" in notices and "Copyright (c)" in notices
