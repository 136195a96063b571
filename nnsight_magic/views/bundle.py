"""The front end's code, as `make widgets` builds it.

Every view is a widget model of its own, and a saved notebook stores the state of each, its
JavaScript included. So a view carries a loader of a few hundred bytes, and the code itself, packed,
stands in one model that all views of a kernel share.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
from pathlib import Path

import ipywidgets
import traitlets

from nnsight_magic.errors import NotBuiltError

FOLDER = Path(__file__).parent / "static"


def source(name: str) -> str:
    """The text of a built file."""
    path = FOLDER / name
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotBuiltError(
            f"the front end is not built: {path} is missing; run `make widgets` in the project's "
            "folder, or install the wheel"
        ) from None


@functools.cache
def loader() -> str:
    """What every view carries as its own code."""
    return source("loader.js")


@functools.cache
def packed_code() -> tuple[bytes, str]:
    """The views' code, gzipped, and its hash."""
    code = source("views.js").encode()
    return gzip.compress(code, 9, mtime=0), hashlib.sha256(code).hexdigest()[:16]


class Code(ipywidgets.Widget):
    """Holds the front end's code for all views of this process.

    As text: of a plain widget's bytes JupyterLab stores nothing when it saves a notebook itself.
    """

    packed = traitlets.Unicode().tag(sync=True)  # base64
    version = traitlets.Unicode().tag(sync=True)


_codes: dict[str, Code] = {}


def code() -> Code:
    """The one `Code` of this process; a new one where a comm was closed, as a test's may be."""
    data, version = packed_code()
    if version not in _codes or _codes[version].comm is None:
        _codes[version] = Code(packed=base64.b64encode(data).decode(), version=version)
    return _codes[version]
