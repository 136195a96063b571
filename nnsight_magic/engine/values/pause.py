"""A forward pass standing still at one site, and what the user does to the value there."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch

from nnsight_magic.engine.sites.site import Site, Touch
from nnsight_magic.engine.values.changes import Change, key_text, replaced
from nnsight_magic.engine.values.containers import is_container
from nnsight_magic.engine.values.fit import fit, unwrapped
from nnsight_magic.engine.values.gradients import retain_grad
from nnsight_magic.engine.values.inner_tensors import is_wrapper
from nnsight_magic.engine.values.laid_out import item, layout_of
from nnsight_magic.engine.values.parts import Parts
from nnsight_magic.engine.values.plainly import TENSOR, plainly
from nnsight_magic.engine.values.value import Value, as_value, mark, own_copy
from nnsight_magic.engine.values.words import describe
from nnsight_magic.engine.values.writes import checksum, same_bits
from nnsight_magic.errors import AlreadyRanError, WrongValueError


class HandedOut:
    """A value in the user's hands, and the state in which it was handed out."""

    __slots__ = (
        "age", "arrays", "lent", "linked", "path", "pause", "refusal", "strong", "version", "weak",
    )  # fmt: skip

    def __init__(self, path: tuple, value: Value, pause: Pause):
        self.path = path
        self.pause: Any = pause
        self.strong: torch.Tensor | None = value
        self.weak = weakref.ref(value)
        self.version = 0  # a fresh copy has not been written to
        self.age = pause.age  # how often the site had been written to by then
        self.linked = False
        self.lent: Any = False  # to a library whose writes torch does not count; then its checksum
        self.arrays: list[weakref.ref] = []  # numpy's, in this memory
        self.refusal = ""  # why it is not to be written to

    def alive(self) -> Value | None:
        """The value, if anybody has it still.

        Until torch 2.9 a tensor that only torch itself holds, as a view holds what it is a view
        of, is given back by a weak reference only to be lost, unless torch keeps it.
        """
        value = self.weak()
        if value is not None:
            value._fix_weakref()
        return value

    def lock(self, writeable: bool) -> None:
        """Let numpy refuse to write where nothing can flow on any more."""
        for reference in self.arrays:
            array = reference()
            if array is not None and array.flags.writeable != writeable:
                array.flags.writeable = writeable


