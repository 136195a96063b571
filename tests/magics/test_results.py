"""How results look: text, terminal, HTML."""

import pickle
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.text import Text

from nnsight_magic import terminal
from nnsight_magic.magics import shown
from nnsight_magic.results.as_html import html
from nnsight_magic.results.as_text import layout, plain_text, tokens_line
from nnsight_magic.results.as_view import tensors_of, tokens_of
from nnsight_magic.results.parts import names_of, others, strips_of_two
from nnsight_magic.results.record import (
    Extent,
    Prediction,
    PromptResult,
    RunModel,
    RunRecord,
    SavedVariable,
)
from nnsight_magic.results.result import TraceResult
from nnsight_magic.results.saved import describe_saved
from nnsight_magic.views.data.words import bar, percent, size_text, visible
from nnsight_magic.views.live.view import Selection


def a_record(**changes):
    prompts = (
        PromptResult(
            "The <s>\n",
            ("The", " <s>", "\n", " & \"x\" 'y'"),
            None,
            (Prediction(" Paris", 5, 0.656, 0.4), Prediction("<b>", 6, 0.0001, 0.0)),
        ),
    )
    saved = (
        SavedVariable("h", "tensor", (1, 9, 576), "float32", "cpu", "layers[20].output", 20736),
    )
    values = {
        "magic": "trace",
        "number": 3,
        "model": RunModel("demo"),
        "prompts": prompts,
        "saved": saved,
        "ran": Extent(10, 30, stopped_at="layers[9].output", seconds=0.0421, forwards=1),
        "wrote": ("layers[22].mlp.output",),
        "notices": ("a <notice>",),
    }
    return RunRecord(**{**values, **changes})


