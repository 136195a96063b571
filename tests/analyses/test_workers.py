"""Streams that other processes run: of this machine, of a Dask cluster; and workers that die."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.errors import BadInputError, CannotTravelError
from tests import tiny

# More than 512 make several windows, which are what is handed out.
TEXTS = [f"{sentence}{' and' * (k % 40)}" for k in range(300) for sentence in tiny.SENTENCES]


@pytest.fixture(scope="module")
def alone(named: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that one process writes."""
    to = tmp_path_factory.mktemp("alone")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        analyses.stream(LanguageModel(named), TEXTS, to, layers=[1])
    finally:
        torch.set_num_threads(threads)
    return content(to)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.*") if path.name[0] != "."}


def kill_one_when(folder: Path, workers: Any) -> threading.Thread:
    """Kills the first of some processes as soon as there is a shard."""

    def watch() -> None:
        while not list(folder.glob("*.safetensors")):
            time.sleep(0.01)
        os.kill(workers()[0], signal.SIGKILL)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def children() -> list[int]:
    """The processes of this one that have a model by now, the largest first."""
    found = psutil.Process().children(recursive=True)
    return [each.pid for each in sorted(found, key=lambda p: -p.memory_info().rss)]


def test_two_processes_write_the_same_bytes(
    named: str, alone: dict[str, bytes], tmp_path: Path
) -> None:
    store = analyses.stream(LanguageModel(named), TEXTS, tmp_path, layers=[1], on=2)
    assert store.complete
    assert content(tmp_path) == alone


def test_a_worker_that_is_killed_costs_time_and_nothing_else(
    named: str, alone: dict[str, bytes], tmp_path: Path
) -> None:
    killer = kill_one_when(tmp_path, children)
    analyses.stream(LanguageModel(named), TEXTS, tmp_path, layers=[1], on=2)
    killer.join()
    assert content(tmp_path) == alone


def test_an_executor_runs_it(named: str, alone: dict[str, bytes], tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        analyses.stream(LanguageModel(named), TEXTS, tmp_path, layers=[1], on=executor)
    assert content(tmp_path) == alone


def test_a_dask_cluster_runs_it_though_a_worker_is_killed(
    named: str, alone: dict[str, bytes], tmp_path: Path
) -> None:
    dask = pytest.importorskip("dask.distributed")  # it is there wherever `.[test]` is
    with (
        dask.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        dask.Client(cluster) as client,
    ):
        client.run(torch.set_num_threads, 1)
        killer = kill_one_when(tmp_path, lambda: [*client.run(os.getpid).values()])
        analyses.stream(LanguageModel(named), TEXTS, tmp_path, layers=[1], on=client)
        killer.join()
    assert content(tmp_path) == alone


def test_ray_runs_it_though_a_worker_is_killed(
    named: str, alone: dict[str, bytes], tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:

        def running() -> list[int]:
            found = psutil.Process().children(recursive=True)
            return [each.pid for each in found if each.name().startswith("ray::call")]

        killer = kill_one_when(tmp_path, running)
        analyses.stream(LanguageModel(named), TEXTS, tmp_path, layers=[1], on=analyses.on_ray())
        killer.join()
    finally:
        ray.shutdown()
    assert content(tmp_path) == alone


def test_what_cannot_travel_is_refused_before_anything_starts(named: str, tmp_path: Path) -> None:
    unnamed = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    with pytest.raises(CannotTravelError, match="save_pretrained"):
        analyses.stream(unnamed, TEXTS, tmp_path / "to", on=2)
    changed = LanguageModel(named)
    with torch.no_grad():
        changed.module.model.layers[0].mlp.up_proj.weight[0] = 0
    with pytest.raises(CannotTravelError, match="changed since they were loaded"):
        analyses.stream(changed, TEXTS, tmp_path / "to", on=2)
    for on in (0, "localhost", 2.0):
        with pytest.raises(BadInputError, match=r"expected at least one|runs no jobs"):
            analyses.stream(LanguageModel(named), TEXTS, tmp_path / "to", on=on)
    assert not (tmp_path / "to").exists()


def test_an_error_in_a_worker_is_the_same_error_here(named: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no position 60") as refused:
        analyses.stream(LanguageModel(named), TEXTS, tmp_path, layers=[1], at=60, on=2)
    assert "the same call goes on" in refused.value.__notes__[-1]
