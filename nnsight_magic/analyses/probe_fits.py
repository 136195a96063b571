"""Fitting probes: folds of whole groups, each predicted by what was learned from the others.

scikit-learn does the work; it is an extra, and imported with the first probe.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from nnsight_magic.analyses.probe_rows import Rows
from nnsight_magic.errors import BadInputError

Method = Literal["logistic", "means"]
METHODS = ("logistic", "means")
ITERATIONS = 1000
Fold = tuple[np.ndarray, np.ndarray]  # the rows that are learned from, and those that are held out


def need_sklearn() -> None:
    """Refuses where scikit-learn is not installed.

    Raises:
        BadInputError: it is not.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise BadInputError('Probes need scikit-learn: pip install "nnsight_magic[analyses]".')


def folds_of(label: np.ndarray, group: np.ndarray, count: int, seed: int) -> list[Fold]:
    """Folds of whole groups with about as many rows of each class in each.

    Each class is in what each fold learns from.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    most = min(len(np.unique(group[label == each])) for each in np.unique(label))
    count = min(count, most)
    split = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer rows than folds
        found = [(train, held) for train, held in split.split(label[:, None], label, group)]
    if all(_teaches(label, train) and len(held) for train, held in found):
        return found
    return _one_of_each(label, group, count, seed)


def _teaches(label: np.ndarray, train: np.ndarray) -> bool:
    return len(np.unique(label[train])) == len(np.unique(label))


def _one_of_each(label: np.ndarray, group: np.ndarray, count: int, seed: int) -> list[Fold]:
    """Folds for few groups: those of each class are dealt out in turn, so none has all of one."""
    chance, fold = np.random.default_rng(seed), {}
    first = {each: label[group == each][0] for each in np.unique(group)}
    turn = 0
    for number in np.unique(label):
        own = [each for each in first if first[each] == number]
        for each in chance.permutation(own) if own else ():
            fold[int(each)] = turn % count
            turn += 1
    places = np.array([fold[int(each)] for each in group])
    found = [(np.flatnonzero(places != k), np.flatnonzero(places == k)) for k in range(count)]
    for train, _ in found:
        if not _teaches(label, train):
            raise BadInputError(
                "These groups cannot be dealt out so that each class is learned from while some of "
                "its groups are held out. Give more groups, or fewer classes."
            )
    return found


class Means:
    """The nearest class mean: for two classes the difference of means, cut half way between.

    Its scores are those of Gaussians of equal round covariance, `mean·x - |mean|²/2`.
    """

    def fit(self, x: np.ndarray, label: np.ndarray) -> Means:
        self.classes_ = np.unique(label)
        self.means = np.stack([x[label == each].mean(0) for each in self.classes_])
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        scores = x @ self.means.T - (self.means**2).sum(1) / 2
        shares = np.exp(scores - scores.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True)


def learned(method: Method, strength: float, x: np.ndarray, label: np.ndarray) -> tuple[Any, bool]:
    """A probe of standardised states, and whether its fit came to an end."""
    if method == "means":
        return Means().fit(x, label), True
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = LogisticRegression(C=strength, max_iter=ITERATIONS).fit(x, label)
    return found, not any(issubclass(each.category, ConvergenceWarning) for each in caught)


@dataclass
class Held:
    """What was predicted of rows while they were held out.

    Attributes:
        right: of each row whether its class was the likeliest.
        areas: of each fold in which both were held out, the area under the ROC curve.
        unfinished: how many fits did not converge.
    """

    right: np.ndarray
    areas: list[float] = field(default_factory=list)
    unfinished: int = 0

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def auc(self) -> float:
        return float(np.mean(self.areas)) if self.areas else float("nan")


def held_out(
    x: np.ndarray,
    label: np.ndarray,
    folds: list[Fold],
    method: Method,
    strength: float,
    *,
    areas: bool = True,
) -> Held:
    """Predicts each fold by what was learned from the others, standardised by these alone.

    Args:
        x: states `(rows, numbers)`.
        label: numbers of classes `(rows,)`.
        strength: scikit-learn's `C`.
        areas: whether those under the ROC curve are wanted.
    """
    from sklearn.preprocessing import StandardScaler

    found = Held(np.zeros(len(label), dtype=bool))
    for train, held in folds:
        scale = StandardScaler().fit(x[train])
        taught = np.asarray(scale.transform(x[train]))
        probe, ended = learned(method, strength, taught, label[train])
        shares = probe.predict_proba(scale.transform(x[held]))
        found.right[held] = probe.classes_[shares.argmax(1)] == label[held]
        found.areas += area(shares, label[held], probe.classes_) if areas else []
        found.unfinished += not ended
    return found


def area(shares: np.ndarray, label: np.ndarray, classes: np.ndarray) -> list[float]:
    """The area under the ROC curve of one fold: of several classes the mean over each against all
    others; nothing where one of them is not among the rows."""
    from sklearn.metrics import roc_auc_score

    if len(np.unique(label)) < len(classes):
        return []
    if len(classes) == 2:
        return [float(roc_auc_score(label == classes[1], shares[:, 1]))]
    return [float(roc_auc_score(label, shares, multi_class="ovr", labels=classes))]


# -- controls ---------------------------------------------------------------------------------


def shuffled(rows: Rows, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Labels that say nothing of the rows, with as many groups of each class as there are now.

    Where all rows of a group have one label, the labels are dealt out anew among the groups
    (a control task, Hewitt & Liang 2019, arXiv:1909.03368): a probe that knows a group by its
    features, and nothing of the class, learns these as well. Where each group has several, they
    are shuffled within each. Else each group gets one of its own, of each class as many as its
    share of the rows.

    Raises:
        BadInputError: in the last case there are too few groups.
    """
    chance = np.random.default_rng(seed)
    if within_groups(rows):
        members = [np.flatnonzero(rows.group == each) for each in range(rows.group_count)]
        for _ in range(draws):
            label = rows.label.copy()
            for own in members:
                label[own] = chance.permutation(label[own])
            yield label
        return
    dealt = _one_for_each_group(rows)
    for _ in range(draws):
        yield chance.permutation(dealt)[rows.group]