class Tags(HTMLParser):
    """Collects tags and text; fails on tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def test_plain_text_has_no_escape_codes_and_says_everything():
    text = plain_text(a_record())
    assert "\x1b" not in text
    for part in (
        "run 3 · demo · ran 10 of 30 blocks, stopped after layers[9].output · 42 ms",
        "wrote layers[22].mlp.output",
        "The|·<s>|⏎",
        "65.6%",
        "(1, 9, 576) float32 cpu layers[20].output",
        "note: a <notice>",
    ):
        assert part in " ".join(text.split())


@pytest.mark.parametrize("width", [40, 60, 100, 200])
def test_a_terminal_s_width_is_kept(width):
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    console.print(layout(a_record(), colour=True, width=width))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue()).split("\n")
    assert max(map(len, lines)) <= width


def test_html_is_well_formed_and_escapes_every_text():
    tags = Tags(html(a_record()))
    assert set(tags.tags) <= {"div", "style", "span", "b", "i", "code", "table", "tr", "th", "td"}
    assert "·<s>" in tags.text
    assert "a <notice>" in tags.text
    assert "<b>" in tags.text  # the token, as text


def test_html_needs_nothing_from_outside_and_no_script():
    text = html(a_record())
    for word in ("http", "<script", "<img", "@import", "url("):
        assert word not in text


def test_html_takes_its_colours_from_the_theme_with_fallbacks():
    variables = re.findall(r"var\((--jp-[\w-]+)(,?)", html(a_record()))
    assert variables
    assert all(comma for _, comma in variables)


def test_long_prompts_and_many_prompts_are_cut():
    prompt = PromptResult("", tuple("abcdefgh" * 200))
    result = a_record(prompts=(prompt,) * 20)
    assert "more prompts" in plain_text(result)
    assert "more prompts" in html(result)
    assert len(html(result)) < 400_000


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" Paris", "·Paris"),
        ("\n", "⏎"),
        ("a\tb", "a⇥b"),
        ("  ", "··"),
        ("\x00", "\\x00"),
        ("日本", "日本"),
        ("", "∅"),
        ("👩\u200d👧", "👩\u200d👧"),
    ],
)
def test_blanks_and_controls_of_a_token_are_visible(token, shown):
    assert visible(token) == shown


@pytest.mark.parametrize(
    ("share", "shown"), [(0, "    "), (1, "████"), (0.5, "██  "), (0.03125, "▏   "), (2, "████")]
)
def test_bars_are_drawn_in_eighths(share, shown):
    assert bar(share, 4) == shown


def test_a_shape_of_one_axis_is_written_as_python_writes_it():
    import torch

    result = a_record(saved=(describe_saved("p", "logits[0, -1]", torch.zeros(49152)),))
    for text in (plain_text(result), html(result)):
        assert "(49152,)" in text


def test_numbers_read_well():
    assert [percent(p) for p in (0.656, 0.0001, 0)] == ["65.6%", "<0.1%", "0%"]
    assert [size_text(n) for n in (12, 20736, 3_000_000, 5e9)] == [
        "12 B",
        "20.7 KB",
        "3.00 MB",
        "5.00 GB",
    ]


def lines_of(shown):
    return re.sub(r"\x1b\[[0-9;]*m", "", shown).split("\n")


@pytest.fixture
def terminal_map(monkeypatch):
    """What a terminal of 80 columns shows of a tensor."""
    monkeypatch.setattr(terminal, "in_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("COLORTERM", "truecolor")
    return shown.terminal_map


def test_a_shown_matrix_is_a_map_in_a_terminal_only():
    import torch

    assert shown.terminal_map(torch.eye(4)) is None


def test_a_map_puts_two_rows_into_one_line_and_a_small_one_is_drawn_larger(terminal_map):
    import torch

    head, *rows = lines_of(terminal_map(torch.eye(4)[None]))
    assert head.startswith("(1, 4, 4) from 0 to 1")
    assert rows == ["▀" * 16] * 8


def test_a_large_matrix_is_pooled_to_the_terminal_s_width_and_keeps_its_spike(terminal_map):
    import torch

    matrix = torch.zeros(3, 576)
    matrix[1, 77] = -5
    head, *rows = lines_of(terminal_map(matrix))
    assert "from -5 to 0" in head
    assert "a square: 1 × 8" in head
    assert [len(row) for row in rows] == [72, 72]


def test_matrices_of_one_size_stand_beside_each_other(terminal_map):
    import torch

    _, *rows = lines_of(terminal_map(torch.rand(1, 12, 8, 8)))
    assert rows[0] == "  ".join(["▀" * 8] * 8)
    assert rows[-1] == "8 of 12 are shown"


def test_wide_matrices_stand_below_each_other(terminal_map):
    import torch

    _, *rows = lines_of(terminal_map(torch.rand(3, 7, 576)))
    assert rows == [*["▀" * 72] * 4, "", *["▀" * 72] * 4, "", *["▀" * 72] * 4]
    _, *rows = lines_of(terminal_map(torch.rand(3, 300, 576)))
    assert (len(rows), rows[-1]) == (20, "1 of 3 are shown")


def test_numbers_that_cannot_be_drawn_stay_numbers(terminal_map):
    import torch

    assert terminal_map(torch.zeros(2, 3)) is None  # a few are better read
    assert terminal_map(torch.zeros(2, 2, 2, 30)) is None
    assert terminal_map(torch.zeros(4, 4, dtype=torch.complex64)) is None
    assert terminal_map([[1.0] * 9] * 9) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_map_of_what_is_no_number_is_drawn_too(terminal_map, value):
    import torch

    odd = torch.full((4, 5), value)
    assert len(lines_of(terminal_map(odd))) == 9
    odd[0, 0] = 2
    assert "from" in terminal_map(odd)


@pytest.mark.parametrize("dtype", ["bfloat16", "int64", "bool"])
def test_a_map_takes_any_real_dtype(terminal_map, dtype):
    import torch

    assert "from 0 to 1" in terminal_map(torch.eye(5).to(getattr(torch, dtype)))


def test_a_prompt_that_the_writes_do_not_reach_has_one_column():
    same = (Prediction(" Paris", 5, 0.656, 0.656), Prediction(" Rome", 6, 0.1, 0.1))
    text = plain_text(a_record(prompts=(PromptResult("a", ("a",), "clean", same),)))
    assert "the same without the writes" in text
    assert text.count("65.6%") == 1


def test_tokens_are_told_apart_without_colours():
    assert tokens_line(("a", " b"), colour=False).plain == "a|·b"


@pytest.mark.parametrize("colour", [True, False])
def test_lines_of_tokens_break_between_tokens(colour):
    tokens = [" struggle", " that", ".\n", "\n", "She", " 日本" * 3, "x" * 50] * 4
    text = tokens_line(tokens, colour, 40, Text("→ "))
    lines = text.plain.split("\n")
    assert "".join(lines).replace("|", "") == "→ " + "".join(map(visible, tokens))
    assert all(cell_len(line) <= 40 or "x" * 50 in line for line in lines)
    assert sum(line.strip("|").startswith("She") for line in lines) == 4
    assert lines[0].startswith("→ ·struggle")


def test_a_generation_shows_the_text_without_the_writes_beside_it():
    prompt = PromptResult("a", ("a",), None, (), (" b",), (" c",))
    result = a_record(magic="generate", prompts=(prompt,))
    for text in (plain_text(result), Tags(html(result)).text):
        assert "without the writes" in text
        assert "1 new token" in text


def test_a_list_of_tensors_of_one_shape_is_shown_as_one_tensor():
    import torch

    hidden = [torch.randn(1, 4, 8) for _ in range(4)]
    mixed = [torch.zeros(2), torch.zeros(3)]
    saved = (
        describe_saved("resid", "[b.output for b in layers]", hidden),
        describe_saved("some", "", tuple(hidden[:2])),
        describe_saved("mixed", "", mixed),
        describe_saved("numbers", "", [1.0, 2.0]),
    )
    sizes = {"feature": 8}
    result = a_record(saved=saved, ran=Extent(4, 4), model=RunModel("demo", sizes=sizes))
    first, second, *parts = tensors_of(result, Selection())
    assert [part.title for part in parts] == ["mixed[0]", "mixed[1]"]
    assert first.about["shape"] == [4, 1, 4, 8]
    assert [axis["role"] for axis in first.axes] == ["block", "batch", "token", "feature"]
    assert [axis["role"] for axis in second.axes] == ["item", "batch", "token", "feature"]
    assert others(result) == ["numbers (list of 2)"]
    pickle.loads(pickle.dumps(saved))
    del hidden[2]
    assert others(result)[0] == "resid (list of 4 (1, 4, 8))"


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_drawn_stands_in_words():
    import torch

    values = {
        "meta": torch.zeros(2, device="meta"),
        "sparse": torch.eye(3).to_sparse(),
        "quantised": torch.quantize_per_tensor(torch.randn(2), 0.1, 0, torch.qint8),
    }
    values |= {f"{name}s": [value, value] for name, value in values.items()}
    result = a_record(saved=tuple(describe_saved(name, "", v) for name, v in values.items()))
    assert tensors_of(result, Selection()) == []
    assert [words.partition(" ")[0] for words in others(result)] == list(values)
    assert others(result)[0] == "meta (tensor (2,))"


def test_two_runs_of_a_prompt_are_one_strip_with_both_predictions():
    tops = ((), ((" Paris", 0.6),)), ((), ((" Rome", 0.5),))
    first, second = (
        a_record(number=n, prompts=(PromptResult("a b", ("a", " b"), top=top),))
        for n, top in zip((1, 2), tops, strict=True)
    )
    (strip,) = strips_of_two(first, second, ("run 1", "run 2"))
    assert (strip.top[1], strip.clean[1]) == (((" Paris", 0.6),), ((" Rome", 0.5),))
    assert strip.heads == ("run 1", "run 2")


@pytest.mark.parametrize("tokens", [("c",), ("a", " b")], ids=["another", "stopped early"])
def test_two_runs_that_cannot_be_laid_side_by_side_stand_below_each_other(tokens):
    top = ((), ((" Paris", 0.6),))
    first = a_record(prompts=(PromptResult("a b", ("a", " b"), top=top),))
    other = a_record(prompts=(PromptResult("", tokens),))
    strips = strips_of_two(first, other, ("run 1", "run 3"))
    assert [each.name for each in strips] == ["run 1", "run 3"]


def test_the_prompt_that_the_writes_changed_most_is_looked_at_first():
    tokens = ("a", " b")
    kls = (0.0, 0.0), (0.0, 0.7), (0.3, 0.1)
    result = a_record(prompts=tuple(PromptResult("a b", tokens, kl=kl) for kl in kls))
    assert tokens_of(result, Selection()).strip == 1


def test_several_prompts_without_names_go_by_their_number():
    prompts = (PromptResult("a", ("a",)), PromptResult("b", ("b",), "mine"))
    assert names_of(a_record(prompts=prompts)) == ["prompt 1", "mine"]
    assert names_of(a_record(prompts=prompts[:1])) == [""]


def test_a_result_is_pickled_without_its_tensors():
    import torch

    h = torch.zeros(2)
    result = TraceResult(a_record(saved=(describe_saved("h", "x", h),)))
    again = pickle.loads(pickle.dumps(result))
    assert again == result
    assert (result["h"] is h, again["h"]) == (True, None)


def test_a_result_that_was_pickled_flat_is_read_as_a_record():
    """Before there were records all parts of a result stood beside each other."""
    stored = Path(__file__).with_name("flat_result.pickle").read_bytes()
    result = pickle.loads(stored)
    assert (result.number, result.model, result.variable) == (3, "tiny", "other")
    assert result.edits == ("quiet",)
    assert result.extent == ("ran 2 of 6 blocks, from layers[0] on, stopped after layers[1].output")
    assert (result.seconds, result.forwards, result.idle) == (0.25, 1, ("h.2", "h.3"))
    assert (result.wrote, result.read) == (("layers[1].mlp.output",), ("layers[0].output",))
    assert [each.name for each in result.saved] == ["h", "d"]
    assert result.sizes == {"feature": 8}
    assert result["h"] is None
    assert "note: a notice" in repr(result)
    assert "layers[1].mlp.output" in result._repr_html_()
    assert pickle.loads(pickle.dumps(result)) == result
