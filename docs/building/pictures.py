"""A picture that ends in `-light.png` has a twin in dark colours; the page shows the one it needs.

In Markdown that is read elsewhere the light one stands alone, which every renderer understands.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform


class Twins(SphinxTransform):
    """Runs before Sphinx collects the pictures of a page."""

    default_priority = 200

    def apply(self, **_: object) -> None:
        folder = Path(self.document["source"]).parent
        for picture in list(self.document.findall(nodes.image)):
            light = picture["uri"]
            dark = light.replace("-light.", "-dark.")
            if dark == light or not (folder / dark).exists():
                continue
            twin = picture.deepcopy()
            twin["uri"] = dark
            picture["classes"] = [*picture.get("classes", []), "only-light"]
            twin["classes"] = [*twin.get("classes", []), "only-dark"]
            picture.parent.insert(picture.parent.index(picture) + 1, twin)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(Twins)
    return {"parallel_read_safe": True}
