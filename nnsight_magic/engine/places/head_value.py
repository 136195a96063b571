"""What one head gives, `attn.heads[2]`, which knows what it adds: `attn.heads[2].result`."""

from __future__ import annotations

from typing import Any, Protocol

from nnsight_magic.engine.values.value import Value


class HasResults(Protocol):
    """The heads of an attention module."""

    def result(self, index: int) -> Any:
        """The place of what a head adds."""
        ...


class HeadValue(Value):
    """`z` of one head, `(batch, tokens, size)`."""

    _heads: HasResults
    _head: int

    @property
    def result(self) -> Value:
        """What the head adds to the residual stream, `(batch, tokens, hidden)`: `z W_O` of its own.

        It can be written to. The output projection's bias belongs to no head.

        Raises:
            WrongValueError: the projection's weight is not at hand: it is quantised or adapted.

        >>> from nnsight_magic import LanguageModel
        >>> model = LanguageModel("demo")
        >>> with model.trace("The Eiffel Tower"):
        ...     one, every = model.layers[5].attn.heads[2].result, model.layers[5].attn.result
        >>> one.shape, bool(one.allclose(every[:, :, 2], atol=1e-5))
        (torch.Size([1, 4, 576]), True)
        """
        return self._heads.result(self._head).output

    @result.setter
    def result(self, new: Any) -> None:
        self._heads.result(self._head).output = new


def with_result(value: Any, heads: HasResults, index: int) -> Any:
    """A head's part of a value, as one that knows its head; what is no tensor stays as it is."""
    if type(value) is Value:
        own: Any = value
        own.__class__ = HeadValue
        own._heads, own._head = heads, index
    return value
