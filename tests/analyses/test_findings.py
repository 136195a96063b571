"""What is known of language models, found in the demo model, by two ways each where there are two.

The bounds are wide: they say what the finding is, not what one machine printed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nnsight_magic import LanguageModel, analyses

FRANCE = "The capital of France is the city of"
GERMANY = "The capital of Germany is the city of"
CAPITALS = (FRANCE, GERMANY, " Paris", " Berlin")
COUNTRY, LAST = 3, 7

MARY = "When Mary and John went to the store, John gave a drink to"
JOHN = "When Mary and John went to the store, Mary gave a drink to"
DRINK = (MARY, JOHN, " Mary", " John")
QUIET: Any = {"progress": False}


def best(result: Any, count: int) -> list[tuple[int, int]]:
    """The largest heads of a grid of blocks and heads."""
    order = np.argsort(-result.values.ravel())[:count]
    return [tuple(int(k) for k in np.unravel_index(at, result.shape)) for at in order]


def test_the_same_induction_heads_on_other_random_tokens(demo: LanguageModel) -> None:
    """Olsson et al. 2022: in a repeated text they look behind the token that they stand on."""
    found = [
        analyses.attention(demo, induction=True, repeated=50, seed=seed).scores for seed in (0, 1)
    ]
    for scores in found:
        induction = scores.sel(score="induction")
        assert set(best(induction, 5)) == {(18, 6), (17, 3), (17, 4), (17, 5), (18, 7)}
        assert float(induction.sel(layer=18, head=6)) > 0.7
        previous = scores.sel(score="previous")
        assert set(best(previous, 2)) == {(16, 0), (11, 1)}
        assert float(induction.sel(layer=16, head=0)) < 0.1  # it looks one token back


def test_the_capital_is_decided_at_the_country_and_then_at_the_last_token(
    demo: LanguageModel,
) -> None:
    """Meng et al. 2022: the fact is at the subject early on, and moves at one block."""
    layers = [0, 12, 22, 23, 24]
    effect = analyses.patch(demo, *CAPITALS, layers=layers, **QUIET)
    share = analyses.normalized(effect)
    assert float(share.sel(layer=0, position=COUNTRY)) == pytest.approx(1, abs=0.02)
    assert float(share.sel(layer=22, position=COUNTRY)) > 0.9
    assert float(share.sel(layer=24, position=COUNTRY)) < 0.1
    assert float(share.sel(layer=22, position=LAST)) < 0.2
    assert float(share.sel(layer=23, position=LAST)) > 0.6
    others = [k for k in range(8) if k not in (COUNTRY, LAST)]
    assert float(abs(share.sel(position=others)).max()) < 0.3


def test_one_head_carries_most_of_the_capital_by_patching_and_by_attribution(
    demo: LanguageModel,
) -> None:
    options: Any = {"site": "heads", **QUIET}
    exact = analyses.patch(demo, *CAPITALS, **options)
    share = analyses.normalized(exact)
    assert best(share, 2) == [(23, 4), (29, 1)]
    assert 0.5 < float(share.sel(layer=23, head=4)) < 0.8
    assert float(share.sel(layer=29, head=0)) < -0.1  # it works against
    scores = analyses.attribute(demo, *CAPITALS, method="norm", check=0, **options)
    assert best(scores, 1) == [(23, 4)]
    assert np.corrcoef(exact.values.ravel(), scores.values.ravel())[0, 1] > 0.9
    gone = analyses.ablate(demo, FRANCE, " Paris", **options)
    assert best(-gone, 1) == [(23, 4)]


def test_who_is_given_the_drink_is_told_by_a_head_that_looks_at_the_other_name(
    demo: LanguageModel,
) -> None:
    """Wang et al. 2022, indirect object; here the best head says who it is not."""
    heads = analyses.patch(demo, *DRINK, site="heads", **QUIET)
    share = analyses.normalized(heads)
    assert best(share, 2) == [(23, 3), (29, 1)]
    assert float(share.sel(layer=23, head=3)) > 0.35
    pattern = analyses.attention(demo, MARY, layers=[16, 17, 23]).patterns
    second = [k for k, text in enumerate(demo.tokens(MARY).texts) if text == " John"][1]
    looks = pattern.sel(layer=23, head=3).values[-1]
    assert int(looks[1:].argmax()) + 1 == second
    direct = analyses.dla(demo, MARY, " Mary", " John", by="head")
    assert best(direct, 2) == [(23, 3), (29, 1)]
    assert set(best(-direct, 2)) == {(24, 4), (29, 0)}


def test_the_edges_of_the_drink_lead_from_that_head_to_the_logits(demo: LanguageModel) -> None:
    edges = analyses.attribute_edges(demo, *DRINK, check=20, **QUIET)
    assert edges.attrs["correlation"] > 0.7
    logits = edges.sel(reader="logits")
    heads = [name for name in logits["writer"].values if "mlp" not in name and name != "embed"]
    order = logits.sel(writer=heads).sortby(logits.sel(writer=heads))["writer"].values
    assert order[-1] == "23.3"
    estimate, exact = next(
        (row[2], row[3]) for row in edges.attrs["exact"] if row[:2] == ["23.3", "logits"]
    )
    assert estimate == pytest.approx(exact, rel=0.3)
