"""`--out FOLDER`: the points of a sweep on disk, so that a kernel that was started anew goes on.

`sweep.json` says what was measured: the model's weights, the cell, its prompts and the variables
that it uses. `points.pt` has the results by number; it is written aside and renamed, so that a
kernel which dies at any moment leaves one that is whole.
"""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nnsight_magic.analyses.points import Grid
from nnsight_magic.analyses.store_identity import identity
from nnsight_magic.errors import OptionError
from nnsight_magic.magics.sweep import Cell
from nnsight_magic.magics.unfinished import NotComparable, digest_of

EVERY = 2.0  # seconds between two times that finished points are written
_PLAIN = (bool, int, float, str, torch.Tensor)


class SweepFolder:
    """Finished points of one sweep.

    Args:
        path: of the folder; made where there is none.
        cell, points: the sweep.
        fresh: begin anew in a folder that holds a sweep, whichever.

    Raises:
        OptionError: the folder holds something else, another sweep, or a damaged one; or what the
            cell uses cannot be told from what another one would.
    """

    def __init__(self, path: str, cell: Cell, points: Grid, *, fresh: bool = False):
        self._folder = Path(path).expanduser()
        self._kept: dict[int, Any] = {}
        self._last = 0.0
        try:
            told = {**identity(cell.asked.model), "cell": digest_of(cell, points)}
        except NotComparable:
            raise OptionError(
                f"--out {path}: the cell uses a variable that cannot be told from another (an "
                "object, a function that holds others), so nobody could say later what was "
                "measured; use numbers, texts and tensors"
            ) from None
        there = self._manifest()
        if there is not None and not fresh:
            differing = [name for name in told if there.get(name) != told[name]]
            if differing:
                raise OptionError(
                    f"--out {path}: this folder holds another sweep ({', '.join(differing)} "
                    "differ); give another folder, or --fresh to begin anew in this one"
                )
            self._kept = self._read(len(points))
        self._folder.mkdir(parents=True, exist_ok=True)
        _write(self._folder / "sweep.json", json.dumps(told, indent=1).encode())
        if fresh:
            (self._folder / "points.pt").unlink(missing_ok=True)

    @property
    def known(self) -> dict[int, Any]:
        """The results that are there, by number."""
        return dict(self._kept)

    def keep(self, results: Mapping[int, Any], *, now: bool = False) -> None:
        """Keep these, those that failed left out; on disk at most every two seconds, or `now`."""
        self._kept.update({n: each for n, each in results.items() if _may_be_kept(each)})
        if now or time.monotonic() - self._last >= EVERY:
            aside = self._folder / f".points.{os.getpid()}"
            torch.save(self._kept, aside)
            aside.replace(self._folder / "points.pt")
            self._last = time.monotonic()

    def _manifest(self) -> dict[str, Any] | None:
        """What the folder says of its sweep; `None` where it is empty or not there."""
        path = self._folder / "sweep.json"
        if self._folder.exists() and not self._folder.is_dir():
            raise OptionError(f"--out {self._folder}: this is a file; give a folder")
        if not path.exists():
            if self._folder.is_dir() and any(self._folder.iterdir()):
                raise OptionError(
                    f"--out {self._folder}: this folder holds something else than a sweep; give an "
                    "empty one or a new one"
                )
            return None
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            told = None
        if not isinstance(told, dict) or "cell" not in told:
            raise OptionError(
                f"--out {self._folder}: sweep.json is damaged, or of something else; give another "
                "folder"
            )
        return told

    def _read(self, count: int) -> dict[int, Any]:
        path = self._folder / "points.pt"
        if not path.exists():
            return {}
        try:
            found = torch.load(path, weights_only=True, map_location="cpu")
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
            found = None
        numbers: dict[Any, Any] = found if isinstance(found, dict) else {None: None}
        if not all(type(n) is int and 0 <= n < count for n in numbers):
            raise OptionError(
                f"--out {self._folder}: points.pt is damaged; --fresh begins anew in this folder"
            )
        return dict(numbers)


def _may_be_kept(result: Any) -> bool:
    return isinstance(result, dict) and all(isinstance(v, _PLAIN) for v in result.values())


def _write(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    aside.replace(path)
