"""What an analysis measures: how well an answer does, as one number for each place.

An answer alone is measured by its log-probability in nats. Beside another answer, by the difference
of their logits: a softmax cancels in it, so that nothing else than these two counts. A softcap does
not cancel; the model's own final logits are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.errors import BadInputError, TokenTextError
from nnsight_magic.language.tokens import token_texts
from nnsight_magic.near import listing

KINDS = ("log-probability", "probability", "logit difference", "function")
Answer = str | int | Sequence[int]
Measured = Callable[[torch.Tensor], Any]


@dataclass(frozen=True)
class Metric:
    """One number for each place, from the logits there.

    Attributes:
        kind: one of `KINDS`.
        words: what it is, for titles: `log-probability of ' Paris'`.
        answer: token ids of the answer, none for a function.
        versus: token ids of the answer that it is measured against.
        function: what is called with the logits instead, `(…, tokens, vocabulary)` to `(…)`.

    >>> metric = Metric("logit difference", "3 against 5", (3,), (5,))
    >>> metric(torch.arange(8.0).expand(2, 4, 8))
    tensor([-2., -2.])
    """

    kind: str
    words: str
    answer: tuple[int, ...] = ()
    versus: tuple[int, ...] = ()
    function: Measured | None = None

    @property
    def forced(self) -> tuple[int, ...]:
        """Ids to put behind the prompt: all of the answer but its last token, which is predicted.

        What the model gives for a longer answer is measured as if it had said the tokens before:
        teacher forcing.
        """
        return self.answer[:-1]

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """The metric at the end of each text.

        Args:
            logits: `(…, tokens, vocabulary)`, of the prompt with `forced` behind it.

        Returns:
            `(…)`, float32; of an answer of several tokens the sum of their log-probabilities.

        Raises:
            BadInputError: a function gave something else than one number for each text.
        """
        if self.function is not None:
            return self._of_function(logits)
        last = logits[..., -len(self.answer) :, :].float()
        if self.kind == "logit difference":
            (one,), (other,) = self.answer, self.versus
            return last[..., -1, one] - last[..., -1, other]
        at = torch.tensor(self.answer, device=last.device)
        at = at.expand(last.shape[:-1])[..., None]
        found = last.log_softmax(-1).gather(-1, at)[..., 0].sum(-1)
        return found.exp() if self.kind == "probability" else found

    def _of_function(self, logits: torch.Tensor) -> torch.Tensor:
        assert self.function is not None
        found = torch.as_tensor(self.function(logits))
        if found.shape != logits.shape[:-2]:
            raise BadInputError(
                f"The metric gave a value of shape {tuple(found.shape)} for logits of shape "
                f"{tuple(logits.shape)}; expected {tuple(logits.shape[:-2])}, one number for each "
                "text.\nSay which position it is about, such as logits[..., -1, 504]."
            )
        return found.float()


def metric_of(
    model: Any,
    answer: Answer | Measured | None = None,
    versus: Answer | None = None,
    *,
    probability: bool = False,
) -> Metric:
    """The metric that these answers make.

    Args:
        model: a `LanguageModel`; its tokenizer reads answers that are texts.
        answer: a text, a token's id, several ids, or any function of the logits
            `(…, tokens, vocabulary)` that gives one number for each text.
        versus: the answer to measure it against.
        probability: measure the probability, where there is one answer.

    Raises:
        BadInputError: these do not make a metric.
        TokenTextError: an answer is no token, or several where one is meant.
    """
    if answer is None:
        raise BadInputError('There is no answer to measure; give one: answer=" Paris".')
    if callable(answer):
        if versus is not None:
            raise BadInputError(
                "A function measures by itself; leave out versus, or give both answers as tokens."
            )
        return Metric("function", getattr(answer, "__name__", "function"), function=answer)
    ids, words = answer_ids(model, answer), answer_words(model, answer)
    if versus is None:
        kind = "probability" if probability else "log-probability"
        return Metric(kind, f"{kind} of {words}", ids)
    if probability:
        raise BadInputError(
            "Two answers are measured by the difference of their logits, one by its probability; "
            "leave out one of them."
        )
    one, other = (one_token(model, each, "a difference of logits") for each in (answer, versus))
    if one == other:
        raise BadInputError(f"Both answers are the token {words}; their difference is always 0.")
    words = f"logit difference {words} - {answer_words(model, versus)}"
    return Metric("logit difference", words, (one,), (other,))


def answer_ids(model: Any, answer: Answer) -> tuple[int, ...]:
    """The token ids of an answer, one or several.

    A text is read as it stands, its blank included: `" Paris"` behind a word, `"Paris"` at the
    beginning of a line. Where no token reads just so, the one with a blank before it is meant, as
    everywhere in a cell.

    Raises:
        TokenTextError: the text is empty, or the id is none of the vocabulary.
        BadInputError: a text, and the model has no tokenizer.
    """
    if isinstance(answer, str):
        return _ids_of_text(model, answer)
    ids = (answer,) if isinstance(answer, int) else tuple(answer)
    size = _vocabulary(model)
    for each in ids:
        if isinstance(each, bool) or not isinstance(each, int):
            raise BadInputError(f"An answer is a text or token ids; found {each!r}.")
        if each < 0 or (size is not None and each >= size):
            raise TokenTextError(
                f"{each} is no token: the vocabulary has the ids 0 to {(size or 0) - 1}."
            )
    if not ids:
        raise TokenTextError("The answer has no token; give a text or token ids.")
    return ids


def one_token(model: Any, answer: Answer, what: str) -> int:
    """The id of an answer that must be one token.

    Args:
        what: what needs it to be one, for the message: `"the lens"`.

    Raises:
        TokenTextError: it is several tokens, or none; the message shows them.
    """
    ids = answer_ids(model, answer)
    if len(ids) > 1:
        pieces = token_texts(getattr(model, "tokenizer", None), ids)
        raise TokenTextError(
            f"{answer!r} is {len(ids)} tokens: {listing(map(repr, pieces))}; {what} is about one.\n"
            f"Give one of them, such as {pieces[0]!r}."
        )
    return next(iter(ids))


def answer_words(model: Any, answer: Answer) -> str:
    """An answer for a title: the text of its tokens in quotation marks."""
    ids = answer_ids(model, answer)
    tokenizer = getattr(model, "tokenizer", None)
    texts = token_texts(tokenizer, ids)
    return repr("".join(texts)) if tokenizer is not None else " ".join(texts)


def _ids_of_text(model: Any, text: str) -> tuple[int, ...]:
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise BadInputError(
            f"{text!r} is a text, and this model has no tokenizer.\nGive the token's id, or the "
            "model a tokenizer: LanguageModel(model, tokenizer=…)."
        )
    if not text:
        raise TokenTextError("An empty text is no token.\nGive a token's text or its number.")
    # Sentencepiece's tokenizers put a blank before a text that has none, and two where it has one.
    spelled = [text, f" {text}", text.removeprefix(" ")]
    found = [tuple(tokenizer.encode(each, add_special_tokens=False)) for each in spelled if each]
    exact = [ids for ids in found if ids and "".join(token_texts(tokenizer, ids)) == text]
    for ids in (*sorted(exact, key=len), *(ids for ids in found[:2] if len(ids) == 1)):
        if len(ids) == 1:
            return ids
    for ids in (*exact, *found):
        if ids:
            return ids
    raise TokenTextError(f"{text!r} is no token of this vocabulary.")


def _vocabulary(model: Any) -> int | None:
    get = getattr(getattr(model, "_root", None), "get_output_embeddings", None)
    weight = getattr(get() if get is not None else None, "weight", None)
    return None if weight is None else weight.shape[0]