class Pause:
    """A forward paused at `site`, with `current` about to flow on.

    The user gets copies (`take`) and may change them or put something else in their place
    (`put`). Before the forward moves on (`leave`), the copies are looked at again. `changes`
    then says what was written, so that a second forward can repeat it.
    """

    site: Any  # a `Site`, forgotten when the trace ends
    _late_write: Any

    def __init__(self, site: Site, raw: Any, late_write: Callable[[Pause], str | None], grad: bool):
        self.site = site
        self.current: Any = raw
        self.changes: list[Change] = []
        self.repeated: Sequence[Change] = ()  # what an earlier forward had written here
        self.passed = False
        self.closed = False
        self.age = 0
        self.touch: Touch | None = None
        # By the name of what was asked for: a part of the value may have one of its own.
        self._touches: dict[str | None, Touch] = {}
        self.texts: Any = None  # what knows the prompt's tokens by their texts
        self.passer: Touch | None = None  # a value handed out already that depends on this one
        self._late_write = late_write
        self._grad = grad
        self._handed: list[HandedOut] = []
        self._parts: list[weakref.ref[Parts]] = []
        self._passed_on: list[HandedOut] = []  # to be looked at once more at the end

    @property
    def written(self) -> bool:
        """Whether the value that flows on is not the model's own."""
        self._fold()
        return bool(self.changes)

    def describe(self) -> str:
        touch = self._touch_of(())
        return touch.where if touch is not None else self.site.kind

    def note(self, touch: Touch) -> bool:
        """Note who asks for the value, or for a part of it that has a name of its own.

        Whether nobody has asked for that before.
        """
        if touch.called in self._touches or (self.touch is not None and not self._touches):
            return False
        self._touches[touch.called] = touch
        self.touch = self.touch or touch
        return True

    def _touch_of(self, path: tuple) -> Touch | None:
        layout = layout_of(path)
        return self._touches.get(None if layout is None else layout.called, self.touch)

    def _where(self, path: tuple) -> str:
        layout, touch = layout_of(path), self._touch_of(path)
        if layout is None:
            return self.describe() + "".join(key_text(key) for key in path)
        if touch is None or touch.called != layout.called:
            return layout.called
        return touch.where

    def part(self, path: tuple) -> Any:
        """The model's own value at `path`, with everything written so far."""
        if self._handed:
            self._fold()
        return self._at(path)

    def _at(self, path: tuple) -> Any:
        value = self.current
        for key in path:
            value = item(value, key)
        return value

    def take(self, path: tuple, cls: type[Value] = Value) -> Any:
        """Hand out the value at `path`: a `Value` for a tensor, `Parts` for a container."""
        raw = self.part(path)
        touch = self._touch_of(path)
        whole = not path or layout_of(path) is not None
        if whole and touch is not None and isinstance(raw, torch.Tensor):
            touch.shape = tuple(raw.shape)
        where = self._where(path)
        if isinstance(raw, torch.Tensor):
            if type(raw) is not torch.Tensor and is_wrapper(raw):
                raise WrongValueError(_wrapped(where, raw))
            copy = own_copy(raw)
            if self._grad and copy.requires_grad:  # it is not under the user's own no_grad
                retain_grad(copy)
            value = as_value(copy, cls)
            value._pause, value.where, value._texts = self, where, self.texts
            handed = HandedOut(path, value, self)
            self._handed.append(handed)
            mark(value, handed)
            return value
        if is_container(raw):
            parts = Parts(self, path, where)
            self._parts.append(weakref.ref(parts))
            return parts
        return raw

    def put(self, path: tuple, new: Any, check: bool = True) -> None:
        """Let `new` flow on in place of the value at `path`; it must fit if `check` is on."""
        self._refuse_late_write()
        old = self.part(path)
        where = self._where(path)
        new = fit(new, old, where) if check else unwrapped(new)
        self._keep_parts(path)
        self._change(path, new)

    def _keep_parts(self, path: tuple) -> None:
        """What is at `path` or in it goes: the containers read there keep what they held."""
        for reference in self._parts:
            parts = reference()
            if parts is not None and parts._path[: len(path)] == path:
                parts._keep()

    def leave(self) -> Any:
        """The forward moves on: the value that it goes on with."""
        if self._handed:
            self._fold()
        self._keep_parts(())
        self.passed = True
        for handed in self._handed:
            self._let_go(handed)
        self._handed.clear()
        current, self.current = self.current, None
        return current

    def _let_go(self, handed: HandedOut) -> None:
        """Nothing that is written from here on flows; what torch lets pass is an error later."""
        value = handed.alive()
        if value is not None and handed.lent:
            handed.lent = checksum(value)
            handed.lock(writeable=False)
        else:
            handed.strong = None
        if value is not None:
            self._passed_on.append(handed)

    @property
    def lent(self) -> bool:
        """Whether the memory of a value is shared with another library."""
        return any(handed.lent for handed in (*self._handed, *self._passed_on))

    def written_unseen(self) -> bool:
        """Whether a value was written after the forward had gone on, by a way that nobody sees."""
        for handed in self._passed_on:
            value = handed.alive()
            if value is None:
                continue
            if version_of(value) != handed.version:
                return True
            if handed.lent and checksum(value) != handed.lent:
                return True
        return False

    def close(self) -> None:
        """The run is over: what the user still holds is theirs alone."""
        if not self.passed:
            self.leave()
        # A closed pause refuses nothing: the value is an ordinary tensor of the user's now.
        self.closed = True
        for handed in self._passed_on:
            handed.strong = None
            handed.lock(writeable=True)
        self._passed_on.clear()
        self.changes.clear()
        self.site = self._late_write = None

    def check_in_place_write(self, handed: HandedOut, alias: torch.Tensor) -> None:
        """Refuse a write that could not flow on: into a copy that is no longer the newest."""
        if self.closed:
            return
        if handed.refusal:
            raise WrongValueError(handed.refusal)
        self._refuse_late_write()
        self._fold()
        if handed.age != self.age:
            self.refuse_old(self._where(handed.path))
        if not self.passed:
            self._hold(handed, alias)
        elif (value := handed.alive()) is not None:
            handed.strong = value  # until the forward that has it still ahead goes on
        else:
            self.refuse_old(self._where(handed.path))

    def lend(self, handed: HandedOut, alias: torch.Tensor, borrower: Any) -> None:
        """Somebody else has the memory of a value: what is written there has to be looked for."""
        if hasattr(borrower, "setflags"):  # an array of numpy
            handed.arrays.append(weakref.ref(borrower))
        if self.passed:
            if not handed.lent and (value := handed.alive()) is not None:
                handed.lent = checksum(value)
            handed.lock(writeable=False)
        else:
            handed.lent = True
            self._hold(handed, alias)

    def _hold(self, handed: HandedOut, alias: torch.Tensor) -> None:
        """About to change: it must live to be looked at again, whatever view of it is left."""
        value = handed.alive()
        if value is None:  # an alias alone has outlived it
            part = self.part(handed.path)
            memory = plainly(torch.Tensor.untyped_storage, alias)
            value = torch.empty(0, dtype=part.dtype, device=part.device)
            value.set_(memory, 0, part.shape, own_copy(part).stride())
            value = as_value(value)
            handed.weak, handed.version = weakref.ref(value), -1
            self._handed.append(handed)
        handed.strong = value

    def refuse_old(self, where: str) -> None:
        """Refuse a write into what was read before another write, or in a run that is over."""
        if self.closed:
            raise AlreadyRanError(
                f"The run that {where} was read in is over: nothing flows on from it.\n"
                "Take x.value for a copy of your own."
            )
        self._refuse_late_write()
        if self.passed:
            raise WrongValueError(
                f"The forward was run again since {where} was read, and this is of the one before."
                f"\nRead it again before writing: h = {where}."
            )
        raise WrongValueError(
            f"This is an older copy of {where}: that was written to since.\n"
            f"Read it again before writing: h = {where}."
        )

    def _refuse_late_write(self) -> None:
        if self.passed or self.passer is not None:
            why = self._late_write(self)
            if why is not None:
                raise AlreadyRanError(why)

    def pending(self) -> list[Change]:
        """What was written since the forward went on, where another one will come by."""
        changes: list[Change] = []
        for handed in self._passed_on:
            value = handed.alive()
            if value is not None and version_of(value) != handed.version:
                handed.version = version_of(value)
                changes.append((handed.path, own_copy(value)))
        if changes and self.touch is not None:
            self.touch.wrote = True
        return changes

    def _fold(self) -> None:
        """Take over what the user changed in the copies they hold."""
        handed_out, self._handed = self._handed, []
        for handed in handed_out:
            value = handed.alive()
            if value is None:
                continue
            version = version_of(value)
            written = version != handed.version
            if handed.lent and not written:
                written = handed.age == self.age and not same_bits(value, self._at(handed.path))
            # With gradients the flow goes through the user's copy: that makes its `.grad` the
            # gradient at this site, and lets `requires_grad_()` start a graph here.
            if written or (self._grad and value.requires_grad and not handed.linked):
                self._change(handed.path, own_copy(value), written)
                handed.version, handed.linked, handed.age = version, True, self.age
            if not handed.lent:
                handed.strong = None
            elif handed.age != self.age:
                handed.lock(writeable=False)
            value = None
            if handed.alive() is not None:
                self._handed.append(handed)

    def _change(self, path: tuple, new: Any, written: bool = True) -> None:
        touch = self._touch_of(path)
        if layout := layout_of(path):  # a change of the tensor that the part lies in
            path = path[:-1]
            new = layout.put(self._at(path), new)
        self.current = replaced(self.current, path, new)
        if not written:
            return
        self.age += 1
        if touch is not None:
            touch.wrote = True
            if layout is not None and layout not in touch.layouts:
                touch.layouts = (*touch.layouts, layout)
        # A later change of the same place, or of all that it lies in, makes this one idle.
        self.changes = [(p, v) for p, v in self.changes if p[: len(path)] != path]
        self.changes.append((path, new))


def version_of(value: torch.Tensor) -> int:
    """How often the memory of a tensor has been written to."""
    return plainly(TENSOR._version.__get__, value)


def _wrapped(where: str, raw: torch.Tensor) -> str:
    return (
        f"{where} is a {type(raw).__name__}, a tensor whose class does its operations itself: its "
        f"numbers cannot be handed out.\nFound: {describe(raw)}.\n"
        "Read it at a module that gives a plain tensor, or put a plain tensor in its place as a "
        f"whole: {where} = x."
    )
