"""Probes: against scikit-learn by hand and closed forms; controls, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.analyses.probe_fits import folds_of, interval
from nnsight_magic.errors import BadInputError
from tests import tiny

CITIES = [k // 6 for k in range(144)]  # 24 groups of 6
COUNTRY = ["France" if each % 2 else "Japan" for each in CITIES]


def noise(rows: int = 144, size: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))


def told(strength: float, seed: int = 1) -> torch.Tensor:
    """States in which one number says the country."""
    states = noise(seed=seed)
    states[:, 0] += strength * torch.tensor([each == "France" for each in COUNTRY])
    return states


def by_hand(states: torch.Tensor, label: np.ndarray, folds: Any, strength: float) -> Any:
    """Accuracy and AUC by scikit-learn, standardised by hand."""
    x = states.double().numpy()
    right, areas = np.zeros(len(x), bool), []
    for train, held in folds:
        mean, std = x[train].mean(0), x[train].std(0)
        model = LogisticRegression(C=strength, max_iter=1000)
        model.fit((x[train] - mean) / std, label[train])
        z = (x[held] - mean) / std
        right[held] = model.predict(z) == label[held]
        scores = model.predict_proba(z)
        areas.append(
            roc_auc_score(label[held], scores[:, 1])
            if len(model.classes_) == 2
            else roc_auc_score(label[held], scores, multi_class="ovr")
        )
    return right.mean(), np.mean(areas)


@pytest.mark.parametrize("strength", [1.0, 0.05])
@pytest.mark.parametrize("classes", [2, 3])
def test_accuracy_and_area_are_scikit_learns(strength: float, classes: int) -> None:
    label = np.array([each % classes for each in CITIES])
    states = {2: told(1), 7: noise() + 0.7 * torch.tensor(label)[:, None]}
    found = analyses.probe(states, label, groups=CITIES, strength=strength, draws=0, progress=False)
    folds = folds_of(label, np.array(CITIES), 5, 0)
    assert sorted(np.concatenate([held for _, held in folds])) == [*range(144)]
    for layer, each in states.items():
        accuracy, area = by_hand(each, label, folds, strength)
        assert float(found.accuracy.sel(layer=layer)) == pytest.approx(accuracy, abs=1e-6)
        assert float(found.auc.sel(layer=layer)) == pytest.approx(area, abs=1e-6)
    assert found.majority == pytest.approx(np.bincount(label).max() / 144)


def test_class_means_are_the_difference_of_means() -> None:
    states, label = told(2), np.array([each % 2 for each in CITIES])
    found = analyses.probe(
        {4: states}, COUNTRY, groups=CITIES, method="means", draws=0, progress=False
    )
    assert found.classes == ("France", "Japan")
    x, right = states.double().numpy(), np.zeros(144, bool)
    own = 1 - label  # Japan is the second class
    for train, held in folds_of(own, np.array(CITIES), 5, 0):
        z = (x - x[train].mean(0)) / x[train].std(0)
        one, two = (z[train][own[train] == k].mean(0) for k in (0, 1))
        score = (z[held] - (one + two) / 2) @ (two - one)
        right[held] = (score > 0) == own[held]
    assert float(found.accuracy[0]) == pytest.approx(right.mean())
    direction = found.direction(toward="France")
    wanted = x[own == 0].mean(0) - x[own == 1].mean(0)
    np.testing.assert_allclose(direction.vectors[4], wanted, rtol=1e-5, atol=1e-6)
    assert direction.words == "from Japan to France"


def test_a_direction_is_as_long_as_the_classes_are_apart_along_it() -> None:
    states = told(4)
    found = analyses.probe({9: states}, COUNTRY, groups=CITIES, draws=0, progress=False)
    vector = found.direction(toward="France").vectors[9]
    is_france = torch.tensor([each == "France" for each in COUNTRY])
    apart = states[is_france].mean(0) - states[~is_france].mean(0)
    assert float(vector @ apart / vector.norm()) == pytest.approx(float(vector.norm()), rel=1e-4)
    assert vector.abs().argmax() == 0 and vector[0] > 0
    back = found.direction(toward="Japan").vectors[9]
    torch.testing.assert_close(back, -vector)


def test_of_several_classes_each_has_a_direction() -> None:
    label = [each % 3 for each in CITIES]
    states = noise()
    states[:, :3] += 5 * torch.nn.functional.one_hot(torch.tensor(label), 3)
    found = analyses.probe({1: states}, label, groups=CITIES, draws=0, progress=False)
    for k in range(3):
        assert int(found.direction(toward=str(k)).vectors[1].argmax()) == k
    with pytest.raises(BadInputError, match="Toward which class"):
        found.direction()
    with pytest.raises(BadInputError, match="no class '7'"):
        found.direction(toward="7")


# -- what can be told, and what cannot ---------------------------------------------------------


def test_what_is_there_is_found_and_noise_is_not() -> None:
    states = {3: noise(), 8: told(6), 9: noise(seed=5)}
    found = analyses.probe(states, COUNTRY, groups=CITIES, progress=False)
    assert found.best == 8
    assert float(found.accuracy.sel(layer=8)) > 0.97
    assert found.by_chance == pytest.approx(1 / 21)
    assert found.control.sizes == {"draw": 20, "layer": 3}
    for layer in (3, 9):
        assert 0.25 < float(found.accuracy.sel(layer=layer)) < 0.75
        assert 0.4 < float(found.control.sel(layer=layer).mean()) < 0.6
    nothing = analyses.probe({3: noise()}, COUNTRY, groups=CITIES, progress=False)
    assert nothing.by_chance > 0.05


def test_a_probe_that_knows_the_city_is_unmasked_by_groups() -> None:
    """States that say which city it is, and nothing of its country."""
    own = torch.eye(24)[CITIES] * 5 + 0.1 * noise(size=24)
    split = analyses.probe({0: own}, COUNTRY, draws=0, progress=False)
    grouped = analyses.probe({0: own}, COUNTRY, groups=CITIES, progress=False)
    assert float(split.accuracy[0]) == 1.0
    assert "without groups" in split.notices[0]
    assert float(grouped.accuracy[0]) < 0.6
    assert float(grouped.control.mean()) < 0.65


def test_the_control_keeps_the_number_of_groups_of_each_class() -> None:
    from nnsight_magic.analyses.probe_fits import shuffled
    from nnsight_magic.analyses.probe_rows import rows_of

    label = ["a" if each < 6 else "b" for each in CITIES]
    rows = rows_of({0: noise()}, label, CITIES, site=None, layers=None)
    draws = [*shuffled(rows, 20, 0)]
    for drawn in draws:
        assert np.bincount(drawn).tolist() == [36, 108]
        assert all(len({*drawn[rows.group == g]}) == 1 for g in range(24))
    assert len({tuple(each) for each in draws}) == 20
    within = rows_of({0: noise()}, [k % 2 for k in range(144)], CITIES, site=None, layers=None)
    for drawn in shuffled(within, 3, 0):
        assert all(drawn[within.group == g].sum() == 3 for g in range(24))
    mixed = ["a" if k % 7 or each % 2 else "b" for k, each in enumerate(CITIES)]
    some = rows_of({0: noise()}, mixed, CITIES, site=None, layers=None)
    for drawn in shuffled(some, 3, 0):
        assert all(len({*drawn[some.group == g]}) == 1 for g in range(24))
        assert 2 <= len({*some.group[drawn == 1]}) <= 4


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), min_size=6, max_size=20),
    st.integers(2, 8),
    st.integers(0, 3),
)
def test_no_group_stands_on_both_sides(
    groups: list[tuple[int, int]], count: int, seed: int
) -> None:
    groups = [(k, size) for k, (_, size) in zip([0, 1, 2] * 2, groups, strict=False)] + groups[6:]
    label = np.concatenate([[k] * size for k, size in groups])
    group = np.concatenate([[at] * size for at, (_, size) in enumerate(groups)])
    seen = []
    for train, held in folds_of(label, group, count, seed):
        assert not {*group[train]} & {*group[held]}
        assert {*label[train]} == {*label}
        seen += held.tolist()
    assert sorted(seen) == [*range(len(label))]


def test_intervals_count_groups_and_not_rows() -> None:
    """Against Wilson's formula worked out by hand: 8 of 10, and 20 of 20."""
    low, high = interval(0.8, np.repeat(np.arange(10), 6))
    assert (low, high) == pytest.approx((0.4901625, 0.9433178), abs=1e-5)
    low, high = interval(1.0, np.arange(20))
    assert (low, high) == pytest.approx((0.8388749, 1.0), abs=1e-5)
    uneven = interval(0.8, np.array([0] * 90 + [*range(1, 11)]))
    assert uneven[0] < 0.2 and uneven[1] > 0.95  # one group has nearly all rows


