"""`%audit` of the last cell and `%%audit`: what they run, keep, print and refuse."""

from __future__ import annotations

import pytest

from tests.magics.conftest import PROMPT

CELL = f'%%trace "{PROMPT}"\nkept = layers[1].output\nlayers[2].mlp.output[:, -1] = number'


def test_the_last_cell_is_audited_and_no_variable_changes(shell):
    shell.ns["number"] = 0
    shell.run(CELL)
    kept, runs = shell.ns["kept"], shell.run("%runs") or shell.text
    found = shell.run("%audit -o audit")
    assert shell.ns["audit"] is found and found.holds
    assert found.title == "audit of 1 write: all 5 checks hold"
    assert (found[0].name, found[0].line) == ("layers[2].mlp.output", 3)
    assert shell.ns["kept"] is kept
    assert shell.run("%runs") or shell.text == runs
    assert shell.run("%audit -q") is None
    shell.run("%audit --no-view")
    assert shell.text.startswith(found.title)


def test_a_cell_of_its_own_is_audited_with_several_prompts(shell):
    found = shell.run(
        '%%audit one="Hello world" two="Hello there" -o audit\n'
        "fresh = 3\n"
        "two.layers[1].output[:, -1] = one.layers[1].output[:, -1]"
    )
    assert found[0].name == "two.layers[1].output" and list(found[0].tokens) == ["two"]
    assert "fresh" not in shell.ns and shell.ns["audit"] is found
    assert "1 other prompt" in found[0]["stays"].words


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (CELL, "%audit --code"),
        ("", '%%audit a="Hello world" b="Hello there" --code\nb.layers[1].output[:, 0] = number'),
        ("", '%%audit "Hello world" --code\nlayers[1].output[:, "lo"] = float("\\x31")'),
    ],
)
def test_the_python_that_it_prints_finds_the_same(shell, before, line):
    shell.ns["number"] = 0
    if before:
        shell.run(before)
    found = shell.run(
        line.replace("--code", "-o by_magic") if before else line.replace("--code", "")
    )
    shell.run(line)
    shell.run(shell.text)
    assert [w.checks for w in shell.ns["found"].writes] == [w.checks for w in found.writes]


@pytest.mark.parametrize(
    ("before", "cell", "words"),
    [
        ("", "%audit", "no cell has run yet"),
        (
            '%%generate "Hello" -n 1\nlayers[0].output *= 2',
            "%audit",
            "the last cell was a %%generate",
        ),
        ('%%trace "Hello"\nh = layers[0].output', "%audit", "Nothing was written"),
        ('%%trace "Hello"\nlayers[0].output *= 2', '%audit "Hello"', "takes no prompt"),
        ("", '%%audit "Hello"\nlayers[9].output *= 2', "layers has 3 modules"),
        ("", '%%audit "Hello"\n', "the cell is empty"),
        ("", "%%audit\nlayers[0].output *= 2", "there is no prompt"),
        ("", '%%audit "Hello"\nlayers[0].output[:, 99] = 2', "The index does not fit it"),
    ],
)
def test_what_cannot_be_audited_is_said(shell, before, cell, words):
    if before:
        shell.run(before)
    assert words in shell.fails(cell)
