"""Tokens as text: how they are shown, `layers[3].output[:, "Tower"]`, `logits[0, -1, " Paris"]`."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nnsight_magic.engine.running.text_config import text_config
from nnsight_magic.errors import TokenTextError
from nnsight_magic.near import did_you_mean, listing


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Each token's own text, its leading space included; `<id>` without a tokenizer.

    A token that holds a part of a character only has that part's bytes as Python escapes them:
    `\\xe4\\xbd` and `\\xa0` are one Chinese character.
    """
    ids = [int(each) for each in ids]
    if tokenizer is None or not ids:
        return [f"<{each}>" for each in ids]
    texts = tokenizer.batch_decode([[each] for each in ids], clean_up_tokenization_spaces=False)
    pieces = tokenizer.convert_ids_to_tokens(ids)
    return [_own_text(text, str(piece)) for text, piece in zip(texts, pieces, strict=True)]


@dataclass(frozen=True)
class Spelled:
    """Gives the text of a token id."""

    tokenizer: Any

    def __call__(self, token: int) -> str:
        """Raises `LookupError` where the tokenizer has no such token: logits may be longer than
        its vocabulary."""
        if not 0 <= token < len(self.tokenizer):
            raise LookupError(token)
        return token_texts(self.tokenizer, [token])[0]


# How byte-level tokenizers write bytes (Radford et al. 2019, GPT-2): those that are printable
# characters of Latin-1 as they are, the others as the characters from U+0100 on, in order.
_AS_THEY_ARE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_BYTES = {chr(byte): byte for byte in _AS_THEY_ARE} | {
    chr(0x100 + k): byte for k, byte in enumerate(sorted({*range(0x100)} - _AS_THEY_ARE))
}
_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")  # a byte for which Sentencepiece has no other token


def _own_text(text: str, piece: str) -> str:
    """A token's text from what it is decoded to alone, and its name in the vocabulary."""
    if piece.startswith("▁") and not text.startswith(" "):
        return f" {text}"  # Sentencepiece tokenizers drop the space of a token decoded alone
    if "\ufffd" not in text:
        return text
    if fallback := _FALLBACK.fullmatch(piece):
        raw = bytes.fromhex(fallback[1])
    elif all(character in _BYTES for character in piece):
        raw = bytes(_BYTES[character] for character in piece)
    else:
        return text
    return raw.decode("utf-8", "backslashreplace")


def joined(tokens: Iterable[str]) -> str:
    """The text that tokens make up, characters of several tokens whole again."""
    return b"".join(map(_raw, tokens)).decode("utf-8", "replace")


def _raw(token: str) -> bytes:
    """The bytes of a token's text."""
    escaped = token.encode("utf-8", "surrogatepass")
    return re.sub(rb"\\x([89a-f][0-9a-f])", lambda byte: bytes.fromhex(byte[1].decode()), escaped)


@dataclass(frozen=True)
class PromptRow:
    """One prompt's row of a batch.

    `tokens[k]` is in column `start + k` of the padded batch of `width` columns.
    """

    index: int
    start: int
    width: int
    tokens: tuple[str, ...]
    name: str | None = None

    @property
    def stop(self) -> int:
        return self.start + len(self.tokens)


def position(text: str, row: PromptRow) -> int:
    """The position of the token that reads `text`, leading and trailing spaces aside.

    Raises `TokenTextError` where no token does, or several do.
    """
    found = [k for k, token in enumerate(row.tokens) if token == text]
    found = found or [k for k, token in enumerate(row.tokens) if token.strip() == text.strip()]
    prompt = f"prompt {row.name!r}" if row.name else "the prompt"
    if len(found) == 1:
        return found[0]
    if found:
        raise TokenTextError(
            f"{text!r} is at several positions of {prompt}: {listing(map(str, found))}.\n"
            f"Give the position you mean, such as [:, {found[0]}]."
        )
    span = _spread(text, row.tokens)
    if span is not None:
        first, last = span
        pieces = ", ".join(f"{row.tokens[k]!r} at {k}" for k in range(first, last))
        raise TokenTextError(
            f"{text!r} is {last - first} tokens of {prompt}: {pieces}.\n"
            f"Give one of them, or the slice [:, {first}:{last}]."
        )
    near = did_you_mean(text.strip(), [token.strip() for token in row.tokens])
    tokens = listing([repr(token) for token in row.tokens], 12)
    raise TokenTextError(
        f"{text!r} is no token of {prompt}{f'; {near}' if near else '.'}\nIts tokens: {tokens}."
    )


def _spread(text: str, tokens: Sequence[str]) -> tuple[int, int] | None:
    """The range of tokens that `text` is spread over, if the prompt has it at all."""
    wanted, pieces = _raw(text.strip()), [_raw(token) for token in tokens]
    begin = b"".join(pieces).find(wanted)
    if begin < 0 or not wanted:
        return None
    end = begin + len(wanted)
    passed, first, last = 0, 0, 0
    for k, piece in enumerate(pieces):
        if passed <= begin:
            first = k
        if passed < end:
            last = k + 1
        passed += len(piece)
    return first, last


def vocabulary_size(model: Any) -> int | None:
    """The length of the logits' last axis, where the configuration tells it."""
    return getattr(text_config(model), "vocab_size", None)


def token_id(text: str, tokenizer: Any) -> int:
    """The token of the vocabulary that reads `text`, or if there is none, the one with a space
    before it.

    Raises `TokenTextError` where the tokenizer makes several tokens of it.
    """
    if not text:
        raise TokenTextError("An empty text is no token.\nGive a token's text or its number.")
    for spelled in (text, f" {text}"):
        ids = tokenizer.encode(spelled, add_special_tokens=False)
        if len(ids) == 1:
            return ids[0]
    pieces = token_texts(tokenizer, tokenizer.encode(text, add_special_tokens=False))
    raise TokenTextError(
        f"{text!r} is no single token of the vocabulary, but {len(pieces)}: "
        f"{listing(map(repr, pieces))}.\n"
        f"Give one of them, such as [..., {pieces[0]!r}], or the number of a token."
    )


