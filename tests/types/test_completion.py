"""What Jedi, which completes in IPython and in many editors, knows of an ordinary script."""

from __future__ import annotations

import jedi
import pytest

HEAD = 'from nnsight_magic import LanguageModel\nm = LanguageModel("demo")\n'


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("from nnsight_magic import Lang", "LanguageModel"),
        (f"{HEAD}m.tr", "trace"),
        (f"{HEAD}m.lay", "layers"),
        (f"{HEAD}m.layers[3].out", "output"),
        (f"{HEAD}m.layers[3].mlp.inp", "input"),
    ],
)
def test_an_editor_completes(script: str, expected: str) -> None:
    line = script.count("\n") + 1
    found = jedi.Script(script).complete(line, len(script.rpartition("\n")[2]))
    assert expected in [each.name for each in found]
