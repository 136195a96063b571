"""Ray as an executor: a dozen lines between its tasks and `submit`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from nnsight_magic.errors import BadInputError


class RayExecutor(Executor):
    """Runs each job as a task of Ray, which runs it again where a worker dies."""

    def __init__(self, ray: Any, **options: Any):
        self._ray, self._options = ray, options
        # As Python's own executors call it: how many jobs run at a time.
        self._max_workers = max(1, int(ray.cluster_resources().get("CPU", 1)))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        task = self._ray.remote(call)  # Ray takes a function alone, and `fn` may be a partial one
        return task.options(**self._options).remote(fn, *args, **kwargs).future()


def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """A task of Ray."""
    return function(*args, **kwargs)


def on_ray(address: str | None = None, **options: Any) -> RayExecutor:
    """What `on=` takes to run on Ray: `analyses.stream(…, on=analyses.on_ray())`.

    Args:
        address: of a cluster, as `ray.init` takes it; by default the one that this process is
            connected to, or one on this machine.
        options: of each task, as Ray's `.options` takes them: `num_gpus=1`.

    Raises:
        BadInputError: Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise BadInputError(
            'Ray is not installed here: pip install "nnsight_magic[cluster]".'
        ) from None
    if not ray.is_initialized():
        ray.init(address=address)
    return RayExecutor(ray, **options)
