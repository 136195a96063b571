"""`%probe`: what it reads, keeps, prints and refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch


@pytest.fixture
def states(shell):
    city = [k // 2 for k in range(40)]
    country = ["France" if each % 2 else "Japan" for each in city]
    noise = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    told = noise + 4 * torch.tensor([each == "France" for each in country])[:, None]
    shell.ns.update(states={3: noise, 4: told}, country=country, city=city)
    return shell


def test_a_line_probes_variables_and_keeps_what_it_found(states):
    found = states.run("%probe country --from states --group city --draws 3 -o probe")
    assert states.ns["probe"] is found and found.best == 4
    assert states.run("%probe country --from states --draws 0 -q") is None
    states.run("%probe country --from states --group city --draws 0 --layers 4 --no-view")
    assert states.text.startswith("probe: France, Japan (40 rows, 20 groups")


def test_the_python_that_it_prints_finds_the_same(states):
    line = "%probe country --from states --group city --method means --draws 4 --folds 4 --seed 3"
    found = states.run(line)
    states.run(f"{line} --code")
    states.run(states.text)
    for name in ("accuracy", "auc", "control"):
        assert np.array_equal(getattr(states.ns["found"], name), getattr(found, name))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("%probe", "give the variable with the labels"),
        ("%probe country", "nothing says what the states are"),
        ("%probe county --from states", "no variable 'county' in the notebook; did you mean"),
        ("%probe country --from states --group cities", "no variable 'cities'"),
        ("%probe country --from states --layers 7", "There are no states of 7"),
        ("%probe country --from states --method svm", "There is no method 'svm'"),
        ('%probe "country" --from states', "give the variable with the labels"),
        ("%probe country --form states", "unknown option '--form'; did you mean '--from'"),
        ("%probe 3 --from states", "'3' cannot be the name of a variable"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_at_the_line(states, line, words):
    assert words in states.fails(line)