def test_few_groups_are_said_to_show_nothing() -> None:
    few = [k // 18 for k in range(144)]
    found = analyses.probe(
        {0: told(6)}, [each % 2 for each in few], groups=few, draws=3, progress=False
    )
    assert "only 8 groups are held out" in found.notices[0]
    assert "nothing follows" in found.text()
    assert "nothing follows" in found.view().still()


# -- what it is given ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    texts = [f"{sentence}{' and' * (k % 3)}" for k in range(12) for sentence in tiny.SENTENCES]
    folder: Path = tmp_path_factory.mktemp("acts")
    return analyses.stream(model, texts, folder, sites=["resid_post", "heads"], layers=[0, 2])


def test_the_rows_of_a_store(store: Any) -> None:
    sentence = store.rows["text"] % len(tiny.SENTENCES)
    labels = pandas.Series(np.where(sentence % 2, "odd", "even"))
    options: dict[str, Any] = {"site": "resid_post", "draws": 2, "progress": False}
    found = analyses.probe(store, labels, **options)
    assert found.places == [0, 2]
    assert found.accuracy.attrs["site"] == "resid_post"
    others = [
        labels.tolist(),
        torch.tensor((sentence % 2).tolist()),
        lambda row: "odd" if row.text % len(tiny.SENTENCES) % 2 else "even",
    ]
    for each in others:
        again = analyses.probe(store, each, **options)
        assert np.array_equal(again.accuracy.values, found.accuracy.values)
    heads = analyses.probe(store, labels, site="heads", layers=[2], draws=0, progress=False)
    flat = {2: store.load("heads", 2).flatten(1)}
    by_tensor = analyses.probe(flat, labels, draws=0, progress=False)
    assert np.array_equal(heads.accuracy.values, by_tensor.accuracy.values)


def test_labels_of_texts_fit_all_their_rows(tmp_path: Path) -> None:
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    store = analyses.stream(model, tiny.SENTENCES * 3, tmp_path, layers=[1], at=[0, -1])
    texts = [k % 2 for k in range(3 * len(tiny.SENTENCES))]
    short = analyses.probe(store, texts, groups="text", draws=0, progress=False)
    rows = [texts[k] for k in store.rows["text"]]
    long = analyses.probe(store, rows, groups=lambda row: row.text, draws=0, progress=False)
    assert np.array_equal(short.accuracy.values, long.accuracy.values)
    assert short.accuracy.attrs["groups"] == len(texts)


def test_rows_without_a_label_are_left_out() -> None:
    states = told(3)
    states[:12] = float("nan")
    labels = [None if k < 12 else each for k, each in enumerate(COUNTRY)]
    found = analyses.probe({0: states}, labels, groups=CITIES, draws=0, progress=False)
    rest = analyses.probe(
        {0: states[12:]}, COUNTRY[12:], groups=CITIES[12:], draws=0, progress=False
    )
    assert found.accuracy.attrs["rows"] == 132
    assert float(found.accuracy[0]) == float(rest.accuracy[0])


NAN = noise()
NAN[[3, 77], 5] = float("nan")


@pytest.mark.parametrize(
    ("states", "labels", "options", "said"),
    [
        (noise(), COUNTRY[:-1], {}, "There are 144 rows and 143 labels"),
        (noise(), COUNTRY, {"groups": CITIES[:9]}, "There are 144 rows and 9 groups"),
        (noise(), ["a"] * 144, {}, "All labels are 'a'"),
        (noise(), [None] * 144, {}, "None of the 144 rows has a label"),
        (NAN, COUNTRY, {}, r"NaN or infinite in 2 of 144 rows \(3, 77\)"),
        (noise(), COUNTRY, {"groups": [*range(144)]}, "has one row alone"),
        (noise(), COUNTRY, {"groups": [0] * 144}, "All rows are of one group"),
        (noise(), ["a"] * 138 + ["b"] * 6, {"groups": CITIES}, "'b' stands in one group alone"),
        (noise(), [*range(144)], {}, "144 classes of 144 rows"),
        (noise(), COUNTRY, {"groups": [None, *CITIES[1:]]}, "Row 0 has a label and no group"),
        (noise(), "country", {}, "'country' is no column of a store"),
        (noise(), lambda row: 1, {}, "of tensors give a list"),
        (noise(), 7, {}, "found int"),
        (torch.zeros(144), COUNTRY, {}, r"are \(144,\)"),
        ({0: noise(), 1: noise(3)}, COUNTRY, {}, "as many rows; found 0: 144, 1: 3"),
        ({}, COUNTRY, {}, "the dict is empty"),
        ("states", COUNTRY, {}, "is str"),
        ({0: noise()}, COUNTRY, {"layers": [4]}, "no states of 4"),
        ({0: noise()}, COUNTRY, {"site": "heads"}, "site= chooses among"),
        (noise(), COUNTRY, {"method": "svm"}, "no method 'svm'"),
        (noise(), COUNTRY, {"folds": 1}, "at least 2 folds"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_words(
    states: Any, labels: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInputError, match=said):
        analyses.probe(states, labels, **{"draws": 0, "progress": False, **options})


def test_what_a_store_has_not_is_named(store: Any) -> None:
    labels = [k % 2 for k in range(len(store))]
    for options, said in (
        ({}, "The store has heads, resid_post; say which"),
        ({"site": "mlp"}, "no 'mlp'; it has heads, resid_post"),
        ({"site": "heads", "layers": [1]}, "no heads of block 1; it has 0, 2"),
    ):
        with pytest.raises(BadInputError, match=said):
            analyses.probe(store, labels, **options)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sklearn" else known(name)
    )
    with pytest.raises(BadInputError, match=r"nnsight_magic\[analyses\]"):
        analyses.probe({0: noise()}, COUNTRY)


def test_it_is_imported_with_the_first_probe_alone() -> None:
    import subprocess

    code = (
        "import sys; from nnsight_magic import analyses; analyses.probe; analyses.Probe; "
        "print('sklearn' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


# -- forms --------------------------------------------------------------------------------------


def test_the_forms_say_the_same() -> None:
    states = {3: noise(), 8: told(6)}
    found = analyses.probe(states, COUNTRY, groups=CITIES, progress=False)
    text = found.text()
    assert "best at layer 8" in text and "as good in 0 of 20 draws" in text
    accuracy = f"{float(found.accuracy.sel(layer=3)):.2f} ("
    assert accuracy in text and accuracy in found.view().still()
    axes = found.figure().axes[0]
    drawn = [line for line in axes.lines if line.get_label() != "majority class"]
    assert any(np.allclose(line.get_ydata(), found.accuracy.values) for line in drawn)
    assert found.dataset()["control"].sizes["draw"] == 20
    assert found.view().still_png()


def test_names_instead_of_blocks() -> None:
    found = analyses.probe(
        {"early": noise(), "late": told(6)}, COUNTRY, groups=CITIES, draws=2, progress=False
    )
    assert found.accuracy.dims == ("site",) and found.best == "late"
    with pytest.raises(BadInputError, match="no block numbers"):
        found.direction()


@pytest.mark.demo
def test_the_country_of_a_city_is_readable_from_block_23_on(
    demo: LanguageModel, tmp_path: Path
) -> None:
    cities = {
        "France": ["Paris", "Lyon", "Marseille", "Nice", "Bordeaux", "Toulouse"],
        "Italy": ["Rome", "Milan", "Naples", "Turin", "Venice", "Florence"],
        "Japan": ["Tokyo", "Osaka", "Kyoto", "Nagoya", "Kobe", "Hiroshima"],
    }
    known = [(city, country) for country, all_ in cities.items() for city in all_]
    texts = [f"{who} went to {city} with my brother" for city, _ in known for who in ("I", "He")]
    store = analyses.stream(demo, texts, tmp_path, layers=[0, 10, 23], progress=False)
    country = [name for _, name in known for _ in range(2)]
    city = [name for name, _ in known for _ in range(2)]
    found = analyses.probe(store, country, groups=city, folds=6, draws=5, progress=False)
    late, early = (float(found.accuracy.sel(layer=k)) for k in (23, 0))
    assert late > 0.8 and late > early
    assert found.accuracy.attrs["model"]
