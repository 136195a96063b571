"""Every mistake that this package tells a user about.

Each message says what was found, what was expected, and what to do next. `NnsightError` is
the base of all of them.
"""

from __future__ import annotations

from collections.abc import Callable

from nnsight_magic.printable import printable


class NnsightError(Exception):
    """Base of the errors of this package; `message` is the whole text."""

    def __init__(self, message: str):
        message = printable(message)  # it names what the user or a model called something
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message  # a KeyError would show its `repr`


class NnsightWarning(UserWarning):
    """Base of the warnings of this package: `warnings.simplefilter("ignore", NnsightWarning)`."""


class ThreadsWarning(NnsightWarning, RuntimeWarning):
    """Models run in threads of their own in this process."""


class ModelNotFound(NnsightError):
    """No model goes by that name here."""


class LoadError(NnsightError):
    """A model was found, and cannot be loaded as asked."""


class NoSuchModuleError(NnsightError, AttributeError):
    """A path that is not in the module tree."""


class NoSuchIndexError(NnsightError, IndexError):
    """A list of modules is shorter than the index asks for."""


class NotAListError(NoSuchModuleError, TypeError):
    """A module was indexed or iterated over that is no list."""


class NoTraceError(NnsightError, AttributeError):
    """A value was asked for outside a trace.

    An AttributeError too: outside a trace a module has no `output`, and `hasattr` says so.
    """


class TraceInsideTraceError(NnsightError):
    """A trace was begun on a model that is being traced."""


class NeverRanError(NnsightError):
    """The forward ended and the module had not run."""


class AlreadyRanError(NnsightError):
    """A write to a module that the forward has left behind."""


class WrongValueError(NnsightError, RuntimeError, ValueError):
    """A value was written that does not fit: shape, dtype, device or kind.

    A RuntimeError too, as torch's own is for a tensor that does not fit.
    """


class WrongIndexError(WrongValueError, IndexError):
    """A part was written to that the value has not."""


class WrongKindError(WrongValueError, TypeError):
    """What was written is nothing that can stand there."""


class TwoInDispatchError(NnsightError, RuntimeError):
    """Two forwards of a thread would be paused in calls of `torch.ops` at the same time."""


class GraphError(NnsightError, RuntimeError):
    """A gradient was asked for, and what it needs was not recorded, or is gone."""


class GenerationEndedError(NnsightError, IndexError):
    """A step was asked for that lies behind the end of the generation."""


class BadInputError(NnsightError, ValueError):
    """A prompt or an argument that no forward can be run on."""


class UnknownOptionError(BadInputError, TypeError):
    """An option that the call does not take; Python's own error for it is a TypeError."""


class SpellingError(NnsightError, TypeError):
    """What another library writes so, and this one otherwise; the message says how."""


class NotCachedError(NnsightError, KeyError):
    """A module whose values a cache has not."""


class EditError(NnsightError):
    """An edit that cannot be recorded, found, carried out or read."""


class NoSuchEditError(EditError, KeyError):
    """There is no edit of that name."""


class CellError(NnsightError):
    """A cell that cannot be run as it is written; found before anything ran.

    Attributes:
        problems: every `language.problems.Problem` found, so that all are shown at once.
        lines: the cell's lines, for the excerpts.
    """

    _render_traceback_: Callable[[], list[str]]  # how IPython shows it, where that is settled

    def __init__(self, message: str, problems: tuple = (), lines: tuple = ()):
        super().__init__(message)
        self.problems = problems
        self.lines = lines


class OptionError(NnsightError):
    """The line of a magic that cannot be understood: an unknown option, a missing prompt."""


class NoModelError(NnsightError):
    """A magic needs a model, and none is loaded."""


class TokenTextError(NnsightError, IndexError):
    """A token was addressed by a text that is not there, or is there more than once."""


class NoSuchOperationError(NnsightError, LookupError):
    """A module's forward ran, and issued no such operation."""


class ScanError(NnsightError):
    """A model that cannot be run on shapes alone."""


class StoreError(NnsightError):
    """A folder of activations that holds something else, or is damaged."""


class CannotTravelError(LoadError, TypeError):
    """A model, or what a function uses, that cannot be pickled; a TypeError too, as Python's own.

    Attributes:
        variable: the user's variable that it is about; `None` where it is about no single one.
    """

    variable: str | None = None


class NotBuiltError(NnsightError):
    """The front end's code is not there."""


# Raised for code of this package that tells the user in its own way.


class GoneError(Exception):
    """A tensor that a view shows is no longer in memory."""


class HubAnswer(Exception):
    """Why the hub's files of a name cannot be had; `str()` is one line.

    Attributes:
        reached: whether the hub itself answered.
    """

    def __init__(self, message: str, reached: bool):
        super().__init__(message)
        self.reached = reached
