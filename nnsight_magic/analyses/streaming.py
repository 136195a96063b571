"""Activations of more texts than memory holds: a stream through the model to files.

Texts are taken a window at a time, sorted by length, run in batches of nearly one length, and what
is kept of them is written in shards. Each forward ends behind the last site that is kept. What is
written stays: the same call again goes on where it ended, whether it ran through, was interrupted
or was killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from os import PathLike
from typing import Any

import torch

from nnsight_magic.analyses.kept_positions import At, checked_at
from nnsight_magic.analyses.shards import Folder
from nnsight_magic.analyses.site_run import chosen_layers
from nnsight_magic.analyses.store import Store
from nnsight_magic.analyses.store_identity import identity
from nnsight_magic.analyses.stored_sites import probe, stored_sites
from nnsight_magic.analyses.text_windows import Window, windows
from nnsight_magic.analyses.window_run import Plan, run_window, whole_window
from nnsight_magic.analyses.workers import Workers
from nnsight_magic.errors import BadInputError, StoreError
from nnsight_magic.progress import progress_bar

BATCH_TOKENS = 4096
SHARD_BYTES = 64 * 2**20
_DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float32, torch.float16, torch.bfloat16)}


def stream(
    model: Any,
    texts: Iterable[Any],
    to: str | PathLike[str],
    *,
    sites: str | Sequence[str] = "resid_post",
    layers: Iterable[int] | None = None,
    at: At = "last",
    dtype: str | torch.dtype | None = None,
    max_tokens: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    column: str = "text",
    on: Any = None,
    progress: bool = True,
) -> Store:
    """Run texts through a model and keep activations of them in files.

    The same call again goes on where the last one ended.

    Args:
        model: a `LanguageModel`.
        texts: any iterable, also a generator of millions: texts, lists of token ids, or the rows
            of a data set; or a `Path` of a file with one text a line.
        to: a folder, new or of the same call before.
        sites: `resid_pre`, `resid_mid`, `resid_post`, `attn`, `mlp`, `heads`, `q`, `k`, `v`,
            `neurons`, or paths as in a cell: `"layers[layer].mlp.gate_proj.output"`.
        layers: the blocks; all by default.
        at: which tokens: `"last"`, `"all"`, `"mean"` (without the first), a position, or several.
        dtype: of the files; the model's own by default.
        max_tokens: longer texts are cut there; by default where the model's positions end.
        batch_tokens: of a forward, padding counted. More are faster on a device, and take more
            memory.
        column: which one of a data set's rows is the text.
        on: what runs it: how many processes of this machine, anything with `submit`, or a Dask
            client; workers see the folder `to`. By default this process.
        progress: show a bar if it takes longer than a second.

    Returns:
        The `Store`, whose rows are in the order of the texts.

    Raises:
        BadInputError: a site, a text or a position is none.
        StoreError: the folder holds something else, or another process is writing there.
        CannotTravelError: with `on`, the model has no name by which a worker could load it.

    >>> import tempfile
    >>> from nnsight_magic import LanguageModel, analyses
    >>> model, folder = LanguageModel("demo"), tempfile.mkdtemp()
    >>> texts = ["The Eiffel Tower is in Paris", "The Colosseum is in Rome"]
    >>> store = analyses.stream(model, texts, folder, layers=[10, 20])
    >>> store.load(layer=10).shape
    torch.Size([2, 576])
    """
    if model.module.training:
        raise BadInputError(
            "The model is in training mode: dropout would make its numbers random.\n"
            "model.module.eval() first."
        )
    workers = None if on is None else Workers(on, model)
    manifest, plan = _planned(model, to, sites, layers, at, dtype, max_tokens, batch_tokens)
    folder = Folder(to)
    with folder.locked():
        folder.clean()
        _agree(folder, manifest)
        total = len(texts) if hasattr(texts, "__len__") else None  # type: ignore[arg-type]
        bar = progress_bar(total=total, unit=" texts", delay=1, disable=not progress)
        seen = _Seen()
        source = seen.counted(windows(texts, column))
        try:
            with bar:
                for done in _run_all(model, plan, source, workers):
                    bar.update(done)
        except BaseException as error:
            error.add_note(
                f"What was finished is kept in {folder.path}; the same call goes on from there."
            )
            raise
        _refuse_more(folder, seen.windows)
        folder.write_manifest({**manifest, "texts": seen.texts})
    return Store(to)


class _Seen:
    """How many windows and texts there were."""

    windows = texts = 0

    def counted(self, source: Iterable[Window]) -> Iterator[Window]:
        for window in source:
            yield window
            self.windows, self.texts = window.number + 1, window.first + len(window.texts)


def _run_all(
    model: Any, plan: Plan, source: Iterable[Window], workers: Workers | None
) -> Iterator[int]:
    """Runs all windows, here or elsewhere; how many texts at a time."""
    if workers is None:
        for window in source:
            yield from run_window(model, plan, window)
        return
    try:
        yield from workers.run(partial(whole_window, plan), source)
    finally:
        workers.close()


def _planned(
    model: Any, to: Any, sites: Any, layers: Any, at: Any, dtype: Any, max_tokens: Any,
    batch_tokens: int,
) -> tuple[dict[str, Any], Plan]:  # fmt: skip
    """What the folder says of itself, and what is done with each window."""
    chosen = chosen_layers(model, layers)
    found = stored_sites(sites, chosen)
    kept = probe(model, found)
    asked = _dtype(dtype)
    types = {key: str(asked or one.dtype).removeprefix("torch.") for key, one in kept.items()}
    size = sum(one.numel() * getattr(torch, types[key]).itemsize for key, one in kept.items())
    plan = Plan(
        folder=str(to),
        sites=tuple(found),
        at=checked_at(at),
        batch_tokens=batch_tokens,
        shard_rows=max(1, SHARD_BYTES // size),
        max_tokens=_longest(model) if max_tokens is None else max_tokens,
        dtype=types,
        shapes={key: list(one.shape) for key, one in kept.items()},
    )
    return {**identity(model), **_told(plan)}, plan


def _told(plan: Plan) -> dict[str, Any]:
    """What of a plan says what the numbers are; batches do, by the last bit."""
    return {
        "sites": [{"site": site.site, "layer": site.layer} for site in plan.sites],
        "at": plan.at,
        "max_tokens": plan.max_tokens,
        "batch_tokens": plan.batch_tokens,
        "dtype": plan.dtype,
        "shapes": plan.shapes,
    }


def _agree(folder: Folder, manifest: dict[str, Any]) -> None:
    """Begins a folder, or finds it to be of the same call.

    Raises:
        StoreError: it is of another.
    """
    found = folder.manifest()
    if found is None:
        folder.write_manifest(manifest)
        return
    for name, mine in manifest.items():
        if name != "version" and found.get(name) != mine:
            raise StoreError(
                f"{folder.path} holds activations of another run: {name} is "
                f"{_short(found.get(name))} there, and {_short(mine)} now.\nGive another folder, "
                "or call as before."
            )


def _refuse_more(folder: Folder, count: int) -> None:
    """
    Raises:
        StoreError: there are windows behind the last of the texts.
    """
    files = folder.files()
    if files and folder.header(files[-1]).window >= count:
        last = folder.header(files[-1])
        raise StoreError(
            f"{folder.path} holds more texts than were given: it has {last.first + last.texts:,}.\n"
            "Give the same texts, or another folder."
        )


def _short(told: Any) -> str:
    words = repr(told)
    return words if len(words) <= 60 else f"{words[:60]}…"


def _dtype(asked: str | torch.dtype | None) -> torch.dtype | None:
    if asked is None or asked in _DTYPES.values():
        return asked  # type: ignore[return-value]
    if str(asked) not in _DTYPES:
        raise BadInputError(f"dtype={asked!r} is none of {', '.join(_DTYPES)}.")
    return _DTYPES[str(asked)]


def _longest(model: Any) -> int | None:
    """How many positions the model has; `None` where its configuration does not say."""
    config = getattr(model.module, "config", None)
    config = getattr(config, "get_text_config", lambda: config)()
    found = getattr(config, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None
