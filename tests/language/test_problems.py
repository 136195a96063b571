"""How problems of a cell are shown."""

import pytest

from nnsight_magic.language.problems import (
    LINES_SHOWN,
    Problem,
    Span,
    caret,
    excerpt,
    on_written_lines,
    render,
)
from nnsight_magic.near import did_you_mean, listing


def test_the_caret_stands_under_the_word():
    report = render([Problem(Span(2, 4, 9), "no 'layer'", "did you mean 'layers'?")],
                    ["%%trace", "x = layer[1]"], "Cell In[3]", False)  # fmt: skip
    assert report[0] == "Cell In[3], line 2: not run"
    assert report[2].index("^") == report[1].index("layer[")
    assert report[2].count("^") == len("layer")


def test_tabs_stay_tabs_and_wide_characters_count_twice():
    assert caret("\tx", 1, 2) == "\t^"
    assert caret("日本 x", 3, 4) == "     ^"
    assert caret("日本", 0, 2) == "^^^^"


def test_a_report_has_at_most_fifteen_lines_and_says_what_it_leaves_out():
    problems = [Problem(Span(n, 0, 1), f"problem {n}") for n in range(1, 40)]
    report = render(problems, ["x"] * 40, "Cell", False)
    assert len(report) <= LINES_SHOWN
    assert "39 problems" in report[0]
    assert report[-1].strip().endswith("more")


def test_problems_stand_in_the_order_of_their_lines():
    problems = [Problem(Span(2, 0, 1), "second"), Problem(Span(1, 0, 1), "first")]
    report = "\n".join(render(problems, ["a", "b"], "Cell", False))
    assert report.index("first") < report.index("second")


@pytest.mark.parametrize("start", [0, 100, 990])
def test_a_long_line_is_cut_around_the_problem(start):
    line = "".join(chr(97 + k % 26) for k in range(1000))
    shown, first, last = excerpt(line, start, start + 5)
    assert len(shown) < 100
    assert shown[first:last] == line[start : start + 5]


def test_a_near_name_is_offered_and_a_far_one_is_not():
    assert did_you_mean("laeyrs", ["layers", "embed"]) == "did you mean 'layers'?"
    assert did_you_mean("zzz", ["layers"]) == ""


def test_a_long_listing_is_counted():
    assert listing(map(str, range(20)), 3) == "0, 1, 2, … (17 more)"


def test_a_problem_on_a_line_that_was_transformed_covers_the_line_as_written():
    found = on_written_lines(
        Problem(Span(1, 5, 9), "m"), ["  %time x"], ["get_ipython().run_line_magic('time', 'x')"]
    )
    assert found.span == Span(1, 2, 9)


def test_a_problem_in_an_indented_cell_moves_with_the_indentation():
    found = on_written_lines(Problem(Span(1, 0, 1), "m"), ["    x = 1"], ["x = 1"])
    assert found.span == Span(1, 4, 5)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_report_keeps_within_the_terminal_s_width(width):
    source = "y = layers[30].mlp.output + layers[3].mlp.output + layers[4].attn.output + 1"
    message = "layers has 30 modules, so there is no layers[30]"
    problem = Problem(Span(1, 11, 13), message, "indices go from 0 to 29")
    report = render([problem], [source], "Cell In[3]", False, width)
    assert max(map(len, report)) <= width
    assert message in " ".join(" ".join(report).split())


def test_a_message_of_several_lines_keeps_its_lines():
    problem = Problem(Span(1, 0, 1), "There is no such model.\nLooked for:\n  a folder\nTry demo.")
    assert render([problem], ["x"], "Cell In[3]", False)[3:] == [
        "      There is no such model.",
        "      Looked for:",
        "        a folder",
        "      Try demo.",
    ]
