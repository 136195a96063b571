"""`%steer`: what it finds, keeps, shows and refuses."""

from __future__ import annotations

import pytest
import torch

PAIRS = [("Hello WORLD", "Hello world"), ("The CITY is", "The city is")]


@pytest.fixture
def steered(shell):
    shell.ns["pairs"] = PAIRS
    return shell


def test_without_prompts_it_is_an_edit_that_edits_shows_and_switches(steered):
    steered.run("%steer shout --from pairs --layer 1 --strength 2.5")
    assert "edit 'shout' made" in steered.text
    assert "layers[1].output[BEHIND_FIRST] += tensor (32,)" in steered.text
    direction, model = steered.ns["shout"], steered.ns["model"]
    write = model.edits["shout"].writes[0]
    torch.testing.assert_close(write.value, 2.5 * direction.vectors[1])
    steered.run("%edits shout --off")
    assert not model.edits["shout"].enabled and "BEHIND_FIRST" in steered.text
    steered.run("%steer shout --from shout --strength 0.2 --relative")
    assert "replaced" in steered.text
    length = float(model.edits["shout"].writes[0].value.norm())
    assert length == pytest.approx(0.2 * direction.lengths[1], rel=1e-4)


def test_with_prompts_texts_stand_beside_each_other(steered):
    line = (
        '%steer shout "Hello" "The Eiffel Tower" --from pairs --layer 0,1 --strength 1,9 -n 4 '
        "-o texts"
    )
    found = steered.run(line)
    assert steered.ns["texts"] is found and found.strengths == [0.0, 1.0, 9.0]
    assert found.prompts == ("Hello", "The Eiffel Tower") and found.direction.layers == [0, 1]
    assert not steered.ns["model"].edits
    steered.run(f"{line} --no-view --no-random")
    assert steered.text.startswith("steered: shout, added behind blocks 0, 1")
    assert "random" not in steered.text.split("\n\n", 1)[1]


@pytest.mark.parametrize(
    "line",
    [
        '%steer shout "Hi" --from pairs --layer 1 --strength 0.5 --relative -n 3 '
        "--method principal",
        '%steer shout "Hello" "The city" --from pairs --layer 1-2 --at mean -n 3',
    ],
)
def test_the_python_that_it_prints_writes_the_same(steered, line):
    found = steered.run(line)
    steered.run(f"{line} --code")
    steered.run(steered.text)
    assert steered.ns["found"].said == found.said


def test_the_python_of_an_edit_makes_the_same_edit(steered):
    line = "%steer shout --from pairs --layer 1 --strength -3"
    steered.run(line)
    model = steered.ns["model"]
    wanted = model.edits["shout"].writes[0].value
    model.clear_edits()
    steered.run(f"{line} --code")
    steered.run(steered.text)
    assert torch.equal(model.edits["shout"].writes[0].value, wanted)


def test_a_direction_goes_to_a_file_and_comes_back(steered, tmp_path):
    for kind in ("gguf", "safetensors"):
        file = tmp_path / f"shout.{kind}"
        steered.run(f'%steer shout --from pairs --layer 1 --save "{file}" -q')
        before = steered.ns["shout"]
        steered.run(f'%steer again --load "{file}"')
        torch.testing.assert_close(steered.ns["again"].vectors[1], before.vectors[1])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("%steer", "give the direction a name"),
        ("%steer shout", "say where the direction comes from"),
        ("%steer shout --from pairs", "behind which block"),
        ("%steer shout --from pears --layer 1", "no variable 'pears'"),
        ("%steer shout --from pairs --layer 9", "no block 9"),
        ("%steer shout --from pairs --layer one", "blocks are written"),
        ("%steer shout --from pairs --layer 1 --strength much", "strengths are numbers"),
        ("%steer shout --from pairs --layer 1 --strength 1,2", "an edit has one strength"),
        ("%steer shout --from pairs --layer 1 --method pca", "no method 'pca'"),
        ("%steer shout --load none.gguf", "There is no file 'none.gguf'"),
        ("%steer shout --load none.gguf --layer 3", "--layer is for pairs"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_at_the_line(steered, line, words):
    assert words in steered.fails(line)
    assert not steered.ns["model"].edits
