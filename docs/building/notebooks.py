"""Puts the notebooks of notebooks/ among the pages, under tutorials/, before the pages are read.

Sphinx takes pages from one folder only. The copies are not tracked, and are made anew only where a
notebook has changed, so that Sphinx reads those again alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sphinx.application import Sphinx


def copy_notebooks(app: Sphinx) -> None:
    source, target = Path(app.srcdir).parent / "notebooks", Path(app.srcdir) / "tutorials"
    wanted = {each.name: each for each in source.glob("*.ipynb")}
    target.mkdir(exist_ok=True)
    for old in target.glob("*.ipynb"):
        if old.name not in wanted:
            old.unlink()
    for name, notebook in wanted.items():
        copy = target / name
        if not copy.exists() or copy.read_bytes() != notebook.read_bytes():
            shutil.copyfile(notebook, copy)


def setup(app: Sphinx) -> dict[str, bool]:
    # At once: Sphinx looks for pages before any event that could do it.
    copy_notebooks(app)
    return {"parallel_read_safe": True}
