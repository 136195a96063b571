"""Tokens, grids, steps and results: what they store and how they stand without a kernel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zlib
from pathlib import Path

import ipywidgets
import pytest
import torch

from nnsight_magic.errors import BadInputError
from nnsight_magic.views import (
    Step,
    StepsView,
    TensorView,
    TokenStrip,
    TraceView,
    bundle,
    compare,
    show,
    tokens_view,
    tree_view,
)
from nnsight_magic.views.display import still_bundle
from nnsight_magic.views.live.tokens import GridView
from nnsight_magic.views.live.trace import stored_share
from nnsight_magic.views.page import models_of, page

HOSTILE = ["<s>", "<b>x</b>", "</script>", "&amp;", '"', "'", "\n", " ", "", "\x00", "�", "👩‍👩‍👧"]
TOP = [[(" Paris", 0.656), (" Rome", 0.038)]] * len(HOSTILE)


def test_strips_round_off_and_keep_each_word_once() -> None:
    strip = TokenStrip(["a", "a"], top=[[("a", 0.123456789)], []], kl=[float("nan"), 0.5])
    packed = strip.packed()
    assert packed["words"] == ["a"]
    assert packed["top"] == [[0, 0.123], []]
    assert packed["numbers"] == {"KL": [None, 0.5]}


def test_columns_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInputError, match="kl has 1 entries for 2 tokens"):
        TokenStrip(["a", "b"], kl=[0.1])
    with pytest.raises(BadInputError, match="found a text"):
        tokens_view("a text")
    with pytest.raises(BadInputError, match="no tokens"):
        tokens_view([])


@pytest.mark.parametrize(
    "view",
    [
        tokens_view(TokenStrip(HOSTILE, name="<i>", top=TOP, clean=TOP, kl=[0.1] * len(HOSTILE))),
        GridView([TOP, TOP], HOSTILE, ["<u>", "1"], "lens"),
        StepsView(HOSTILE, [Step(token, 0.5, TOP[0]) for token in HOSTILE]),
        show(torch.ones(len(HOSTILE), 2), "<u>", tokens=HOSTILE),
        TraceView("<u>", ["<u>"], wrote=["<u>"], notices=["<u>"]),
    ],
    ids=["tokens", "grid", "steps", "tensor", "trace"],
)
def test_no_text_becomes_markup(view: TensorView) -> None:
    for text in (view.still(), page(view).split("<script", 1)[0]):
        for tag in ("<s>", "<b>x", "<i>", "<u>", "</script>"):
            assert tag not in text
    stored = page(view).split('id="state">')[1].split("</script>")[0]
    assert json.loads(stored)["root"] == view.model_id


def test_a_large_grid_stays_small() -> None:
    top = [
        [
            [(f" word{(r * 7 + p * 3 + k) % 4000}", 0.2 / (k + 1)) for k in range(5)]
            for p in range(30)
        ]
        for r in range(30)
    ]
    view = GridView(top, [f" t{k}" for k in range(30)], title="lens")
    size = len(view.packed) * 4 / 3 + sum(map(len, still_bundle(view).values()))
    assert size < 150_000
    grid = json.loads(zlib.decompress(view.packed))
    assert grid["words"][grid["cells"][3][4][0]] == " word33"


def test_steps_stream_in_and_can_be_stopped() -> None:
    pressed = []
    view = StepsView(["a"], running=True, on_stop=lambda: pressed.append(True))
    view.add(Step(" b", 0.5, [(" b", 0.5), (" c", 0.2)], saved=("h",)))
    assert view.steps == [[" b", 0.5, [" b", 0.5, " c", 0.2], ["h"]]]
    view._handle_custom_msg({"do": "stop", "id": 1}, [])
    assert view.stopped
    assert pressed
    view.finish()
    assert not view.running
    assert view.text() == "a →  b"


def test_the_still_form_is_at_the_step_that_the_live_view_is_at() -> None:
    steps = [Step(f" t{k}", 0.5, [(f" t{k}", 0.5), (f" other{k}", 0.1)]) for k in range(3)]
    view = StepsView(["a"], steps)
    assert "new token 3 of 3 (step 2)" in view.still()
    assert "other2" in view.still()
    assert "other0" not in view.still()
    view.selection.step = 0
    assert "new token 1 of 3 (step 0)" in view.still()
    assert "other0" in view.still()


def test_the_still_form_has_the_prediction_after_the_selected_token() -> None:
    tops = [[(" first", 0.5)], [(" second", 0.5)]]
    view = tokens_view(TokenStrip(["a", "b", " new"], top=[*tops, []], generated=1))
    assert "second" in view.still()  # after the prompt, as in the live view
    view.selection.token = 0
    assert "first" in view.still()
    assert "second" not in view.still()


def test_the_still_form_has_the_live_view_s_colours_on_light_and_on_dark() -> None:
    still = tokens_view(TokenStrip(["a", "b"], kl=[0.0, 0.7])).still()
    assert "light-dark(#f7f7f5,#17191e)" in still
    assert "background:#081f4d;color:#fff" in still
    assert "light-dark(#081f4d,#f2f9ff)" in still


def test_bars_stand_where_jupyterlab_does_not_trust_the_page() -> None:
    """It takes every inline style out that has a variable in it."""
    strip = TokenStrip(["a"], "", [[("b", 0.5)]], [[("b", 0.25)]], [0.7])
    inline = re.findall(r"style='([^']*)'", tokens_view(strip).still())
    assert any("width:50.0%" in each and "background:rgba(33,130,230" in each for each in inline)
    assert not any("var(" in each for each in inline)


def test_a_prediction_that_hardly_moved_is_pale() -> None:
    still = tokens_view(TokenStrip(["a", "b"], kl=[0.0, 0.002])).still()
    assert "0 to 0.1 nats" in still
    assert "background:#081f4d" not in still


@pytest.mark.parametrize("count", [1, 6, 40])
def test_a_result_is_bounded_whatever_the_tensors(count: int) -> None:
    tensors = [
        TensorView(torch.randn(1, 64, 2048), f"t{k}", stored=stored_share(count, k))
        for k in range(count)
    ]
    strip = TokenStrip([f" t{k}" for k in range(64)], top=[TOP[0] * 3] * 64, clean=[TOP[0]] * 64)
    view = TraceView("run", tokens=tokens_view(strip), tensors=tensors)
    still = sum(map(len, still_bundle(view).values()))
    assert len(json.dumps(models_of(view))) + still < 200_000
    assert len(page(view)) < 2_000_000


def test_views_of_a_result_share_one_selection() -> None:
    view = TraceView(
        "run",
        tokens=tokens_view(["a", "b"]),
        tensors=[show(torch.ones(2, 2)), compare(torch.ones(2, 2), torch.ones(2, 2))],
        tree=tree_view(torch.nn.Linear(2, 2)),
    )
    view.selection.token = 1
    assert view.tensors[0].selection.token == 1
    assert view.tensors[1].difference.selection is view.selection
    assert view.tree.selection is view.tokens.selection


def test_views_share_a_layout_until_they_are_given_one() -> None:
    first, second = show([1.0]), show([2.0], layout=ipywidgets.Layout(width="60%"))
    assert first.layout is tokens_view(["a"]).layout
    with pytest.raises(AttributeError, match=r"view.layout = ipywidgets.Layout\(width='60%'\)"):
        first.layout.width = "60%"
    second.layout.width = "50%"
    first.layout = ipywidgets.Layout(width="40%")
    assert (first.layout.width, second.layout.width) == ("40%", "50%")


def test_a_page_needs_nothing_from_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "view.html"
    show(torch.randn(12, 64, 64), "attention").save_html(path)
    text = path.read_text()
    assert "<script src" not in text
    assert "<link" not in text
    assert "@import" not in text
    assert text.count("http://") == text.count("http://www.w3.org/")
    assert len(text) - len(bundle.source("page.js")) < 90_000  # beside the code of all views


def test_a_page_stores_more_of_a_tensor_than_a_notebook() -> None:
    view = show(torch.randn(64, 64, 64))
    stored = json.loads(page(view).split('id="state">')[1].split("</script>")[0])
    state = stored["models"][view.model_id]
    assert view.stored["form"] == "plane"
    assert state["stored"]["form"] == "whole"
    view.release()
    assert json.loads(page(view).split('id="state">')[1].split("</script>")[0])["models"]


def test_a_picture_stands_beside_the_html() -> None:
    bundle = still_bundle(show(torch.randn(4, 4)))
    assert set(bundle) == {"text/html", "text/plain", "image/png"}
    assert "<script" not in bundle["text/html"]


def test_where_there_is_no_notebook_a_view_prints_its_text() -> None:
    code = (
        "from nnsight_magic.views import show\nshow([[1.0, 2.0]], 'numbers')._ipython_display_()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "numbers (1, 2) float64, cpu\n"


def test_importing_the_views_imports_no_torch() -> None:
    code = (
        "import sys, nnsight_magic.views\n"
        "from nnsight_magic.views import View, TokenStrip, ModuleNote\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_repr_of_a_view_says_what_it_shows(tiny, tiny_tokenizer):
    from nnsight_magic import LanguageModel
    from nnsight_magic.views import compare, show, tokens_view

    tree = LanguageModel(tiny("llama"), tiny_tokenizer).tree()
    a, b = torch.zeros(3, 4), torch.ones(3, 4)
    assert repr(show(a, "resid")) == "<TensorView: resid (3, 4) float32, cpu>"
    assert repr(tree).startswith("<TreeView: LlamaForCausalLM")
    assert "differ by at most 1" in repr(compare(a, b))
    long = tokens_view(["a\x1b[2J\n"] * 100)
    assert "\x1b" not in repr(long)
    assert len(repr(long)) < 130
