"""What a probe learns from: states by place, and of each row its label and its group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nnsight_magic.analyses.store import Store
from nnsight_magic.errors import BadInputError

States = dict[Any, Callable[[], np.ndarray]]  # by block, or by name: what gives `(rows, numbers)`
NAMED = 5  # rows or classes that a message names at most


@dataclass(frozen=True)
class Rows:
    """The rows that have a label.

    Attributes:
        states: for each place what reads its states, `(rows, numbers)` of all rows.
        axis: `layer`, or `site` where the places have names.
        kept: the numbers of the rows that have a label.
        label: of each kept row the number of its class.
        classes: their names, in their order.
        group: of each kept row the number of its group; a group of its own where none were given.
        grouped: whether groups were given.
        site: what the states are, as a store calls it.
        model: whose they are, as a store names it; "" where nobody says.
    """

    states: States
    axis: str
    kept: np.ndarray
    label: np.ndarray
    classes: tuple[str, ...]
    group: np.ndarray
    grouped: bool
    site: str
    model: str

    @property
    def group_count(self) -> int:
        return int(self.group.max()) + 1

    def values(self, place: Any) -> np.ndarray:
        """The states of the kept rows at one place, float64 `(rows, numbers)`.

        Raises:
            BadInputError: some of them are no finite numbers.
        """
        found = self.states[place]()[self.kept]
        bad = np.flatnonzero(~np.isfinite(found).all(1))
        if len(bad):
            told = ", ".join(str(self.kept[k]) for k in bad[:NAMED])
            more = ", …" if len(bad) > NAMED else ""
            raise BadInputError(
                f"The states of {self.axis} {place} are NaN or infinite in {len(bad):,} of "
                f"{len(found):,} rows ({told}{more}).\nLeave these rows out, by a label of None, "
                "or look at the model's run: in half precision sums can overflow."
            )
        return found


def rows_of(
    source: Any, labels: Any, groups: Any, *, site: str | None, layers: Sequence[int] | None
) -> Rows:
    """Reads what `analyses.probe` was given.

    Raises:
        BadInputError: it does not fit together.
    """
    states, axis, count, site, model = _states(source, site, layers)
    table = source.rows if isinstance(source, Store) else None
    label = _column(labels, "labels", count, table)
    known = [k for k, each in enumerate(label) if not _missing(each)]
    if not known:
        raise BadInputError(f"None of the {count:,} rows has a label.")
    kept = np.array(known)
    number, classes = _numbered([label[k] for k in known])
    group = np.arange(len(kept))
    if groups is not None:
        given = _column(groups, "groups", count, table)
        without = [k for k in known if _missing(given[k])]
        if without:
            raise BadInputError(
                f"Row {without[0]} has a label and no group. Each row that is learned from needs "
                "one; leave it out by a label of None."
            )
        group, names = _numbered([given[k] for k in known])
        _check_grouping(group, names)
    _check_classes(number, classes, group, groups is not None)
    return Rows(states, axis, kept, number, classes, group, groups is not None, site or "", model)


# -- states -----------------------------------------------------------------------------------


def _states(
    source: Any, site: str | None, layers: Sequence[int] | None
) -> tuple[States, str, int, str | None, str]:
    if isinstance(source, Store):
        return _stored(source, site, layers)
    if site is not None:
        raise BadInputError("site= chooses among the sites of a store; these states have none.")
    given = source if isinstance(source, Mapping) else {0: source}
    if not given:
        raise BadInputError("There are no states: the dict is empty.")
    if layers is not None:
        missing = [each for each in layers if each not in given]
        if missing:
            raise BadInputError(f"There are no states of {missing[0]!r}; there are {[*given]}.")
        given = {each: given[each] for each in layers}
    tables = {name: _as_table(name, each) for name, each in given.items()}
    counts = {len(each) for each in tables.values()}
    if len(counts) > 1:
        told = ", ".join(f"{name!r}: {len(each)}" for name, each in tables.items())
        raise BadInputError(f"All states need as many rows; found {told}.")
    axis = "layer" if all(type(name) is int for name in tables) else "site"
    readers: States = {
        name if axis == "layer" else str(name): (lambda each=each: each)
        for name, each in tables.items()
    }
    return readers, axis, counts.pop(), None, ""


def _stored(
    store: Store, site: str | None, layers: Sequence[int] | None
) -> tuple[States, str, int, str | None, str]:
    if site is None and len(store.sites) > 1:
        raise BadInputError(
            f"The store has {', '.join(store.sites)}; say which: site={store.sites[0]!r}."
        )
    site = store.sites[0] if site is None else site
    kept = [each["layer"] for each in store.manifest["sites"] if each["site"] == site]
    if not kept:
        raise BadInputError(f"The store has no {site!r}; it has {', '.join(store.sites)}.")
    if not len(store):
        raise BadInputError(f"{store!r} has no rows.")
    blocks = [each for each in kept if each is not None]
    for each in layers or ():
        if each not in blocks:
            there = ", ".join(map(str, blocks)) or "no blocks"
            raise BadInputError(f"The store has no {site} of block {each}; it has {there}.")

    def reader(layer: int | None) -> Callable[[], np.ndarray]:
        return lambda: _as_table(site, store.load(site, layer))

    model = str(store.manifest.get("model", ""))
    if not blocks:
        return {site: reader(None)}, "site", len(store), site, model
    chosen = blocks if layers is None else list(layers)
    return {each: reader(each) for each in chosen}, "layer", len(store), site, model


def _as_table(name: Any, values: Any) -> np.ndarray:
    """States as float64 `(rows, numbers)`; what has more axes is laid out flat, as heads are."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadInputError(
            f"States are a tensor (rows, numbers), an analyses.Store, or a dict of tensors by "
            f"block; {name!r} is {type(values).__name__}."
        ) from None
    if array.ndim < 2:
        raise BadInputError(
            f"States need a row for each label, (rows, numbers); those of {name!r} are "
            f"{tuple(array.shape)}."
        )
    return array.reshape(len(array), -1)


