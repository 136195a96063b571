"""Stills on a page that takes styles out, as GitHub does: nothing speaks of colours that are not
there, and what colours said stands there in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from nnsight_magic.results.as_html import html as result_html
from nnsight_magic.results.record import Extent, Prediction, PromptResult, RunModel, RunRecord
from nnsight_magic.views import (
    ChartView,
    ChecksView,
    GridView,
    HeadsView,
    Step,
    StepsView,
    TensorView,
    TokenStrip,
    TraceView,
    View,
    WrittenView,
    compare,
    show,
    tokens_view,
    tree_view,
)
from nnsight_magic.views.data.checks import Check, Checked
from nnsight_magic.views.data.two_texts import two_texts
from nnsight_magic.views.display import still_bundle
from nnsight_magic.views.live.view import View as Base
from tests.views.every_kind import Asked, chart_of_values, written_texts
from tests.views.stripped import stripped, words
from tests.views.test_points import view as points_view

TOKENS = ["<s>", " a", " <b>x</b>"]
GUESSES = [(" Paris", 0.46), (" <i>", 0.25), (" of", 0.0002)]
CLEAN = [(" Paris", 0.86), (" Rome", 0.04)]
TEXTS = two_texts([" Paris", " is"], [" Rome", " is"])


def strip() -> TokenStrip:
    return TokenStrip(TOKENS, "first", top=[GUESSES] * 3, clean=[CLEAN] * 3, kl=[0, 1.66, 0.4])


KINDS: dict[str, Callable[[], Any]] = {
    "tokens": lambda: tokens_view(strip(), "what"),
    "numbers": lambda: tokens_view(TokenStrip(TOKENS, numbers={"sign": [-1, float("nan"), 2]})),
    "grid": lambda: GridView([[GUESSES] * 3] * 4, TOKENS, title="lens"),
    "heads": lambda: HeadsView(
        np.full((2, 1, 3, 3), 0.25), [0, 4], TOKENS, {"first": np.array([[0.5], [0.25]])}, None, "h"
    ),
    "steps": lambda: StepsView(TOKENS, [Step(" Paris", 0.46, GUESSES)], "text"),
    "trace": lambda: TraceView(
        "run 1",
        ["demo"],
        texts=[TEXTS],
        tokens=tokens_view(strip()),
        tensors=[TensorView(torch.eye(9), "e")],
    ),
    "compare": lambda: compare(torch.eye(9), torch.ones(9, 9), "two"),
    "tensor": lambda: show(torch.randn(9, 9), "resid"),
    "tree": lambda: tree_view(torch.nn.Sequential(torch.nn.Linear(3, 4)), "net"),
    "points": lambda: points_view(Asked()),
    "checks": lambda: ChecksView("audit", [Checked("h", [Check("stays", "fails", "it moves")])]),
    "chart": lambda: ChartView(chart_of_values()),
    "written": lambda: WrittenView(written_texts()),
    "several": lambda: show({"a": torch.eye(9), "b": torch.eye(3)}, "kept"),
}


def shown(kind: str) -> str:
    return still_bundle(KINDS[kind]())["text/html"]


@pytest.mark.parametrize("kind", KINDS)
def test_without_styles_no_view_says_that_something_is_coloured(kind: str) -> None:
    assert "coloured by" not in words(shown(kind))
    assert "style=" not in stripped(shown(kind))


def test_with_styles_the_rule_says_it_before_the_name_of_the_numbers() -> None:
    page = shown("tokens")
    assert '.by::before { content: "coloured by " }' in page
    assert "<div class='d by'>KL, 0 to 1.66 nats</div>" in page


def test_bars_are_text_in_proportion_where_styles_are_stripped_and_hidden_where_not() -> None:
    page = shown("tokens")
    drawn = [float(each) for each in re.findall(r"width:([\d.]+)%", page)]
    hidden = re.findall(r"<span style='display:none'>([█▏▎▍▌▋▊▉]+)</span></td>", page)
    eighths = {sign: 8 - k for k, sign in enumerate("█▉▊▋▌▍▎▏")}
    lengths = [sum(map(eighths.__getitem__, each)) / 80 for each in hidden]
    assert lengths == pytest.approx([w / 100 for w in drawn if w >= 1], abs=1 / 160)
    assert len(lengths) == 4
    assert all(each in words(page) for each in hidden)
    assert "46.0%████▋" in words(page)


def test_the_largest_numbers_are_told_in_words() -> None:
    assert "largest KL: ·a 1.66, ·<b>x</b> 0.4, <s> 0" in words(shown("tokens"))
    assert "largest sign: ·<b>x</b> 2, <s> -1" in words(shown("numbers"))


def test_what_two_texts_differ_in_and_what_is_new_is_marked_without_styles() -> None:
    page = stripped(shown("trace"))
    assert "<ruby><mark>·Paris</mark><rt><mark>·Rome</mark></rt></ruby>" in page
    assert "<ruby><span>·is</span><rt><span>·is</span></rt></ruby>" in page
    assert re.search(r"<b><span[^>]*><i>·</i>Paris</span></b>", stripped(shown("steps")))


def test_a_result_without_views_is_as_good() -> None:
    prompt = PromptResult(
        text="a", tokens=("a",), predictions=(Prediction(" Paris", 0.46, 0.5),), kl=(0.7,)
    )
    record = RunRecord(
        "trace", 1, RunModel("demo"), prompts=(prompt,), ran=Extent(1, 2), wrote=("x",)
    )
    page = result_html(record)
    assert "coloured by" not in words(page)
    assert "50.0%█████" in words(page)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("tokens", "<TokensView: what: first: <s>|·a|·<b>x</b> → ·Paris 46.0%>"),
        ("grid", "<GridView: lens: 4 rows × 3 positions>"),
        ("heads", "<HeadsView: h: 2 blocks of 1 heads, 3 tokens>"),
        ("steps", "<StepsView: text: <s> a <b>x</b> → Paris>"),
        ("trace", "<TraceView: run 1 · demo>"),
        ("compare", "<CompareView: first (9, 9) float32, cpu against second (9, 9) float32, cpu"),
        ("tensor", "<TensorView: resid (9, 9) float32, cpu>"),
        ("tree", "<TreeView: net Sequential 16>"),
        ("points", "<PointsView: effect (layer 2, position 3)>"),
        ("several", "<TraceView: kept · 2 tensors>"),
    ],
)
def test_the_repr_of_a_view_says_what_it_shows(kind: str, said: str) -> None:
    assert repr(KINDS[kind]()).startswith(said)


def test_every_kind_of_view_is_looked_at_here() -> None:
    def below(base: type) -> set[type]:
        return {each for sub in base.__subclasses__() for each in {sub, *below(sub)}}

    ours = {each for each in below(Base) if each.__module__.startswith("nnsight_magic.")}
    assert ours == {type(make()) for make in KINDS.values()}
    assert View is Base
