"""Activations in files, as tables: a row for each token that is kept, in the texts' order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nnsight_magic.analyses.shards import ROW_COLUMNS, Folder
from nnsight_magic.errors import BadInputError, StoreError

if TYPE_CHECKING:
    import pandas


class Store:
    """What `analyses.stream` wrote: opened without a model, read where it is used.

    Args:
        path: the folder.

    Raises:
        StoreError: there is no store, or a file of it is damaged.

    Attributes:
        manifest: what the activations are of: model, sites, positions, dtypes.

    >>> import tempfile
    >>> from nnsight_magic import LanguageModel, analyses
    >>> texts = ["The Eiffel Tower is in Paris", "The Colosseum is in Rome"]
    >>> folder = tempfile.mkdtemp()
    >>> _ = analyses.stream(LanguageModel("demo"), texts, folder, layers=[10])
    >>> store = analyses.Store(folder)
    >>> store.rows.head(2)
       text  position   token
    0     0         6   Paris
    1     1         6    Rome
    """

    def __init__(self, path: str | PathLike[str]):
        self._folder = Folder(path)
        found = self._folder.manifest()
        if found is None:
            raise StoreError(f"There are no activations in {path}: analyses.stream writes them.")
        self.manifest: dict[str, Any] = found
        self._headers = list(self._folder.headers())

    @property
    def complete(self) -> bool:
        """Whether all texts are in it; the call of `analyses.stream` again goes on."""
        return "texts" in self.manifest

    @property
    def sites(self) -> list[str]:
        """The names of what is kept."""
        return list(dict.fromkeys(each["site"] for each in self.manifest["sites"]))

    @property
    def layers(self) -> list[int]:
        """The blocks of which it is kept."""
        found = {each["layer"] for each in self.manifest["sites"]} - {None}
        return sorted(found)

    def __len__(self) -> int:
        """How many rows there are."""
        return sum(header.rows for header in self._headers)

    def __repr__(self) -> str:
        texts = sum(header.texts for header in self._headers if header.number == 0)
        at = self.manifest["at"]
        layers = f" of {len(self.layers)} blocks" if self.layers else ""
        unfinished = "" if self.complete else ", not finished"
        cut = sum(header.cut for header in self._headers if header.number == 0)
        short = f", {cut:,} cut at {self.manifest['max_tokens']:,} tokens" if cut else ""
        return (
            f"Store({str(self._folder.path)!r}: {len(self):,} rows of {texts:,} texts{unfinished}"
            f"{short}; {', '.join(self.sites)}{layers}, at {at}, {self.manifest['model']})"
        )

    @cached_property
    def rows(self) -> pandas.DataFrame:
        """What each row is: `text` (its number), `position` (-1 of a mean) and `token`."""
        import pandas

        columns = {name: self._gathered(name).numpy() for name in ROW_COLUMNS}
        words: dict[int, str] = {}
        for file in self._files:
            words.update(self._folder.words(file))
        told = {**columns, "token": [words[token] for token in columns["token"].tolist()]}
        return pandas.DataFrame(told)

    def load(self, site: str | None = None, layer: int | None = None) -> torch.Tensor:
        """All rows of one site: `(rows, …)`, row k being `rows.iloc[k]`.

        Args:
            site: not needed where there is one.
            layer: not needed where there is one; negative ones count from the last that is kept.

        Raises:
            BadInputError: it is not in the store, or there are several.
        """
        return self._gathered(self._key(site, layer))

    def batches(
        self,
        size: int,
        site: str | None = None,
        layer: int | None = None,
        *,
        seed: int | None = None,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The rows of one site, so many at a time, for what is larger than memory.

        Args:
            size: of a batch; a shard's last may be smaller.
            site, layer: as in `load`.
            seed: shuffle the shards, and the rows within each; otherwise as they are stored.

        Yields:
            The numbers of the rows `(size,)`, and the rows `(size, …)`.
        """
        key = self._key(site, layer)
        chance = None if seed is None else np.random.default_rng(seed)
        shards = list(zip(self._files, self._places, strict=True))
        if chance is not None:
            chance.shuffle(shards)  # type: ignore[arg-type]
        for file, places in shards:
            values = self._folder.read(file, key)
            order = np.arange(len(places)) if chance is None else chance.permutation(len(places))
            for begin in range(0, len(order), size):
                chosen = torch.from_numpy(order[begin : begin + size])
                yield places[chosen], values[chosen]

    @property
    def _files(self) -> list[str]:
        return [header.file for header in self._headers]

    @cached_property
    def _places(self) -> list[torch.Tensor]:
        """Of each shard, the number that each of its rows has in the order of the texts."""
        told = [
            [self._folder.read(header.file, name) for name in ("text", "position")]
            for header in self._headers
        ]
        if not told:
            return []
        text, position = (np.concatenate([each[k].numpy() for each in told]) for k in (0, 1))
        place = np.empty(len(text), dtype=np.int64)
        place[np.lexsort((position, text))] = np.arange(len(text))
        ends = np.cumsum([header.rows for header in self._headers])[:-1]
        return [torch.from_numpy(each) for each in np.split(place, ends)]

    def _gathered(self, key: str) -> torch.Tensor:
        parts = [self._folder.read(file, key) for file in self._files]
        if not parts:
            raise StoreError(f"{self._folder.path} has no rows yet.")
        found = torch.empty((len(self), *parts[0].shape[1:]), dtype=parts[0].dtype)
        for place, part in zip(self._places, parts, strict=True):
            found[place] = part
        return found

    def _key(self, site: str | None, layer: int | None) -> str:
        known = [(each["site"], each["layer"]) for each in self.manifest["sites"]]
        if layer is not None and layer < 0 and self.layers:
            layer = self.layers[layer] if -layer <= len(self.layers) else layer
        found = [
            each
            for each in known
            if site in (None, each[0]) and (layer is None or layer == each[1])
        ]
        if len(found) == 1:
            name, number = found[0]
            return name if number is None else f"{name}.{number}"
        asked = f"site={site!r}, layer={layer!r}"
        kept = f"sites {', '.join(self.sites)}; blocks {', '.join(map(str, self.layers))}"
        raise BadInputError(
            f"{'Nothing' if not found else 'More than one value'} in this store is {asked}; it has "
            f"{kept}."
        )
