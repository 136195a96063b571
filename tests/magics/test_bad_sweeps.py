"""What is no sweep is refused before the first forward, on the cell's own line, tokens shown."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.magics.conftest import PROMPT, Shell
from tests.magics.test_sweeps import OTHER, PATCH, one, two

LOOP = "for layer, head in grid(layer=layers, head=heads):\n"
LOOP += "    layers[layer].attn.heads[head][:] = 0\n"
EACH = "for layer in grid(layer=layers):\n"

BAD: dict[str, list[tuple[str, int, str]]] = {
    # body, line of the cell, what is said
    "an empty axis": [
        ("for layer in grid(layer=range(0)):\n    x = layer", 2, "axis layer is empty"),
        ("for layer in grid(layer=layers[5:5]):\n    x = layer", 2, "axis layer is empty"),
        ("for p in grid(position=tokens[3:3]):\n    x = p", 2, "axis position is empty"),
        ("none = []\nfor word in grid(word=none):\n    x = word", 3, "axis word is empty"),
    ],
    "an answer of several tokens": [
        (LOOP + '    x = logits[0, -1, " Colosseum is"]', 4, "but 7: ' ', 'Co', 'lo'"),
        (LOOP + '    x = logits[0, -1].softmax(-1)["Hello you"]', 4, "'Hel', 'lo'"),
        (LOOP + '    x = logits[..., -1, "Hello you"].mean()', 4, "'Hel', 'lo'"),
        (LOOP + '    x = logits[0, -1, [" the", "Hello you"]].mean()', 4, "'Hel', 'lo'"),
        (EACH + '    h = layers[layer].output\n    x = logits[0].log_softmax(-1)[-1, "Hello you"]',
         4, "'Hel', 'lo'"),
    ],
    "a token that is none": [
        (LOOP + '    x = logits[0, -1, ""]', 4, "An empty text is no token"),
        (LOOP + "    x = logits[0, -1, 99999]", 4, "no token 99999: the vocabulary has 320"),
        (LOOP + "    x = logits[:, -1, -321]", 4, "no token -321"),
        ('for p in grid(position=tokens[" Zebra":]):\n    x = p', 2, "' Zebra' is no token"),
        ('for p in grid(position=tokens[:"Zebra"]):\n    x = p', 2, "'Tow', 'er', ' is', ' in'"),
    ],
    "an axis that the body never uses": [
        (EACH + "    x = logits[0, -1, 3]", 2, "never uses 'layer'"),
        ("for a, b in grid(a=layers, b=[1, 2]):\n    x = layers[a].output.norm()", 2, "uses 'b'"),
        ("for a, b in grid.points(a=[1], b=[2]):\n    x = b", 2, "never uses 'a'"),
    ],
    "an end before the end": [
        (LOOP + "    x = 1\n    if x: break", 5, "points run in batches"),
        (LOOP + "    x = 1\n    break", 5, "points run in batches"),
        (LOOP + "    x = 1\n    return x", 5, "'return' outside function"),
        (LOOP + "    x = 1\nelse:\n    y = 1", 6, "has no else"),
    ],
    "a nested grid": [
        (EACH + "    for head in grid(head=heads):\n        x = layer + head", 3, "no grid of its"),
        (EACH + "    x = sum(layer + h for h, in grid(h=heads))", 3, "no grid of its own"),
        (EACH + "    x = len(grid(h=heads)) + layer", 3, "no grid of its own"),
        ("if True:\n    for layer in grid(layer=layers):\n        x = layer", 3, "at the top"),
    ],
    "names that clash": [
        ("for logits in grid(layer=layers):\n    x = logits", 2, "'logits' belongs to the trace"),
        ("for a, tokens in grid(a=[1], b=[2]):\n    x = a, tokens", 2, "'tokens' belongs to the"),
        (EACH + "    tokens = layer", 3, "'tokens' belongs to the trace"),
        (EACH + "    grid = layer", 3, "'grid' belongs to the trace"),
        ("for k in grid(name=layers):\n    name = k", 2, "'name' is an axis, and what the loop"),
        ("for k in grid(baseline=layers):\n    x = k", 2, "cannot be called 'baseline'"),
        ("for k in grid(reference=layers):\n    x = k", 2, "cannot be called 'reference'"),
        ("for k in grid.points(point=[1, 2]):\n    x = k", 2, "cannot be called 'point'"),
        ("x = 3\n" + EACH + "    x = layer", 4, "'x' is there before the loop"),
        ("for a, a in grid(a=layers, b=heads):\n    x = a", 2, "duplicate argument 'a'"),
    ],
    "axes that do not fit the loop": [
        ("for a in grid(a=layers, b=heads):\n    x = a", 2, "has 2 axes (a, b), and the loop"),
        ("for a, b in grid(a=layers):\n    x = a + b", 2, "has 1 axis (a), and the loop binds 2"),
        ("for a, b in grid.points(a=[1, 2], b=[1]):\n    x = a + b", 2, "as many places"),
        ("for a in grid(a=7):\n    x = a", 2, "takes a range, a list, or the blocks"),
        ('for a in grid(a="words"):\n    x = a', 2, "takes a range, a list, or the blocks"),
    ],
}  # fmt: skip


@pytest.fixture
def forwards(module: Any) -> Any:
    """The forwards of the model, as they begin."""
    ran: list[int] = []
    handle = module.model.embed_tokens.register_forward_hook(lambda *_: ran.append(1))
    yield ran
    handle.remove()


@pytest.mark.parametrize(
    ("body", "line", "said"), [case for cases in BAD.values() for case in cases],
    ids=[f"{kind}-{k}" for kind, cases in BAD.items() for k in range(len(cases))],
)  # fmt: skip
def test_it_is_refused_before_the_first_forward_on_its_line(
    shell: Shell, forwards: list[int], body: str, line: int, said: str
) -> None:
    text = shell.fails(one(body))
    assert said in text
    assert re.search(rf"^ +{line} \| ", text, re.MULTILINE), text
    assert not forwards
    assert not {"x", "y", "name"} & {*shell.ns} or body.startswith("x = 3")


LENGTHS = [
    (two(PROMPT, "The city of") + PATCH.format(a=5, b=6), "have no positions in common"),
    (two("The city of", PROMPT) + PATCH.format(a=5, b=6), "have no positions in common"),
    *(
        (
            two(*prompts) + PATCH.format(a=5, b=6).replace("=tokens", f"={of}.tokens"),
            f"position counts the tokens of {of}",
        )
        for prompts in ((PROMPT, "The city of"), ("The city of", PROMPT))
        for of in ("clean", "corrupt")
    ),
]


@pytest.mark.parametrize(("cell", "said"), LENGTHS)
def test_positions_of_prompts_of_several_lengths_are_refused_with_both_token_lists(
    shell: Shell, forwards: list[int], cell: str, said: str
) -> None:
    text = shell.fails(cell)
    assert said in text and not forwards
    assert "3 tokens: 'The' ' city' ' of'" in text and "13 tokens: 'The' ' ' 'Ei' 'ff'" in text
    assert "effect" not in shell.ns


def test_pairs_of_positions_of_both_prompts_run(shell: Shell) -> None:
    shell.run(
        two(PROMPT, "The city of") + "\n"
        "for position, other in grid.points(position=[1, 2], other=[11, 12]):\n"
        "    corrupt.layers[1].output[:, position] = clean.layers[1].output[:, other]\n"
        "    logit = corrupt.logits[0, -1, 3]\n"
    )
    assert shell.ns["logit"].shape == (2,)


def test_texts_that_are_tokens_are_no_problem(shell: Shell) -> None:
    shell.run(
        two(PROMPT, OTHER) + "\n"
        "wanted = {' the': 1, 'Hello you': 2}\n"
        "for layer in grid(layer=layers):\n"
        '    corrupt.layers[layer].output[:, "Tow"] = clean.layers[layer].output[:, " in"]\n'
        '    x = corrupt.logits[0, -1, [" the", "e"]].sum() + wanted["Hello you"]\n'
        '    y = corrupt.logits[:, " city"].norm()\n'
    )
    assert shell.ns["x"].dims == shell.ns["y"].dims == ("layer",)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("layers[layer]", "Handle"),
        ("layers[layer].output.norm", "method"),
        ("{'a': layers[layer].output}", "dict"),
        ("[layers[layer].output.norm(), 'b']", "list"),
        ("lambda: layer", "function"),
        ("layer, None", "tuple"),
    ],
)
def test_a_value_that_is_no_number_is_told_on_its_line(shell: Shell, value: str, kind: str) -> None:
    text = shell.fails(one(EACH + f"    x = {value}\n"))
    assert f"NotOneArray: x is a {kind} at layer=0" in text
    assert f"x = {value}" in text and "swept.py" not in text
