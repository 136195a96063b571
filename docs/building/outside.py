"""Links to files outside docs/ (a test, the licence) lead to the repository's address.

Until the project has an address (pyproject.toml says `.example`) such a link is plain text: a link
that leads nowhere is worse than none.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).parents[2]
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]


def inside(target: str, page: Path, docs: Path) -> bool:
    """Whether a link leads to a page or picture of the site."""
    path = (page.parent / target.partition("#")[0]).resolve()
    return path.is_relative_to(docs)


class Outside(SphinxTransform):
    """Runs before links are looked up."""

    default_priority = 5

    def apply(self, **_: object) -> None:
        page, docs = Path(self.document["source"]), Path(self.env.srcdir).resolve()
        for link in list(self.document.findall(pending_xref)):
            target = str(link.get("reftarget", ""))
            if link.get("refdomain") != "doc" and not target.startswith(".."):
                continue
            if target.startswith("..") and not inside(target, page, docs):
                link.replace_self(self.leading_out(target, page, link))

    def leading_out(self, target: str, page: Path, link: nodes.Element) -> nodes.Node:
        path = (page.parent / target).resolve().relative_to(ROOT)
        if ".example" in SOURCE:
            return nodes.inline("", "", *link.children)
        return nodes.reference("", "", *link.children, refuri=f"{SOURCE}/blob/main/{path}")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(Outside)
    return {"parallel_read_safe": True}