# -- labels and groups ------------------------------------------------------------------------


def _column(given: Any, what: str, count: int, table: Any) -> list[Any]:
    """One entry for each row: of a list, a tensor, a pandas column, or by a function of a row."""
    if callable(given):
        if table is None:
            raise BadInputError(
                f"{what} by a function are of the rows of a store; of tensors give a list."
            )
        return [_plain(given(row)) for row in table.itertuples(index=False)]
    if isinstance(given, str):
        if table is None or given not in table.columns:
            there = "" if table is None else f"; its rows have {', '.join(table.columns)}"
            raise BadInputError(
                f"{given!r} is no column of a store{there}.\nGive a list of {what}."
            )
        return [_plain(each) for each in table[given]]
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu().numpy()
    if getattr(given, "ndim", 1) != 1:
        raise BadInputError(f"{what} are one for each row; found {tuple(given.shape)}.")
    try:
        entries = [_plain(each) for each in given]
    except TypeError:
        raise BadInputError(
            f"{what} are a list, a tensor, a column of a pandas frame or a function of a row; "
            f"found {type(given).__name__}."
        ) from None
    if len(entries) == count:
        return entries
    also = ""
    if table is not None:
        texts = int(table["text"].max()) + 1
        if len(entries) == texts:
            return [entries[text] for text in table["text"]]
        also = f" of {texts:,} texts"
    raise BadInputError(
        f"There are {count:,} rows{also} and {len(entries):,} {what}; expected one for each."
    )


def _plain(entry: Any) -> Any:
    """A number of numpy or torch as Python's."""
    return entry.item() if hasattr(entry, "item") and getattr(entry, "ndim", 0) == 0 else entry


def _missing(entry: Any) -> bool:
    return entry is None or (isinstance(entry, float) and entry != entry) or str(entry) == "<NA>"


def _numbered(entries: Sequence[Any]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Each entry's number among the different ones, and these: sorted where they can be."""
    different = list(dict.fromkeys(entries))
    try:
        different.sort()
    except TypeError:  # of several kinds: in the order in which they come
        pass
    number = {each: k for k, each in enumerate(different)}
    return np.array([number[each] for each in entries]), tuple(map(str, different))


def _check_grouping(group: np.ndarray, names: Sequence[str]) -> None:
    if len(names) == len(group):
        raise BadInputError(
            f"Each of the {len(group):,} groups has one row alone, which groups nothing: give what "
            "rows have in common, such as the city that a text is about, or leave groups out."
        )
    if len(names) == 1:
        raise BadInputError(
            f"All rows are of one group, {names[0]!r}; whole groups are held out, so there must be "
            "two of them for each class."
        )


def _check_classes(
    label: np.ndarray, classes: Sequence[str], group: np.ndarray, grouped: bool
) -> None:
    if len(classes) == 1:
        raise BadInputError(
            f"All labels are {classes[0]!r}: with one class there is nothing to tell apart."
        )
    what = "group" if grouped else "row"
    held = Counter(number for number, _ in {*zip(label.tolist(), group.tolist(), strict=True)})
    few = [classes[number] for number in range(len(classes)) if held[number] < 2]
    if few:
        told = ", ".join(map(repr, few[:NAMED])) + (", …" if len(few) > NAMED else "")
        many = (
            f"\n{len(classes):,} classes of {len(label):,} rows: a probe tells classes apart; "
            "of a quantity make some, such as above and below its median."
            if len(few) > NAMED
            else ""
        )
        raise BadInputError(
            f"{told} stand{'s' * (len(few) == 1)} in one {what} alone, so nothing of it could be "
            f"both learned and held out. Each class needs two {what}s.{many}"
        )
