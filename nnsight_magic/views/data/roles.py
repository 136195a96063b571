"""What the axes of a tensor mean, as far as its shape and the model's sizes tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nnsight_magic.errors import BadInputError

TOKENS = (
    "token",
    "position",
    "query",
    "key",
    "from",
    "to",
)  # roles of the axes whose places are tokens
ROWS = ("batch", "prompt")  # roles of the axis that tells whose tokens these are
PADDING = "‹padding›"  # in place of a token where a row of a batch has none


@dataclass(frozen=True)
class Axis:
    """One axis: its role, its size, and the words for its places where there are any.

    In a batch these differ from prompt to prompt: `rows` has those of each, and `along` is the
    axis whose place tells which of them holds.
    """

    role: str
    size: int
    labels: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    along: int = -1


def infer_axes(
    shape: Sequence[int],
    names: Sequence[str] | None = None,
    tokens: Sequence[str] | Sequence[Sequence[str]] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> list[Axis]:
    """The axes of a tensor of `shape`.

    Args:
        names: the roles, where the caller knows them; any word will do.
        tokens: the prompt's tokens, which become the labels of token axes; of a batch a list for
            each of its rows, all of one length.
        sizes: sizes of the model by role, such as `{"head": 9, "feature": 576}`.

    Raises:
        BadInputError: names or tokens that do not fit the shape.

    >>> [axis.role for axis in infer_axes((1, 4, 3, 3), tokens=["a", "b", "c"])]
    ['batch', 'head', 'query', 'key']
    """
    rows = None if tokens is None else rows_of(tokens)
    count = None if rows is None else len(rows[0])
    if names is not None:
        if len(names) != len(shape):
            raise BadInputError(
                f"{len(names)} axis names {tuple(names)} for a tensor of rank {len(shape)} "
                f"{tuple(shape)}"
            )
        roles = list(names)
    else:
        sizes = dict(sizes or {})
        if rows is not None and len(rows) > 1:
            sizes["batch"] = len(rows)
        roles = _guess(shape, count, sizes)
        if count is not None and count in shape and not set(TOKENS) & set(roles):
            roles[len(shape) - 1 - list(shape)[::-1].index(count)] = "token"
    if rows is None:
        return [Axis(role, size) for role, size in zip(roles, shape, strict=True)]
    return _labelled(roles, shape, rows, named=names is not None)


def with_words(axes: Sequence[Axis], words: Mapping[str, Sequence[str]]) -> list[Axis]:
    """The axes with words for the places of some of them, by role.

    Raises:
        BadInputError: there is no such axis, or it has another number of places.

    >>> with_words([Axis("row", 2)], {"row": ["input", "0"]})[0].labels
    ('input', '0')
    """
    for role, given in words.items():
        sizes = [axis.size for axis in axes if axis.role == role]
        if not sizes or any(size != len(given) for size in sizes):
            found = f"of {sizes[0]} places" if sizes else "that is not there"
            raise BadInputError(f"{len(given)} words for an axis {role!r} {found}")
    return [
        replace(axis, labels=tuple(words[axis.role])) if axis.role in words else axis
        for axis in axes
    ]


def rows_of(tokens: Sequence[str] | Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Tokens as a list for each prompt; of prompts that are alike, one."""
    if isinstance(tokens, str):
        raise BadInputError("found a text as tokens; expected a list with the text of each token")
    given = list(tokens)
    texts = [each for each in given if isinstance(each, str)]
    if len(texts) == len(given):
        return [tuple(texts)]
    rows = [() if isinstance(each, str) else _texts(each) for each in given]
    if len({*map(len, rows)}) > 1:
        raise BadInputError(
            f"found lists of {', '.join(str(len(row)) for row in rows[:8])} tokens; the rows of a "
            "batch have one length: put padding where a prompt has no token"
        )
    return rows if len(set(rows)) > 1 else rows[:1]


def _texts(row: Iterable[str]) -> tuple[str, ...]:
    if not isinstance(row, Sequence) or not all(isinstance(each, str) for each in row):
        raise BadInputError(
            f"found {type(row).__name__} among the tokens; expected texts: decode each token, such "
            "as [tokenizer.decode([i]) for i in ids]"
        )
    return tuple(row)


