"""Sweeps whose points other processes run: of this machine, of Dask, of Ray; workers that die."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.errors import BadInputError, CannotTravelError
from tests import tiny
from tests.analyses.test_workers import children

PROMPT, OTHER = tiny.SENTENCES[0], tiny.SENTENCES[1]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model(named: str) -> LanguageModel:
    return LanguageModel(named)


def patching(model: Any, slowly: float = 0.0) -> tuple[Callable[..., Any], Any]:
    """A function over variables of its own, as a notebook's, and its grid."""
    scale = torch.tensor(0.5)

    def patch(layer: int, position: int, clean: Any) -> Any:
        time.sleep(slowly)
        there = clean.layers[layer].output[:, position]
        model.layers[layer].output[:, position] = there * scale
        return {"logit": model.logits[0, -1, 3], "probs": model.logits[0, -1].softmax(-1)}

    tokens = len(model.tokenizer.encode(PROMPT))
    return patch, analyses.grid(layer=model.layers, position=range(tokens))


def swept(model: Any, on: Any = None, slowly: float = 0.0, **options: Any) -> dict[str, Any]:
    function, points = patching(model, slowly)
    given = {"references": {"clean": PROMPT}, "progress": False, **options}
    return analyses.sweep(model, PROMPT, function, points, on=on, **given)


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, result in expected.items():
        assert found[name].dims == result.dims and np.isfinite(found[name].values).all()
        np.testing.assert_allclose(found[name].values, result.values, atol=2e-4, rtol=0)
        for kind in ("baseline", "reference"):
            there = found[name].coords[kind].values
            np.testing.assert_allclose(there, result.coords[kind].values, atol=2e-4, rtol=0)


class Killer:
    """Kills one worker when the first results are there."""

    def __init__(self, workers: Callable[[], list[int]]):
        self._workers, self.killed = workers, 0

    def __call__(self, how_far: Any) -> None:
        if not self.killed and how_far.done < how_far.total:
            self.killed = self._workers()[0]
            os.kill(self.killed, signal.SIGKILL)


def test_two_processes_give_the_same_numbers(model: LanguageModel) -> None:
    same(swept(model, on=2), swept(model))


def test_a_worker_that_is_killed_costs_time_and_nothing_else(model: LanguageModel) -> None:
    killer = Killer(children)
    same(swept(model, on=2, slowly=0.05, progress=killer), swept(model))
    assert killer.killed and not psutil.pid_exists(killer.killed)


def test_an_executor_runs_it(model: LanguageModel) -> None:
    with ThreadPoolExecutor(1) as executor:
        same(swept(model, on=executor), swept(model))


def test_a_dask_cluster_runs_it_though_a_worker_is_killed(model: LanguageModel) -> None:
    dask = pytest.importorskip("dask.distributed")  # it is there wherever `.[test]` is
    with (
        dask.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        dask.Client(cluster) as client,
    ):
        client.run(torch.set_num_threads, 1)
        killer = Killer(lambda: [*client.run(os.getpid).values()])
        same(swept(model, on=client, slowly=0.05, progress=killer), swept(model))
    assert killer.killed


def test_ray_runs_it_though_a_worker_is_killed(model: LanguageModel) -> None:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:

        def running() -> list[int]:
            found = psutil.Process().children(recursive=True)
            return [each.pid for each in found if each.name().startswith("ray::call")]

        killer = Killer(running)
        found = swept(model, on=analyses.on_ray(), slowly=0.05, progress=killer)
        assert killer.killed
    finally:
        ray.shutdown()
    same(found, swept(model))


def test_a_worker_loads_the_model_once(model: LanguageModel) -> None:
    """The identity of the module in each process: there are as many as processes."""

    def who(layer: int, position: int) -> Any:
        model.layers[layer].output[:, position] = 0
        return torch.tensor([os.getpid(), id(model.module)])

    points = analyses.grid(layer=model.layers, position=range(6))
    found = analyses.sweep(model, PROMPT, who, points, on=2, progress=False, baseline=False)
    seen = {tuple(each) for each in found.values.reshape(-1, 2).tolist()}
    assert len(seen) == len({process for process, _ in seen}) <= 2
    assert os.getpid() not in {process for process, _ in seen}


# ── what cannot travel ───────────────────────────────────────────────────────────────────


def started_nothing() -> bool:
    """No worker: what counts loky's own semaphores may stay."""
    return not [p for p in psutil.Process().children() if "popen_loky" in " ".join(p.cmdline())]


def test_a_model_without_a_name_or_changed_is_refused_before_anything_starts(
    model: LanguageModel,
) -> None:
    with pytest.raises(CannotTravelError, match="save_pretrained"):
        swept(LanguageModel(tiny.build("llama"), tiny.tokenizer()), on=2)
    with torch.no_grad():
        model.module.model.layers[0].mlp.up_proj.weight[0] = 0
    with pytest.raises(CannotTravelError, match="changed since they were loaded"):
        swept(model, on=2)
    for on in (0, "localhost", 2.0):
        with pytest.raises(BadInputError, match=r"expected at least one|runs no jobs"):
            swept(LanguageModel(model._recipe["source"]), on=on)


