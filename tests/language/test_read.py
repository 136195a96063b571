"""All problems of a cell together, those in lines that are no Python among them."""

import pytest

from nnsight_magic.errors import CellError
from nnsight_magic.language.read import read


def lines_of(source, model):
    with pytest.raises(CellError) as raised:
        read(source, model, {}, first_line=2)
    return sorted(problem.span.line for problem in raised.value.problems)


def test_two_lines_that_do_not_parse_are_both_reported(model):
    assert lines_of("x = = 1\ny = 2\nz = 3 3", model) == [2, 4]


def test_a_wrong_path_is_reported_beside_a_line_that_does_not_parse(model):
    assert lines_of("x = layers[7].output\ny = = 1\nlayers = 3", model) == [2, 3, 4]


def test_a_broken_head_of_a_block_leaves_the_block_to_be_read(model):
    assert lines_of("for i in range(3) x\n    y = layers[7].output\nz = 1", model) == [2, 3]


def test_names_of_a_broken_line_are_not_missed_in_the_others(model):
    assert lines_of("x = = 1\ny = x", model) == [2]


@pytest.mark.parametrize(
    "source", ["x = (1\ny = 2", "x = 'a\ny = = 2\n'", "  x = 1\ny = 2\n z = 3"]
)
def test_where_the_structure_is_broken_only_that_is_reported(source, model):
    assert len(lines_of(source, model)) == 1


def test_what_is_right_gives_its_program(model):
    assert read("h = layers[1].output", model, {}).saved == ("h",)