def _labelled(
    roles: Sequence[str], shape: Sequence[int], rows: Sequence[tuple[str, ...]], named: bool
) -> list[Axis]:
    """The axes, those of tokens with their words; refused where no axis can have them."""
    count = len(rows[0])
    places = [k for k, role in enumerate(roles) if role in TOKENS and shape[k] == count]
    if not places:
        raise BadInputError(
            f"the tokens do not fit: found {count} for a tensor of shape {tuple(shape)}, expected "
            f"{_expected(roles, shape, named)}; give the tokens of these places alone, or "
            "leave out tokens="
        )
    along = -1
    if len(rows) > 1:
        batch = [k for k, role in enumerate(roles) if role in ROWS and shape[k] == len(rows)]
        if not batch:
            raise BadInputError(
                f"the tokens do not fit: found those of {len(rows)} prompts for a tensor of shape "
                f"{tuple(shape)}, expected an axis of {len(rows)} that is the batch; give the "
                'tokens of one prompt, or say which axis is what: axes=("batch", "token", …)'
            )
        along = batch[0]
    return [
        Axis(role, size)
        if k not in places
        else Axis(role, size, rows[0], tuple(rows) if along >= 0 else (), along)
        for k, (role, size) in enumerate(zip(roles, shape, strict=True))
    ]


def _expected(roles: Sequence[str], shape: Sequence[int], named: bool) -> str:
    """What tokens, or axes, would fit."""
    if not named:
        sizes = [str(size) for size in shape if size != 1] or ["1"]
        return f"as many as an axis has places, {' or '.join(dict.fromkeys(sizes))}"
    found = [f"{shape[k]} for the axis {role}" for k, role in enumerate(roles) if role in TOKENS]
    return " or ".join(found) or f"an axis among {tuple(roles)} that is called token, query or key"


def _guess(shape: Sequence[int], tokens: int | None, sizes: Mapping[str, int]) -> list[str]:
    roles = ["axis"] * len(shape)
    rank = len(shape)
    if rank == 2 and tokens and tuple(shape) == (tokens, tokens):
        return ["query", "key"]  # one head's pattern
    attention = rank >= 3 and shape[-1] == shape[-2] and tokens in (None, shape[-1])
    if attention and shape[-1] > 1 and shape[-1] != sizes.get("feature"):
        roles[-2:] = ["query", "key"]
        roles[-3] = "head" if sizes.get("head") in (None, shape[-3]) else "axis"
        if rank == 4:
            roles[0] = "batch"
        return _with_batch(roles, shape, sizes)
    if rank and shape[-1] == sizes.get("vocabulary"):
        roles[-1] = "vocabulary"
    elif rank and (shape[-1] == sizes.get("feature") or (rank == 3 and not _model(sizes))):
        roles[-1] = "feature"
    elif tokens and rank and shape[-1] == tokens:
        roles[-1] = "token"
    for axis in range(rank - 2, -1, -1):
        if tokens and shape[axis] == tokens and "token" not in roles[axis:]:
            roles[axis] = "token"
        elif shape[axis] == sizes.get("head") and "head" not in roles:
            roles[axis] = "head"
    if rank == 3 and roles[-1] in ("feature", "vocabulary"):
        roles[0] = "batch" if roles[0] == "axis" else roles[0]
        roles[1] = "token" if roles[1] == "axis" and tokens is None else roles[1]
    return _with_batch(roles, shape, sizes)


def _model(sizes: Mapping[str, int]) -> bool:
    """Whether anything is known of the model."""
    return any(role != "batch" for role in sizes)


def _with_batch(roles: list[str], shape: Sequence[int], sizes: Mapping[str, int]) -> list[str]:
    """The first axis is the batch where it has as many places as there are prompts."""
    if "batch" not in roles and roles and shape[0] == sizes.get("batch") and len(roles) > 1:
        roles[0] = "batch"
    return roles


def drawn_axes(axes: Sequence[Axis]) -> tuple[int, int]:
    """The axis drawn down and the one drawn across: the last two that have a length; -1 for none.

    A vector lies across.
    """
    long = [k for k, axis in enumerate(axes) if axis.size != 1]
    short = [k for k, axis in enumerate(axes) if axis.size == 1]
    if len(long) >= 2:
        return long[-2], long[-1]
    if len(long) == 1:
        before = [k for k in short if k < long[0]]
        return (before[-1] if before else -1), long[0]
    return (short[-2] if len(short) > 1 else -1), (short[-1] if short else -1)
