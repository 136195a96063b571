"""A folder of activations on disk: a manifest that says what they are, and shards that hold them.

A shard is a safetensors file with one tensor `(rows, …)` for each site and three that say what a
row is: the number of its text, its position and its token. Its header says which texts it is
of, so the files that are there are the whole truth: there is no list beside them that could differ.
Files are written aside and renamed, so a shard is there whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nnsight_magic.errors import StoreError

FORMAT = "nnsight_magic activations 1"
MANIFEST = "manifest.json"
ROW_COLUMNS = ("text", "position", "token")  # of a row, beside the values themselves
_LOCK, _ASIDE, _SHARD = ".lock", ".part", ".safetensors"


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says of itself.

    Attributes:
        window: which window of the texts it belongs to.
        number, of: its place among the shards of that window.
        first: the number of the window's first text.
        texts: how many texts the window has.
        digest: of the window's texts.
        rows: how many rows there are.
        cut: how many texts of the window were longer than allowed.
        empty: how many have no token, and so no row.
    """

    window: int
    number: int
    of: int
    first: int
    texts: int
    digest: str
    rows: int
    cut: int
    empty: int

    @property
    def file(self) -> str:
        return f"{self.window:07d}-{self.number:04d}{_SHARD}"

    @staticmethod
    def pattern(window: int) -> str:
        """Matches the files of one window."""
        return f"{window:07d}-*{_SHARD}"


class Folder:
    """The files of one store."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    def locked(self) -> FileLock:
        """Nobody else writes here meanwhile; the system lets go of it when the process ends.

        Raises:
            StoreError: somebody does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                f"Another process is writing to {self.path} now. Wait for it, or write elsewhere."
            ) from None
        return lock

    # -- the manifest -------------------------------------------------------------------------

    def manifest(self) -> dict[str, Any] | None:
        """What the folder says that it holds; `None` of an empty one.

        Raises:
            StoreError: it holds something else.
        """
        path = self.path / MANIFEST
        if not path.exists():
            others = self._others()
            if others:
                raise StoreError(
                    f"{self.path} holds no activations, but {', '.join(others[:3])}"
                    f"{', …' if len(others) > 3 else ''}.\nGive a folder that is empty or new."
                )
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise StoreError(f"{path} cannot be read: {error}") from None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            told = found.get("format") if isinstance(found, dict) else type(found).__name__
            raise StoreError(f"{path} is of another format, {told!r}; expected {FORMAT!r}.")
        return found

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        aside = self._aside(MANIFEST)
        aside.write_text(json.dumps({"format": FORMAT, **manifest}, indent=1), encoding="utf-8")
        self._put(aside, MANIFEST)

    # -- the shards ---------------------------------------------------------------------------

    def clean(self) -> None:
        """Removes what a process that was killed had begun to write; only under the lock."""
        for path in self.path.glob(f"*{_ASIDE}"):
            path.unlink()

    def files(self) -> list[str]:
        """The shards' names, in the order of the texts' windows."""
        return sorted(path.name for path in self.path.glob(f"*{_SHARD}"))

    def headers(self) -> Iterator[ShardHeader]:
        for file in self.files():
            yield self.header(file)

    def header(self, file: str) -> ShardHeader:
        """
        Raises:
            StoreError: the file is damaged, or is none of ours.
        """
        try:
            with safe_open(self.path / file, "pt") as shard:
                told = json.loads((shard.metadata() or {})["shard"])
                found = ShardHeader(**told["header"])
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise StoreError(
                f"{self.path / file} is damaged or no shard of a store: {error}\n"
                "Delete that file, and the same call of analyses.stream runs its texts again."
            ) from None
        if found.file != file:
            raise StoreError(f"{self.path / file} was renamed: it is {found.file}. Name it so.")
        return found

    def write_shard(
        self, header: ShardHeader, tensors: dict[str, torch.Tensor], words: dict[int, str]
    ) -> None:
        """
        Args:
            tensors: by their keys, and the columns that say what a row is.
            words: the texts of the tokens in it.
        """
        told = json.dumps({"header": asdict(header), "words": words})
        aside = self._aside(header.file)
        save_file(tensors, aside, metadata={"shard": told})  # several entries have no fixed order
        self._put(aside, header.file)

    def read(self, file: str, key: str) -> torch.Tensor:
        """One tensor of a shard, mapped from the file: read where it is used."""
        with safe_open(self.path / file, "pt") as shard:
            try:
                return shard.get_tensor(key)
            except SafetensorError:
                raise StoreError(f"{self.path / file} has no {key!r}: it is damaged.") from None

    def words(self, file: str) -> dict[int, str]:
        """The texts of a shard's tokens, by their ids."""
        with safe_open(self.path / file, "pt") as shard:
            told = json.loads(shard.metadata()["shard"])["words"]
        return {int(token): word for token, word in told.items()}

    def _aside(self, name: str) -> Path:
        return self.path / f"{name}.{os.getpid()}{_ASIDE}"

    def _put(self, aside: Path, name: str) -> None:
        """What was written aside takes its place.

        It is not waited for until it is on the disk: where the machine itself fails, a file may
        be cut off, and a file that is cut off is found when it is opened.
        """
        aside.replace(self.path / name)

    def _others(self) -> list[str]:
        if not self.path.exists():
            return []
        return sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
