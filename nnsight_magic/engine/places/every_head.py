"""The heads of one attention module by number: `layers[3].attn.heads[2]`, `.heads[2].result`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnsight_magic.engine.places.attention_values import result_of
from nnsight_magic.engine.places.head_value import with_result


class Heads:
    """The heads of one attention module, by number.

    `heads[i]` is `(batch, tokens, size)`, `heads[i:j]` and `heads[[i, j]]` are
    `(batch, tokens, heads, size)`; `heads[...]` is all of them, which `attn.z` is too. Assigning
    writes.

    Args:
        attention: the module, or what shows it as one prompt sees it.
        projection: the path of its output projection.
        count, size: of its heads.
        result: the place of what a head adds, where the attention is no handle.
    """

    __slots__ = ("_attention", "_count", "_projection", "_result", "_size")

    def __init__(
        self,
        attention: Any,
        projection: str,
        count: int,
        size: int,
        result: Callable[[int], Any] | None = None,
    ):
        self._attention, self._projection = attention, projection
        self._count, self._size, self._result = count, size, result

    def __len__(self) -> int:
        return self._count

    def __iter__(self):
        return (self[i] for i in range(self._count))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int):
            columns = self._columns(index)
            return self._with_result(self._input()[..., columns], index)
        return self._split() if index is ... else self._split()[..., index, :]

    def __setitem__(self, index: Any, new: Any) -> None:
        if isinstance(index, int):
            self._input()[..., self._columns(index)] = new
        elif index is ...:
            self._split()[...] = new
        else:
            self._split()[..., index, :] = new

    def __repr__(self) -> str:
        return f"{self._count} heads of {self._size}"

    def _with_result(self, value: Any, index: int) -> Any:
        """What a head gives, with what it adds as its `result`."""
        return with_result(value, self, index % self._count)

    def result(self, index: int) -> Any:
        """The place of what a head adds."""
        if self._result is not None:
            return self._result(index)
        return result_of(self._attention, index)

    def _columns(self, index: int) -> slice:
        if not -self._count <= index < self._count:
            raise IndexError(
                f"There is no head {index}: there are {self._count}, 0 to {self._count - 1}."
            )
        begin = index % self._count * self._size
        return slice(begin, begin + self._size)

    def _input(self) -> Any:
        projection = self._attention
        for part in self._projection.split("."):
            projection = projection[part]
        look = getattr(self._attention._model._turn.running(), "given_to", None)
        of_all = hasattr(type(projection), "ancestors")  # and not as one prompt sees it
        given = look(projection) if look is not None and of_all else None
        return projection.input if given is None else given

    def _split(self) -> Any:
        """The same memory as `(batch, tokens, heads, size)`."""
        value = self._input()
        return value.view(*value.shape[:-1], self._count, self._size)