def has_text(index: Any) -> bool:
    """Whether an index addresses something by its text."""
    if isinstance(index, tuple):
        return any(map(has_text, index))
    if isinstance(index, slice):
        return isinstance(index.start, str) or isinstance(index.stop, str)
    if isinstance(index, list):
        return any(isinstance(each, str) for each in index)
    return isinstance(index, str)


@dataclass(frozen=True)
class Texts:
    """Gives the numbers of tokens that an index addresses by their texts.

    Attributes:
        rows: the prompts' rows of the batch.
        model: whose vocabulary may be addressed too; `None` for none.
    """

    rows: Sequence[PromptRow]
    model: Any = None

    def numbers(self, index: Any, tensor: Any) -> Any:
        """An index of `tensor` with each text replaced by a position, or by a token's id.

        Raises:
            TokenTextError: a text is no token of the prompt, or is not to be found on its axis.
        """
        if not isinstance(index, tuple):
            return self._element(index, 0, tensor)
        resolved, axis = [], 0
        for place, element in enumerate(index):
            if element is Ellipsis:
                taken = sum(each is not None and each is not Ellipsis for each in index[place:])
                axis = tensor.ndim - taken
            resolved.append(self._element(element, axis, tensor))
            axis += element is not None and element is not Ellipsis
        return tuple(resolved)

    def _element(self, element: Any, axis: int, tensor: Any) -> Any:
        if isinstance(element, str):
            return self._column(element, axis, tensor)
        if isinstance(element, slice):
            start, stop = element.start, element.stop
            if isinstance(start, str):
                start = self._column(start, axis, tensor)
            if isinstance(stop, str):
                stop = self._column(stop, axis, tensor)
            return slice(start, stop, element.step)
        if isinstance(element, list):
            return [self._column(e, axis, tensor) if isinstance(e, str) else e for e in element]
        return element

    def _column(self, text: str, axis: int, tensor: Any) -> int:
        """The column of `text` in this tensor, the same in each of its rows."""
        size = tensor.shape[axis] if axis < tensor.ndim else 0
        if size and size == vocabulary_size(self.model) and self.model.tokenizer is not None:
            return token_id(text, self.model.tokenizer)
        columns = {}
        for row in self.rows:
            if size == row.width:
                columns[row.start + position(text, row)] = row
            elif size == len(row.tokens):
                columns[position(text, row)] = row
            else:
                raise TokenTextError(
                    f"axis {axis} has {size} positions, the prompt has {len(row.tokens)} tokens, "
                    f"so {text!r} cannot be looked up there.\nIndex it by number, or give the text "
                    "on the axis of the tokens or of the vocabulary: (batch, tokens, …)[:, text]."
                )
        if len(columns) > 1:
            places = ", ".join(f"{c} in prompt {r.name or r.index}" for c, r in columns.items())
            raise TokenTextError(
                f"{text!r} is at different positions of the batch: {places}.\n"
                "Name the prompts and address one of them: clean.layers[3].output[:, "
                f"{text!r}]."
            )
        return next(iter(columns))


class TextsOfRun:
    """The same of a run, whose tokens are decoded when the first text is looked up.

    It does not keep the model alive: values outlive it.
    """

    def __init__(self, tracer: Any):
        self._ids, self._mask = tracer.input_ids, tracer.attention_mask
        self._model = weakref.ref(tracer.model)
        self._rows: tuple[PromptRow, ...] | None = None

    def numbers(self, index: Any, tensor: Any) -> Any:
        """See `Texts.numbers`; an index without a text is given back.

        Raises:
            TokenTextError: a text is no token of the prompt, or nothing is known of tokens.
        """
        if not has_text(index):
            return index
        if self._rows is None:
            self._rows = self._decoded()
        return Texts(self._rows, self._model()).numbers(index, tensor)

    def _decoded(self) -> tuple[PromptRow, ...]:
        tokenizer = getattr(self._model(), "tokenizer", None)
        if self._ids is None or tokenizer is None:
            raise TokenTextError(
                "Tokens cannot be addressed by their text here: this model was given no tokenizer, "
                "or runs on no tokens.\nGive positions by number, or a tokenizer: "
                "LanguageModel(module, tokenizer)."
            )
        return rows_of(self._ids, self._mask, tokenizer)


def prompt_rows(tracer: Any, names: tuple[str, ...] = ()) -> tuple[PromptRow, ...]:
    """The rows of a trace's batch, each with its own tokens, padding left out."""
    ids, tokenizer = tracer.input_ids, getattr(tracer.model, "tokenizer", None)
    return () if ids is None else rows_of(ids, tracer.attention_mask, tokenizer, names)


def rows_of(
    ids: Any, mask: Any, tokenizer: Any, names: tuple[str, ...] = ()
) -> tuple[PromptRow, ...]:
    """The rows of a batch of token ids `(batch, tokens)`, with a mask of the same shape if any."""
    rows = []
    for index, row_ids in enumerate(ids.tolist()):
        start, stop = 0, len(row_ids)
        if mask is not None and mask.shape == ids.shape:
            columns = mask[index].nonzero()
            start, stop = int(columns[0]), int(columns[-1]) + 1
        texts = token_texts(tokenizer, row_ids[start:stop])
        name = names[index] if index < len(names) else None
        rows.append(PromptRow(index, start, len(row_ids), tuple(texts), name))
    return tuple(rows)
