"""Jobs for other processes, of this machine or of a cluster: what runs them is another library.

A job is a function of ours, plain data and the model's name. A worker loads the model once and
keeps it. There is no scheduler and no network here; losing a worker is the business of what runs
the jobs, and each can be run twice without harm.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, wait
from functools import partial
from itertools import islice
from typing import Any

import torch

from nnsight_magic.errors import BadInputError

AHEAD = 2  # jobs handed out for each worker, so that none waits for the next
_MANY = 32  # jobs handed out where nobody says how many workers there are
_LOST = 5  # workers of our own that may die before it is said
_models: dict[str, Any] = {}  # in a worker: the one model that it has loaded, by its digest


class Workers:
    """Runs jobs of a model on what was given as `on=`.

    Args:
        on: how many processes of this machine; anything with `submit`, as `concurrent.futures`
            has it; or a Dask `Client`.
        model: a model with a name.

    Raises:
        BadInputError: `on` is none of these.
        CannotTravelError: the model has no name by which a worker could load it.

    Attributes:
        count: how many workers there are; `None` where nobody says.
    """

    _executor: Any

    def __init__(self, on: object, model: Any):
        self._travels = pickle.dumps(model)
        self._count: int | None = None  # of processes that were begun here
        self.count: int | None = None
        self._at_least = 1  # jobs ahead
        if type(on) is int:
            if on < 1:
                raise BadInputError(f"on={on}: expected at least one process.")
            self._count = self.count = on
            self._executor = _processes(on)
        elif hasattr(on, "get_executor"):
            self._executor = on.get_executor()  # type: ignore[attr-defined]
            self.count = sum(on.nthreads().values()) or None  # type: ignore[attr-defined]
            self._at_least = _MANY  # a cluster may grow with what waits for it
        elif hasattr(on, "submit"):
            self._executor = on
            workers = getattr(on, "_max_workers", None)
            self.count = workers if isinstance(workers, int) else None
            self._at_least = _MANY if self.count is None else 1
        else:
            raise BadInputError(
                f"on={on!r} runs no jobs.\nExpected how many processes of this machine, on=2; an "
                "executor, as concurrent.futures has them; or a Dask client."
            )

    def run(self, function: Callable[[Any, Any], Any], jobs: Iterable[Any]) -> Iterator[Any]:
        """What `function(model, job)` gives for each, as they come.

        Args:
            function: of a module that workers can import.
            jobs: plain data; a few are taken ahead.
        """
        digest = hashlib.sha256(self._travels).hexdigest()
        there = partial(_there, self._travels, digest, function)
        todo, running, lost = iter(jobs), {}, 0
        ahead = max(self._at_least, AHEAD * (self.count or 0))
        try:
            while True:
                for job in islice(todo, ahead - len(running)):
                    running[self._executor.submit(there, job)] = job
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    try:
                        yield future.result()
                    except BrokenExecutor:
                        lost += 1
                        if self._count is None or lost > _LOST:
                            raise
                        again = [job, *running.values()]
                        self._executor = _processes(self._count)
                        running = {self._executor.submit(there, each): each for each in again}
                        break
        finally:
            for future in running:
                future.cancel()

    def close(self) -> None:
        """Ends the processes that were begun here."""
        if self._count is not None:
            self._executor.shutdown(wait=True, kill_workers=True)


def _processes(count: int) -> Executor:
    """Processes that import nothing of the user's: a script needs no guard against itself."""
    from loky import ProcessPoolExecutor

    threads = max(1, torch.get_num_threads() // count)
    return ProcessPoolExecutor(count, initializer=torch.set_num_threads, initargs=(threads,))


def _there(travels: bytes, digest: str, function: Callable[[Any, Any], Any], job: Any) -> Any:
    """In a worker: the function on the model, which is loaded where it is another than before."""
    if digest not in _models:
        _models.clear()
        _models[digest] = pickle.loads(travels)
    return function(_models[digest], job)
