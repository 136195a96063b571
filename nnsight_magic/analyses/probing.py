"""Probes: can a property of the text be read off its activations, and would nonsense be as well?

A linear classifier learns the property from some rows and is asked about others (Alain & Bengio
2016, arXiv:1610.01644). What it finds is worth as much as its controls:

- Whole *groups* are held out: rows that share a city, a noun, a template never stand on both sides,
  or the probe answers by knowing the city.
- A *control* learns labels that were dealt out at random among the groups (Hewitt & Liang 2019,
  arXiv:1909.03368), many times over: its spread says what comes of nothing.
- The best of many blocks is a maximum over tries, so it is read against the control's own best.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from nnsight_magic.analyses.probe_fits import (
    METHODS,
    Fold,
    Held,
    Method,
    folds_of,
    held_out,
    interval,
    need_sklearn,
    shuffled,
    within_groups,
)
from nnsight_magic.analyses.probe_rows import Rows, rows_of
from nnsight_magic.analyses.probe_shown import Probe
from nnsight_magic.analyses.probe_weights import Weights, weights_of
from nnsight_magic.analyses.result import Along, Result, with_axes
from nnsight_magic.errors import BadInputError
from nnsight_magic.progress import progress_bar

FEW = 10  # groups below which nothing is said to follow
DRAWS = 20  # of the control


def probe(
    source: Any,
    labels: Any,
    *,
    groups: Any = None,
    site: str | None = None,
    layers: Sequence[int] | None = None,
    method: str = "logistic",
    folds: int = 5,
    draws: int = DRAWS,
    strength: float = 1.0,
    seed: int = 0,
    progress: bool = True,
) -> Probe:
    """How well a property is read off the states of each block, beside what chance gives.

    Args:
        source: an `analyses.Store`; or states `(rows, numbers)`, or a dict of such by block. What
            has more axes, as heads do, is laid out flat.
        labels: the class of each row: a list, a tensor, a pandas column; one for each row of the
            store, or for each of its texts; or a function of a row of `store.rows`
            (`lambda row: row.token.istitle()`), or the name of a column of that table. Rows of
            `None` are left out.
        groups: what each row belongs to, given in the same ways. Whole groups are held out. By
            default each row is a group of its own.
        site: of the store, where it has several.
        layers: the blocks; by default all that there are.
        method: `"logistic"`, logistic regression with an L2 penalty, or `"means"`, the nearest
            class mean, which for two classes is the difference of means.
        folds: into how many parts the groups are dealt; each is held out once. Fewer where a class
            has fewer groups.
        draws: of the control.
        strength: scikit-learn's `C`: the smaller, the more the penalty counts.
        seed: where the random numbers begin that deal groups into folds and labels out.
        progress: show a bar if it takes longer than a second.

    Returns:
        Accuracy and area under the ROC curve of held-out rows by block, with intervals that count
        groups, the control's accuracies, and the directions that were found.

    Raises:
        BadInputError: rows, labels and groups do not fit, a class cannot be both learned and held
            out, states are NaN, or scikit-learn is not installed.

    >>> import torch
    >>> chance = torch.Generator().manual_seed(0)
    >>> city = [k // 2 for k in range(80)]
    >>> country = ["France" if each % 2 else "Japan" for each in city]
    >>> noise = torch.randn(80, 8, generator=chance)
    >>> told = noise + 3 * torch.tensor([each == "France" for each in country])[:, None]
    >>> found = probe({3: noise, 4: told}, country, groups=city, progress=False)
    >>> found.best, float(found.accuracy.sel(layer=4)) > 0.95
    (4, True)
    """
    need_sklearn()
    if method not in METHODS:
        raise BadInputError(f"There is no method {method!r}; there are {', '.join(METHODS)}.")
    if folds < 2 or draws < 0 or strength <= 0:
        raise BadInputError(
            f"folds={folds}, draws={draws}, strength={strength}: expected at least 2 folds, no "
            "fewer than 0 draws and a strength above 0."
        )
    how = cast(Method, method)
    rows = rows_of(source, labels, groups, site=site, layers=layers)
    parts = folds_of(rows.label, rows.group, folds, seed)
    controls = [
        (label, folds_of(label, rows.group, folds, seed + 1 + k))
        for k, label in enumerate(shuffled(rows, draws, seed))
    ]
    places = list(rows.states)
    held: list[Held] = []
    control = np.zeros((draws, len(places)))
    weights: dict[Any, Weights] = {}
    total = len(places) * (draws + 1)
    with progress_bar(total=total, unit=" probes", delay=1, disable=not progress) as bar:
        for at, place in enumerate(places):
            states = rows.values(place)
            held.append(held_out(states, rows.label, parts, how, strength))
            weights[place] = weights_of(states, rows.label, how, strength)
            bar.update()
            for k, (label, own) in enumerate(controls):
                drawn = held_out(states, label, own, how, strength, areas=False)
                control[k, at] = drawn.accuracy
                bar.update()
    return _found(rows, parts, places, held, control, weights, how)


def _found(
    rows: Rows,
    parts: list[Fold],
    places: list[Any],
    held: list[Held],
    control: np.ndarray,
    weights: dict[Any, Weights],
    method: Method,
) -> Probe:
    along = Along(rows.axis, places)
    counts = np.bincount(rows.label, minlength=len(rows.classes))
    attrs = {
        "model": rows.model,
        "site": rows.site,
        "method": method,
        "classes": list(rows.classes),
        "rows": len(rows.label),
        "groups": rows.group_count,
        "folds": len(parts),
        "majority": float(counts.max() / counts.sum()),
    }

    def of(values: Any, name: str, axes: Sequence[Along] = (along,)) -> Result:
        return with_axes(np.asarray(values, dtype=np.float64), axes, name, attrs)

    ends = np.array([interval(each.accuracy, rows.group) for each in held])
    draws = Along("draw", range(len(control)))
    return Probe(
        accuracy=of([each.accuracy for each in held], "accuracy"),
        auc=of([each.auc for each in held], "auc"),
        low=of(ends[:, 0], "low"),
        high=of(ends[:, 1], "high"),
        control=of(control, "control", (draws, along)),
        majority=attrs["majority"],
        classes=rows.classes,
        weights=weights,
        notices=_notices(rows, held, method),
    )


def _notices(rows: Rows, held: Sequence[Held], method: str) -> tuple[str, ...]:
    """What the reader should know."""
    found = []
    count, what = rows.group_count, "groups" if rows.grouped else "rows"
    if count < FEW:
        found.append(
            f"only {count} {what} are held out, below {FEW}: nothing follows from these numbers, "
            "whatever they are"
        )
    if not rows.grouped:
        found.append(
            "rows were split without groups: where rows have more in common than their class, the "
            "probe may know them by that"
        )
    elif within_groups(rows):
        found.append("each group has several classes; the control shuffles labels within it")
    unfinished = sum(each.unfinished for each in held)
    if unfinished:
        found.append(f"{unfinished} fits did not converge; a smaller strength does")
    if any(not each.areas for each in held):
        found.append("no fold has rows of all classes held out, so there is no AUC")
    if len(rows.classes) > 2:
        found.append("AUC is the mean over each class against all others")
    return tuple(found)
