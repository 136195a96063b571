"""Words for the places of a tensor's axes: tokens of the prompt that is looked at, and texts of a
vocabulary, which are asked for one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.roles import Axis

STORED = 512  # words of prompts that differ, which are stored with a view
Vocabulary = Callable[[int], str] | Sequence[str]


class Labels:
    """The words of one tensor's axes.

    `vocabulary` gives the text of a token id: a function, such as a tokenizer's `decode`, or the
    texts in their order.
    """

    def __init__(self, axes: Sequence[Axis], vocabulary: Vocabulary | None = None) -> None:
        self.axes = tuple(axes)
        self.vocabulary = vocabulary
        if vocabulary is not None:
            _check(self.axes, vocabulary)

    def traits(self, whole: bool = False) -> list[dict[str, Any]]:
        """The axes as a view's trait has them; with `whole`, with the words of every prompt."""
        words = sum(len(row) for axis in self.axes for row in axis.rows)
        keep = whole or words <= STORED
        return [asdict(axis if keep else _first(axis)) for axis in self.axes]

    def of(self, axis: int, drawn: Sequence[int], index: Sequence[int]) -> list[str] | None:
        """The words along an axis of tokens that differ from prompt to prompt; none where several
        prompts are drawn at once. `None` for any other axis."""
        rows, along = self.axes[axis].rows, self.axes[axis].along
        if not rows:
            return None
        return [] if along in drawn else list(rows[index[along]])

    def at(self, axes: Sequence[Mapping[str, Any]], path: Sequence[int]) -> list[str | None]:
        """The word for the place that `path` has on each of `axes`, as a view has them now."""
        found = []
        for k, (axis, place) in enumerate(zip(axes, path, strict=True)):
            rows = self.axes[k].rows
            words = rows[path[self.axes[k].along]] if rows else axis["labels"]
            if axis["role"] == "vocabulary" and self.vocabulary is not None:
                found.append(self.spelled(place))
            else:
                found.append(words[place] if place < len(words) else None)
        return found

    def spelled(self, token: int) -> str | None:
        """The text of a token id, where there is one."""
        if self.vocabulary is None:
            return None
        try:
            text = self.vocabulary(token) if callable(self.vocabulary) else self.vocabulary[token]
        except Exception:  # of the user's function: models have more places than tokens
            return None
        return text if isinstance(text, str) else None

    def spelled_all(self) -> list[str | None]:
        """The texts of the whole vocabulary."""
        size = next(axis.size for axis in self.axes if axis.role == "vocabulary")
        return [self.spelled(token) for token in range(size)]


def _check(axes: Sequence[Axis], vocabulary: Vocabulary) -> None:
    """Raises where no axis can be that of the vocabulary."""
    sizes = [axis.size for axis in axes if axis.role == "vocabulary"]
    shape = tuple(axis.size for axis in axes)
    if not callable(vocabulary) and len(vocabulary) not in sizes:
        raise BadInputError(
            f"the vocabulary does not fit: found {len(vocabulary)} texts for a tensor of shape "
            f"{shape}, expected as many as an axis called vocabulary has; or give a function, such "
            "as vocabulary=tokenizer.decode"
        )
    if not sizes:
        raise BadInputError(
            f"found a vocabulary for a tensor of shape {shape}, expected an axis that is known for "
            "it: say its size, such as sizes={'vocabulary': 49152}, or the axes: "
            "axes=(…, 'vocabulary')"
        )


def _first(axis: Axis) -> Axis:
    return Axis(axis.role, axis.size, axis.labels)