def _one_for_each_group(rows: Rows) -> np.ndarray:
    """As many labels as there are groups."""
    count = rows.group_count
    pairs = {*zip(rows.group.tolist(), rows.label.tolist(), strict=True)}
    if len(pairs) == count:
        return np.array([label for _, label in sorted(pairs)])
    shares = np.bincount(rows.label) / len(rows.label)
    ends = np.round(shares.cumsum() * count).astype(int)
    dealt = np.diff(ends, prepend=0)
    if dealt.min() < 2:
        raise BadInputError(
            f"Some groups have rows of one class and some of several, and {count} groups are too "
            f"few to deal {len(shares)} classes out among them for the control, two for each. Give "
            "more groups, or draws=0 for no control."
        )
    return np.repeat(np.arange(len(shares)), dealt)


def within_groups(rows: Rows) -> bool:
    """Whether every group has rows of several classes."""
    return all(
        len(np.unique(rows.label[rows.group == each])) > 1 for each in range(rows.group_count)
    )


def interval(share: float, group: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a share of rows, which counts groups.

    Wilson's (1927), with as many trials as there are groups; of groups of unequal size as many as
    Kish's (1965) effective number, `(Σ n)² / Σ n²`. Rows of one group are taken to be right or
    wrong together, so it is never too narrow for what they have in common.

    >>> low, high = interval(1.0, np.arange(20))
    >>> round(low, 3), round(high, 3)
    (0.839, 1.0)
    """
    sizes = np.bincount(group).astype(float)
    count, z = sizes.sum() ** 2 / (sizes**2).sum(), 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count**2))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))
