"""A saved value's badge stands on the modules that it was read from, whatever the cell's form."""

import pytest

from nnsight_magic import LanguageModel
from nnsight_magic.results.as_view import notes_of

BLOCK = "model.layers.{}"
ATTN, MLP = f"{BLOCK}.self_attn", f"{BLOCK}.mlp"

# What stands in a cell, and the modules of each name that it saves.
CELLS = {
    "h = layers[1].output": {"h": [BLOCK.format(1)]},
    "h = layers[-1].output[:, -1].float().norm(dim=-1)": {"h": [BLOCK.format(2)]},
    "e, n, u = embed.output, norm.output, unembed.output": {
        "e": ["model.embed_tokens"], "n": ["model.norm"], "u": ["lm_head"],
    },
    "p = logits[:, -1].softmax(-1)": {"p": ["lm_head"]},
    "p = model.logits": {"p": ["lm_head"]},
    "o = output.logits": {"o": ["lm_head"]},
    "o = output[0]": {"o": [""]},
    "a = layers[1].attn.pattern": {"a": [ATTN.format(1)]},
    "a = layers[1].attn.pattern[0, :, -1]": {"a": [ATTN.format(1)]},
    "x = layers[1].attn.input\ny = layers[1].attn.inputs": {
        "x": [ATTN.format(1)], "y": [ATTN.format(1)],
    },
    "h = layers[1].attn.heads[2]": {"h": [f"{ATTN.format(1)}.o_proj"]},
    "m = model.layers[2].mlp.down_proj.output": {"m": [f"{MLP.format(2)}.down_proj"]},
    "all = [block.attn.pattern for block in layers]": {"all": [ATTN.format(k) for k in range(3)]},
    "d = {i: layers[i].output for i in range(2)}": {"d": [BLOCK.format(k) for k in range(2)]},
    "ps = []\nfor block in layers:\n    ps.append(block.attn.pattern)": {
        "ps": [ATTN.format(k) for k in range(3)],
    },
    "d = {}\nfor i in (0, 2):\n    d[i] = layers[i].mlp.output": {
        "d": [MLP.format(0), MLP.format(2)],
    },
    "for i in range(3):\n    h = layers[i].mlp.output.norm()": {"h": [MLP.format(2)]},
    "h = layers[0].output\nfor i in (1, 2):\n    h = h + layers[i].mlp.output": {
        "h": [BLOCK.format(0), MLP.format(1), MLP.format(2)],
    },
    "h = layers[1].output\nn = h.norm(dim=-1)\nk = n * 2": {
        "h": [BLOCK.format(1)], "n": [BLOCK.format(1)], "k": [BLOCK.format(1)],
    },
    "def f(i):\n    return layers[i].mlp.output * 2\na = f(0)\nb = f(1)": {
        "a": [MLP.format(0)], "b": [MLP.format(1)],
    },
    "def look(i):\n    save(inner=layers[i].output)\nlook(2)": {"inner": [BLOCK.format(2)]},
    "b = save(layers[1].output)\nlayers[1].output[:] = 0": {"b": [BLOCK.format(1)]},
    "layers[0].output[:] = 0\nh = layers[1].mlp.output": {"h": [MLP.format(1)]},
    "print(layers[0].output.shape)\nh = layers[1].mlp.output": {"h": [MLP.format(1)]},
    "if layers[0].output.norm() > 0:\n    h = layers[1].output": {"h": [BLOCK.format(1)]},
    "h = layers[1].output\nlogits[0, -1].max().backward()\ng = h.grad.norm(dim=-1)": {
        "h": [BLOCK.format(1)], "g": [BLOCK.format(1)],
    },
    "acc = 0\nfor i in (0, 1):\n    acc += layers[i].output": {
        "acc": [BLOCK.format(0), BLOCK.format(1)],
    },
    "t = tokens": {"t": []},
    "import torch\nz = torch.zeros(2)": {"z": []},
}  # fmt: skip


def badges(result):
    """The names at each path, by name."""
    found = {each.name: [] for each in result.saved}
    for path, note in notes_of(result.record).items():
        for name in note.saved:
            found[name].append(path)
    return {name: sorted(paths) for name, paths in found.items()}


def test_a_badge_stands_on_the_modules_that_a_value_is_of(shell, cell):
    for body, expected in CELLS.items():
        result = shell.run(cell(body))
        found = badges(result)
        assert {name: found[name] for name in expected} == {
            name: sorted(paths) for name, paths in expected.items()
        }, body


def test_with_prompts_by_name(shell):
    body = (
        "c = clean.layers[1].output\np = corrupt.logits[:, -1]\na = corrupt.layers[0].attn.pattern"
    )
    result = shell.run(f'%%trace clean="a b" corrupt="c d e"\n{body}')
    assert badges(result) == {"c": [BLOCK.format(1)], "p": ["lm_head"], "a": [ATTN.format(0)]}


def test_what_a_generation_collects(shell, cell):
    body = "for step in steps:\n    h = layers[-1].output[:, -1]\n    p = logits\n"
    body += "best = h.norm(dim=-1)"
    result = shell.run(cell(body, "-n 3", "generate"))
    assert badges(result) == {"h": [BLOCK.format(2)], "p": ["lm_head"], "best": [BLOCK.format(2)]}


@pytest.mark.parametrize(
    ("name", "attn"),
    [("gpt2", "transformer.h.{}.attn"), ("gpt_neox", "gpt_neox.layers.{}.attention")],
)
def test_in_other_architectures(shell, cell, tiny, tiny_tokenizer, name, attn):
    shell.ns["other"] = model = LanguageModel(tiny(name), tiny_tokenizer)
    result = shell.run(cell("ps = [b.attn.pattern for b in layers]\np = logits", "-m other"))
    assert badges(result) == {
        "ps": [attn.format(k) for k in range(3)],
        "p": [model.names.path_of("unembed")],
    }
