"""The lines of analyses: read, run, printed as Python."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from nnsight_magic import analyses
from tests.magics.conftest import PROMPT

# As many tokens as PROMPT has.
PAIR = f'clean="{PROMPT}" corrupt="The Eiffel Tower is of the city in"'

LINES = {
    "attention": (f'%attention "{PROMPT}" --keep', ["scores", "patterns"]),
    "induction": ("%attention --induction -n 5 --seed 2 --score duplicate", ["scores"]),
    "attention-of-a-block": (f'%attention "{PROMPT}" --layers 1-2', ["scores", "patterns"]),
    "lens": (f'%lens "{PROMPT}" -a 7 -k 2', ["token", "entropy", "settled"]),
    "lens-map": (f'%lens "{PROMPT}" -a 7 --map lens.safetensors', ["token", "logprob"]),
    "patch": (
        f'%patch clean="{PROMPT}" corrupt="{PROMPT[::-1]}" -a 7 --align same --layers 0,1-2',
        ["values"],
    ),
    "patch-heads": (
        '%patch "Hello world" "Hello there" -a 7 --versus 9 --site heads --by position,head'
        " --align same --reverse",
        ["values"],
    ),
    "ablate": (f'%ablate "{PROMPT}" -a 7 --how mean --over others', ["values"]),
    "attribute": (
        f'%attribute clean="{PROMPT}" corrupt="{PROMPT[::-1]}" -a 7 --align same --check 2',
        ["values"],
    ),
    "attribute-ig": (
        f"%attribute {PAIR} -a 7 --versus 9 --method ig --steps 3 --check 2 --site resid_mid",
        ["values"],
    ),
    "attribute-relp": (
        f"%attribute {PAIR} -a 7 --method relp --check 0 --by position --site heads --layers 1-2",
        ["values"],
    ),
    "edges": (f"%attribute {PAIR} -a 7 --versus 9 --edges --check 2", ["values"]),
    "edges-by-the-gradient": (
        f"%attribute {PAIR} -a 7 --edges --method grad --check 0",
        ["values"],
    ),
    "ablate-zero": (f'%ablate "{PROMPT}" -a 7 --site mlp --layers 0,2', ["values"]),
    "ablate-resample": (
        f'%ablate "{PROMPT}" -a 7 --how resample --over alike --repeats 2 --seed 3',
        ["values", "standard_error"],
    ),
    "dla": (f'%dla "{PROMPT}" -a 7 --versus 9 --by head', ["values"]),
    "dla-parts": (f'%dla "{PROMPT}" -a 7 --position 3', ["values"]),
}


def numbers(found, names):
    return [np.asarray(getattr(found, name)) for name in names]


@pytest.mark.parametrize("magic", LINES)
def test_the_python_that_a_line_prints_gives_the_same_numbers(shell, magic, tmp_path, monkeypatch):
    line, names = LINES[magic]
    monkeypatch.chdir(tmp_path)
    hidden = shell.ns["model"].hidden_size
    maps = analyses.LensMap("tuned lens", {"0": torch.ones(hidden, hidden) / hidden})
    maps.save("lens.safetensors")
    shell.ns["others"] = ["Hello world", "One, two"]
    shell.ns["alike"] = ["The Eiffel Tower is of the city in"]
    shell.run(f"{line} -q -o by_magic")
    shell.run(f"{line} --code")
    code = shell.text
    assert "from nnsight_magic import analyses" in code
    shell.run(code)
    for one, other in zip(
        numbers(shell.ns["found"], names), numbers(shell.ns["by_magic"], names), strict=True
    ):
        assert np.array_equal(one, other, equal_nan=True)  # an edge that is no path


def test_it_is_shown_and_kept(shell):
    found = shell.run(f'%lens "{PROMPT}" -o kept')
    assert shell.ns["kept"] is found
    assert shell.run(f'%lens "{PROMPT}" -q') is None


def test_several_prompts_are_a_list_and_named_ones_a_dict(shell):
    shell.run('%lens "Hello" "Hello world" -q -o both')
    assert [found.rank for found in shell.ns["both"]] == [None, None]
    shell.run('%lens a="Hello" b="Hello world" -a "7" -o named')
    assert list(shell.ns["named"]) == ["a", "b"]
    shell.run('%lens a="Hello" b="Hello world" -a "7" --code')
    shell.run("display = print\n" + shell.text)
    assert list(shell.ns["found"]) == ["a", "b"]


def test_prompts_come_from_variables_files_and_chats(shell, tmp_path):
    shell.ns["text"] = "Hello world"
    shell.run("%lens -p text -q -o found")
    assert "".join(shell.ns["found"].tokens) == "Hello world"
    shell.run("%lens -p text --code")
    assert "analyses.lens(model, text)" in shell.text
    (tmp_path / "prompts.json").write_text(json.dumps(["Hello", "world"]))
    shell.run(f"%lens -f {tmp_path / 'prompts.json'} -q -o two")
    assert len(shell.ns["two"]) == 2
    shell.ns[
        "model"
    ].tokenizer.chat_template = "{% for m in messages %}<{{ m.content }}>{% endfor %}"
    shell.run("%lens -p text --chat -q -o found")
    assert "".join(shell.ns["found"].tokens) == "<Hello world>"
    shell.run("%lens -p text --chat --code")
    assert "WholeText('<Hello world>')" in shell.text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("%lens", "there is no prompt"),
        ('%lens "Hello" -a "zebra quux"', "tokens: "),
        ('%lens "Hello" --of banana', "no lens of 'banana'"),
        ('%lens "Hello" --map nowhere.pt', "There is no lens at 'nowhere.pt'"),
        ('%lens "Hello" --anwser x', "did you mean '--answer'?"),
        ('%attention "Hello" --induction', "makes its own prompt"),
        ('%attention "Hello" --seed 3', "say --induction too"),
        ('%attention "Hello" --score fame --no-view', "no score 'fame'"),
        ('%lens "Hello" -k many', "--top takes a whole number"),
        ('%lens "Hello" -o 3x', "'3x' cannot be the name of a variable"),
        ('%patch "Hello" -a 7', "of two prompts"),
        ('%patch a="Hello" b="World" -a 7', 'clean="…" corrupt="…"'),
        ('%patch clean="Hello" corrupt="Hello world, all" -a 7', "align"),
        ('%patch "Hello" "World"', "no answer to measure"),
        ('%patch "Hello" "World" -a 7 --layers 0-x', "blocks are written 0,4-8"),
        ('%patch "Hello" "World" -a 7 --site resid_pots', "Did you mean 'resid_post'"),
        ('%ablate "Hello" -a 7 --how mean --over nothing', "no variable 'nothing'"),
        ('%ablate "Hello" -a 7 --how banana', "'banana'"),
        ('%dla "Hello" -a 7 --by layer', "found 'layer'"),
        ('%attribute "Hello" "World" -a 7 --method repl', "Did you mean 'relp'"),
        ('%attribute "Hello" "World" -a 7 --steps 5', "say --method ig too"),
        ('%attribute "Hello" "Hello" -a 7 --method ig --steps 0', "1 or more"),
        ('%attribute "Hello" "Hello, world" -a 7 --method ig --align same', "as many tokens"),
        ('%attribute "Hello" "World" -a 7 --edges --site mlp', "--site is of places"),
        ('%attribute "Hello" "World" -a 7 --edges --method ig', "Methods are norm, grad"),
        ('%attribute "Hello" "Hello, world" -a 7 --edges', "none of the other"),
        ("%audit", "no cell has run yet"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_at_it(shell, line, words):
    shown = shell.fails(line)
    assert words in shown
    assert "not run" in shown
