"""A sweep whose points other processes run: of this machine, or of a cluster.

What is handed out is a share of the points, beside the function and what it uses. A worker loads
the model by its name, once, and gives back what its points gave; the first job is the baseline.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any

import cloudpickle
import torch

from nnsight_magic.analyses.points import Grid
from nnsight_magic.analyses.swept import Swept, fill, measure_baseline
from nnsight_magic.analyses.travelling import packed, state_of, unpacked, variables_of
from nnsight_magic.analyses.workers import Workers
from nnsight_magic.engine.sites.caller import PACKAGE
from nnsight_magic.engine.sweeping.how_far import Finished, Watching
from nnsight_magic.errors import BadInputError

SHARES = 3  # of the points for each worker: early blocks take longer than late ones
LARGEST = 256  # points of a share: what comes at once, and what a lost worker costs
UNKNOWN = 8  # workers, where nobody says how many there are

Opened = Callable[[Any], AbstractContextManager[Callable[..., Any]]]


@dataclass(frozen=True)
class Sent:
    """A sweep as it travels.

    Attributes:
        opened: gives, for a model, the function of a point, as long as its context is open.
        prompt, references, grid: of the sweep.
        options: of `model.sweep`.
        inner: those of them that are the model's forward's, which the baseline has too.
        seed: where random numbers begin.
        variables: what of the user's the function uses, by name.
        where: file and line of the function.
    """

    opened: Opened
    prompt: Any
    references: Mapping[str, Any]
    grid: Grid
    options: Mapping[str, Any]
    inner: Mapping[str, Any]
    seed: int
    variables: Mapping[str, Any] = field(default_factory=dict)
    where: tuple[str, int] | None = None


@dataclass(frozen=True)
class Job:
    """A share of the points; or the baseline at some."""

    sent: bytes
    digest: str
    numbers: tuple[int, ...]
    baseline: bool = False


@dataclass
class Came:
    """What a worker gives back.

    Attributes:
        results, baseline, reference: as of `Swept`.
        error: what ended the share, and where in the user's code, innermost last.
        point: at which point that was.
    """

    results: dict[int, Any] = field(default_factory=dict)
    baseline: dict[str, Any] = field(default_factory=dict)
    reference: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None
    where: tuple[str, int] | None = None
    point: int | None = None


def as_it_is(function: Callable[..., Any], model: Any) -> AbstractContextManager[Any]:
    """A function that is called as it was given."""
    return nullcontext(function)


def sent_function(function: Callable[..., Any], **more: Any) -> Sent:
    """A sweep of a plain function; `more` is the rest of a `Sent`."""
    return Sent(
        partial(as_it_is, function), seed=torch.initial_seed(), variables=variables_of(function),
        where=line_of(function), **more,
    )  # fmt: skip


def line_of(function: Any) -> tuple[str, int] | None:
    """Where a function stands, if it is one of Python's."""
    code = getattr(function, "__code__", None)
    return None if code is None else (code.co_filename, code.co_firstlineno)


def fill_elsewhere(
    found: Swept, on: Any, sent: Sent, progress: Watching, baseline: Sequence[int] = ()
) -> None:
    """Run the points that have no result yet; `found` has what came, also after an error.

    Args:
        found: the sweep; its results, its baseline and its reference are filled.
        on: what runs it; see `Workers`.
        sent: the sweep.
        progress: a bar, or who is told of what comes.
        baseline: the points at which it is measured.

    Raises:
        BadInputError: `on` runs no jobs; or the function changes what is not its own.
        CannotTravelError: the model has no name; or what the function uses cannot go.
    """
    workers = Workers(on, found.model)
    try:
        content = packed(replace(sent, where=None), found.model, sent.variables)
        waiting = found.waiting()
        jobs = _jobs(content, waiting, baseline, workers.count)
        finished = Finished(len(waiting), progress)
        with finished.shown():
            for came in workers.run(run_share, jobs):
                _take(found, finished, cloudpickle.loads(came), sent.where)
    finally:
        workers.close()