def cannot_travel() -> list[Any]:
    return [
        pytest.param(threading.Lock(), id="lock"),
        pytest.param(open(os.devnull, "rb"), id="file"),  # noqa: PTH123
        pytest.param((each for each in "ab"), id="generator"),
        pytest.param({"deep": [threading.Lock()]}, id="inside"),
    ]


@pytest.mark.parametrize("thing", cannot_travel())
def test_a_variable_that_cannot_travel_is_named_before_anything_starts(
    model: LanguageModel, thing: Any
) -> None:
    def inner() -> Any:
        return thing

    for function in (lambda layer: str(thing) * layer, lambda layer: inner() or layer):
        with pytest.raises(CannotTravelError) as refused:
            analyses.sweep(model, PROMPT, function, analyses.grid(layer=range(3)), on=2)
        said = str(refused.value)
        assert "cannot go to another process" in said and "run without on=" in said
        assert "thing" in said or "inner" in said
        assert started_nothing()


def test_a_lambda_over_plain_variables_travels(model: LanguageModel) -> None:
    limits, words = np.array([1.0, 2.0]), {"a": [3, 4]}

    def inner(layer: int) -> float:
        return float(limits[1]) * words["a"][0] + layer

    found = analyses.sweep(
        model, PROMPT, lambda layer: inner(layer), analyses.grid(layer=range(4)), on=2
    )
    assert found.values.tolist() == [6.0, 7.0, 8.0, 9.0]


@pytest.mark.parametrize("kind", ["list", "dict", "array", "tensor"])
def test_a_variable_that_points_change_is_refused_as_the_change_would_be_lost(
    model: LanguageModel, kind: str
) -> None:
    made = {"list": [], "dict": {}, "array": np.zeros(9), "tensor": torch.zeros(9)}
    kept: Any = made[kind]

    def function(layer: int) -> float:
        if kind == "list":
            kept.append(layer)
        else:
            kept[layer] = 1 + layer
        return 1.0

    points = analyses.grid(layer=range(4))
    with ThreadPoolExecutor(1) as pool, pytest.raises(BadInputError, match="points change kept"):
        analyses.sweep(model, PROMPT, function, points, on=pool, baseline=False)
    assert not any(kept)  # nothing came into it here


# ── when it is stopped ───────────────────────────────────────────────────────────────────


class MoreNeededError(Exception):
    """Of the user's own, with arguments that its text does not say."""

    def __init__(self, layer: int, position: int):
        super().__init__(f"more at {layer}, {position}")


def test_an_error_names_its_point_and_the_line_and_keeps_what_was_finished(
    model: LanguageModel,
) -> None:
    def function(layer: int, position: int) -> Any:
        model.layers[layer].output[:, position] = 0
        if (layer, position) == (2, 4):
            raise MoreNeededError(layer, position)
        return model.logits[0, -1, 3]

    points = analyses.grid(layer=model.layers, position=range(6))
    with pytest.raises((MoreNeededError, RuntimeError), match="more at 2, 4") as failed:
        analyses.sweep(model, PROMPT, function, points, on=1, progress=False)
    assert failed.value.point_name.startswith("layer=2, position=4")
    assert failed.traceback[-1].lineno + 1 == function.__code__.co_firstlineno + 3
    partial = failed.value.partial
    assert np.isfinite(partial.values[0]).all() and np.isnan(partial.values[2, 4])


def test_points_that_fail_are_empty_where_the_others_go_on(model: LanguageModel) -> None:
    def function(layer: int) -> Any:
        model.layers[layer].output[:, -1] = 0
        return model.logits[0, -1, 3] if layer != 1 else 1 / 0

    points = analyses.grid(layer=model.layers)
    with ThreadPoolExecutor(1) as on:
        found = analyses.sweep(model, PROMPT, function, points, on=on, keep_going=True)
    assert np.isnan(found.values).tolist() == [False, True, False]


def test_an_interrupt_keeps_what_was_finished_and_leaves_no_process(model: LanguageModel) -> None:
    def stop(how_far: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        swept(model, on=2, slowly=0.05, progress=stop)
    values = stopped.value.partial["logit"].values
    assert 0 < np.isfinite(values).sum() < values.size
    assert started_nothing()


def test_random_numbers_of_points_are_not_the_same_in_every_share(model: LanguageModel) -> None:
    points = analyses.grid(layer=range(24))
    found = analyses.sweep(
        model, PROMPT, lambda layer: float(torch.rand(())) + 0 * layer, points, on=2, progress=False
    )
    assert len(set(found.values.tolist())) == 24
