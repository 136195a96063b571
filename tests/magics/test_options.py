"""The lines of the magics."""

from collections import UserDict

import pytest

from nnsight_magic.errors import OptionError
from nnsight_magic.magics.options import OPTIONS, HelpShown, expand, help_text, read_line, split

SETTINGS = {"new_tokens": 20, "compare": True, "view": True}


def line(text, magic="trace", settings=SETTINGS, namespace=None):
    return read_line(magic, text, settings, namespace or {})


def test_prompts_are_python_string_literals():
    assert line(r""" "a \"b\" \n" 'c' r"\n" """).prompts == ['a "b" \n', "c", r"\n"]


def test_named_prompts_keep_their_order():
    read = line('clean="a" corrupt="b=c d"')
    assert (read.names, read.prompts) == (["clean", "corrupt"], ["a", "b=c d"])


def test_an_option_never_takes_a_prompt_that_looks_like_one():
    read = line('"--full" "-q" --quiet')
    assert read.prompts == ["--full", "-q"]
    assert not read.full
    assert read.quiet


def test_options_stand_before_and_behind_prompts():
    read = line('--full "a" -o mine "b" -m other')
    assert (read.full, read.output, read.model, read.prompts) == (True, "mine", "other", ["a", "b"])


def test_an_option_takes_a_quoted_value():
    assert line("-f 'a file.txt'").file == "a file.txt"


def test_switches_have_a_no_form_and_a_default_by_setting():
    assert line('"a"').compare is True
    assert line('"a" --no-compare').compare is False
    assert line('"a" --compare', settings={"compare": False}).compare is True


def test_generation_options_go_by_their_transformers_names():
    read = line('"a" -n 5 --temperature 0.7 --do_sample --top-k=3 --num_beams 2', "generate")
    assert read.new_tokens == 5
    assert read.generation == {"temperature": 0.7, "do_sample": True, "top_k": 3, "num_beams": 2}


def test_a_flag_of_generation_does_not_eat_the_prompt_behind_it():
    read = line('--temperature 0.5 "a"', "generate")
    assert (read.generation, read.prompts) == ({"temperature": 0.5}, ["a"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{x}", "3"),
        ("{x + 1} and $x", "4 and 3"),
        ("{{x}}", "{x}"),
        ('{"a": 1}', '{"a": 1}'),
        ("$5 and $nothing", "$5 and $nothing"),
        ("{ }", "{ }"),
    ],
)
def test_expressions_are_expanded(text, expected):
    assert expand(text, {"x": 3}) == expected


def test_a_missing_name_is_an_error_and_not_left_as_it_is():
    with pytest.raises(OptionError, match="NameError"):
        expand("{nothing}", {})


def test_quotation_that_does_not_end_is_an_error():
    with pytest.raises(OptionError, match="does not end"):
        split('"a b')


@pytest.mark.parametrize("magic", OPTIONS)
def test_every_magic_has_help_that_lists_every_option(magic):
    with pytest.raises(HelpShown):
        line("--help", magic)
    text = help_text(magic)
    for option in OPTIONS[magic]:
        assert option.name in text
        assert option.help in text


@pytest.mark.parametrize("magic", OPTIONS)
def test_an_unknown_option_is_refused_by_every_magic(magic):
    with pytest.raises(OptionError, match="unknown option"):
        line("--no-such-option", magic)


def test_a_number_may_be_quoted():
    assert read_line("generate", '"a" -n "5"', {}, {}).new_tokens == 5


def test_the_names_of_the_notebook_are_taken_once_for_all_expressions_of_a_line():
    class Counted(UserDict):
        taken = 0

        def keys(self):
            self.taken += 1
            return super().keys()

    names = Counted(xs=[1, 2], ys=[2])
    line = read_line(
        "trace", '"{xs[0]} {ys[0]}" "{[x for x in xs if x in ys]} {(z := 3)}"', {}, names
    )
    assert line.prompts == ["1 2", "[2] 3"]
    assert names.taken == 1
    assert "z" not in names
    read_line("trace", '"no braces"', {}, names)
    assert names.taken == 1