def _jobs(
    content: bytes, waiting: Sequence[int], baseline: Sequence[int], workers: int | None
) -> Iterator[Job]:
    digest = hashlib.sha256(content).hexdigest()
    if len(baseline):
        yield Job(content, digest, tuple(baseline), baseline=True)
    count = SHARES * (workers or UNKNOWN)
    size = max(1, min(LARGEST, -(-len(waiting) // count)))
    for first in range(0, len(waiting), size):
        yield Job(content, digest, tuple(waiting[first : first + size]))


def _take(found: Swept, finished: Finished, came: Came, function: tuple[str, int] | None) -> None:
    """What a worker gave.

    Raises:
        BaseException: what ended its share, from the line of the user's code.
    """
    found.baseline.update(came.baseline)
    found.reference.update(came.reference)
    found.results.update(came.results)
    finished.add(came.results)
    if came.error is None:
        return
    name = "" if came.point is None else found.grid.describe(came.point)
    finished.explain(came.error, came.point, name)
    where = came.where or function
    if where is None:
        raise came.error
    raise_at(came.error, *where)


def raise_at(error: BaseException, filename: str, line: int) -> None:
    """Raises an error at a line of the user's code: of a worker no traceback travels."""
    code = compile("\n" * (line - 1) + "raise error", filename, "exec")
    exec(code, {"error": error})


# ── in a worker ──────────────────────────────────────────────────────────────────────────

_kept: dict[str, Sent] = {}  # the one sweep that is under way, by its digest


def run_share(model: Any, job: Job) -> bytes:
    """Runs some points of a sweep; a `Came`, pickled."""
    sent = _kept.get(job.digest)
    if sent is None:
        _kept.clear()
        sent = _kept[job.digest] = unpacked(job.sent, model)
    found = Swept(sent.grid, model)
    came, before = Came(found.results), state_of(sent.variables)
    with torch.random.fork_rng(devices=[]):
        # A text that is sampled begins where it would in one process; what is drawn in points
        # must not be the same in every share.
        torch.manual_seed(sent.seed if "new_tokens" in sent.inner else sent.seed + job.numbers[0])
        try:
            with sent.opened(model) as function:
                _run(found, sent, function, job)
        except Exception as error:
            came.point = _number_of(error, job, found)
            came.error, came.where = _as_it_travels(error), _users_line(error.__traceback__)
    came.baseline, came.reference = found.baseline, found.reference
    came.results = {number: _here(each) for number, each in found.results.items()}
    _refuse_changes(came, before, state_of(sent.variables))
    return cloudpickle.dumps(came)


def _run(found: Swept, sent: Sent, function: Callable[..., Any], job: Job) -> None:
    given = found, function, sent.prompt, sent.references
    if job.baseline:
        measure_baseline(*given, job.numbers, **sent.inner)
    else:
        fill(*given, numbers=job.numbers, progress=False, **sent.options, **sent.inner)


def _number_of(error: BaseException, job: Job, found: Swept) -> int | None:
    """The point at which an error came up, by its number in the whole grid."""
    place = getattr(error, "point", None)
    return None if place is None or job.baseline else job.numbers[place]


def _refuse_changes(came: Came, before: dict[str, Any], now: dict[str, Any]) -> None:
    """A variable that points change is changed in the worker, and nobody would see it."""
    changed = [name for name in before if before[name] != now[name]]
    if changed and came.error is None:
        name = changed[0]
        came.error = BadInputError(
            f"The points change {name}, a variable of the notebook: in another process this is a "
            f"copy, and the change would be lost.\nLet a point give what {name} is to hold as its "
            "result, or run without on=."
        )


def _as_it_travels(error: BaseException) -> BaseException:
    """An error that can be pickled; of one that cannot, its words."""
    for key in ("finished", "point", "point_name", "partial"):
        error.__dict__.pop(key, None)
    notes = getattr(error, "__notes__", [])
    error.__notes__ = [note for note in notes if not note.startswith("In a sweep")]
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _users_line(traceback: TracebackType | None) -> tuple[str, int] | None:
    """Where in the user's code an error came up: the last line of it before a library's."""
    found = None
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if not name.startswith(PACKAGE) and "site-packages" not in name:
            found = name, traceback.tb_lineno
        traceback = traceback.tb_next
    return found


def _here(result: Any) -> Any:
    """A point's result without devices and graphs."""
    if isinstance(result, dict):
        return {name: _here(each) for name, each in result.items()}
    if isinstance(result, torch.Tensor):
        return result.detach().cpu()
    return _as_it_travels(result) if isinstance(result, Exception) else result
