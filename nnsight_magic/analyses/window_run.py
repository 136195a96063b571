"""One window of a stream: its batches are run, and its shards written.

This is all that a worker on another machine does; it is given plain data and the model's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.analyses.kept_positions import columns_of, keeper, places_of
from nnsight_magic.analyses.shards import Folder, ShardHeader
from nnsight_magic.analyses.stored_sites import StoredSite, read_sites
from nnsight_magic.analyses.text_windows import Batch, Window, batches, tokenized
from nnsight_magic.errors import StoreError
from nnsight_magic.language.tokens import token_texts


@dataclass(frozen=True)
class Plan:
    """What is done with every window, as plain data that another process takes.

    Attributes:
        folder: where the shards go.
        sites: what is kept, in the order of a forward.
        at: of which tokens, as `checked_at` gives it.
        batch_tokens: of a batch, padding counted.
        shard_rows: of a shard at least, but for a window's last.
        max_tokens: of a text; what is behind is cut off.
        dtype: of what is stored, by the site's key.
        shapes: of one row, by the site's key.
    """

    folder: str
    sites: tuple[StoredSite, ...]
    at: str | list[int]
    batch_tokens: int
    shard_rows: int
    max_tokens: int | None
    dtype: dict[str, str]
    shapes: dict[str, list[int]]


def run_window(model: Any, plan: Plan, window: Window) -> Iterator[int]:
    """Runs what is not there of one window, and writes its shards; how many texts at a time.

    Raises:
        StoreError: the folder has other texts at this place.
    """
    folder = Folder(plan.folder)
    digest = window.digest
    if is_done(folder, window, digest):
        yield len(window.texts)
        return
    ids, cut = tokenized(model, window, plan.max_tokens)
    numbers = range(window.first, window.first + len(ids))
    filled = [k for k, each in enumerate(ids) if each]
    groups = _shards(
        plan, batches([ids[k] for k in filled], [numbers[k] for k in filled], plan.batch_tokens)
    )
    for number, group in enumerate(groups):
        rows = sum(_rows(plan.at, batch) for batch in group)
        header = ShardHeader(
            window.number, number, len(groups), window.first, len(ids), digest, rows, cut,
            len(ids) - len(filled),
        )  # fmt: skip
        if not (folder.path / header.file).exists():
            folder.write_shard(header, *_run(model, plan, group, rows))
        yield sum(len(batch.texts) for batch in group)
    yield len(ids) - len(filled)


def whole_window(plan: Plan, model: Any, window: Window) -> int:
    """The same as a job of a worker: how many texts."""
    return sum(run_window(model, plan, window))


def is_done(folder: Folder, window: Window, digest: str) -> bool:
    """Whether all shards of a window are there.

    Raises:
        StoreError: they are of other texts.
    """
    found = sorted(folder.path.glob(ShardHeader.pattern(window.number)))
    if not found:
        return False
    headers = [folder.header(path.name) for path in found]
    for header in headers:
        if header.digest != digest:
            raise StoreError(
                f"{folder.path} holds other texts: those from {window.first:,} on, the "
                f"{header.texts:,} of {header.file}, are not the {len(window.texts):,} that were "
                "given.\nGive the same texts in the same order, or another folder."
            )
    return len(headers) == headers[0].of


def _shards(plan: Plan, several: Iterable[Batch]) -> list[list[Batch]]:
    """The batches of a window, a shard's together; at least one shard, so that it shows as done."""
    groups: list[list[Batch]] = [[]]
    rows = 0
    for batch in several:
        if rows >= plan.shard_rows:
            groups.append([])
            rows = 0
        groups[-1].append(batch)
        rows += _rows(plan.at, batch)
    return groups


def _rows(at: str | list[int], batch: Batch) -> int:
    return sum(
        len(places_of(at, len(ids), text)) for text, ids in zip(batch.texts, batch.ids, strict=True)
    )


def _run(
    model: Any, plan: Plan, group: list[Batch], rows: int
) -> tuple[dict[str, torch.Tensor], dict[int, str]]:
    """What a shard holds, and the words of its tokens."""
    held = {
        site.key: torch.empty(
            (rows, *plan.shapes[site.key]), dtype=getattr(torch, plan.dtype[site.key])
        )
        for site in plan.sites
    }
    columns: dict[str, list[int]] = {"text": [], "position": [], "token": []}
    begin = 0
    for batch in group:
        own = columns_of(plan.at, batch)
        end = begin + len(own["text"])
        kept = read_sites(model, plan.sites, *batch.padded(), keeper(plan.at, batch))
        for site, values in zip(plan.sites, kept, strict=True):
            held[site.key][begin:end] = values
        for name, numbers in own.items():
            columns[name] += numbers
        begin = end
    tokens = sorted(set(columns["token"]))
    words = token_texts(getattr(model, "tokenizer", None), tokens)
    told = {name: torch.tensor(each, dtype=torch.long) for name, each in columns.items()}
    return {**held, **told}, dict(zip(tokens, words, strict=True))
