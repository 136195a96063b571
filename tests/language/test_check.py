"""What is found wrong with a cell before it runs."""

import pytest

from nnsight_magic import LanguageModel
from nnsight_magic.errors import CellError
from nnsight_magic.language.check import check
from nnsight_magic.language.names import bound_names
from nnsight_magic.language.parse import parse
from nnsight_magic.language.tree import root_names


def problems(source, model, namespace=None, prompts=()):
    program = parse(source, bound_names(root_names(model), prompts), first_line=2)
    try:
        check(program, model, namespace or {}, prompts)
    except CellError as error:
        return [problem.text for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "source",
    [
        "x = layers[2].mlp.output",
        "x = layers[-1].output[:, -1].softmax(-1)",
        "x = [layers[i].attn.output[0] for i in range(3)]",
        "x = layers[1:3][0].output",
        "x = model.model.layers[0].self_attn.q_proj.output",
        "x = model.layers[0].mlp.down_proj.weight.shape",
        "layers[0].output[:] = 0; logits = logits; output.logits[:] = 0",
        "x = lm_head.weight.T @ norm.output[0, -1]",
        "layers[0].next().output += 1",
        "model.logits = model.logits * 2",
        "layers[0].mlp.skip(layers[0].mlp.input)",
        "layers[0].inputs[0][0] = 3",
        "x = model.config.vocab_size, tokens, prompt",
        "for block in layers: x = block.output",
        "x = layers[0].mlp['up_proj'].output",
    ],
)
def test_what_is_right_has_no_problem(source, model):
    assert problems(source, model) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "x = layer[1].output",
            "no 'layer' in the trace or in the notebook; did you mean 'layers'?",
        ),
        ("x = layers[3].output", "there is no layers[3]; indices go from 0 to 2"),
        ("x = layers[-4].output", "indices go from 0 to 2"),
        (
            "x = layers[0].mpl.output",
            "layers[0] (LlamaDecoderLayer) has no 'mpl'; did you mean 'mlp'",
        ),
        ("x = layers[k].self_attn.q_prj.output", "did you mean 'q_proj'?"),
        ("x = layers[0].mlp.ouput", "did you mean 'output'?"),
        ("x = model.layer[0].output", "did you mean 'layers'?"),
        ("x = lm_head.foo()", "lm_head (Linear) has no 'foo'"),
        ("x = embed[3]", "embed (Embedding) cannot be indexed; its value is embed.output"),
        ("layers[0] = 3", "a module cannot be replaced in a trace"),
        ("layers[0].mlp = 3", "layers[0].mlp cannot be assigned in a trace"),
        ("layers = 3", "'layers' belongs to the trace and cannot be assigned"),
        ("x = undefined_thing", "assign it in a cell before, or in this one"),
        ("x = torch.stack([layers[0].output])", "import it first: import torch"),
        ("x = np.zeros(3)", "import it first: import numpy as np"),
        ("x = layers[0].next().mpl.output", "did you mean 'mlp'?"),
        ("x = clean.layers[0].mpl.output", "did you mean 'mlp'?"),
    ],
)
def test_what_is_wrong_is_named_with_the_next_thing_to_do(source, expected, model):
    found = problems(source, model, {"k": 0}, ("clean",))
    assert len(found) == 1
    assert expected in found[0]


def test_all_problems_are_reported_together_with_their_lines(model):
    source = "x = layer[0].output\ny = layers[9].output\nlayers = z"
    program = parse(source, bound_names(root_names(model)), first_line=2)
    with pytest.raises(CellError) as raised:
        check(program, model, {})
    error = raised.value
    assert sorted(problem.span.line for problem in error.problems) == [2, 3, 4, 4]
    for line in source.split("\n"):
        assert line in str(error)
    assert str(error).count("^") > 3


def test_nothing_runs_and_nothing_is_loaded_for_a_check(tiny_gpt2_folder):
    model = LanguageModel(str(tiny_gpt2_folder))
    assert problems("x = transformer.h[1].mlp.output", model) == []
    assert "did you mean 'mlp'?" in problems("x = transformer.h[1].mpl.output", model)[0]
    assert not model.loaded


def test_names_that_the_notebook_or_the_cell_knows_are_right(model):
    assert problems("x = mine + 1", model, {"mine": 1}) == []
    assert problems("def f(): return later\nlater = 1", model) == []
    assert problems("x = len(print.__name__)", model) == []


def test_a_star_import_or_a_line_magic_may_bring_any_name(model):
    assert problems("from math import *\nx = cos(1)", model) == []
    assert problems("get_ipython().run_line_magic('pylab', '')\nx = cos(1)", model) == []


def test_a_module_that_the_cell_or_the_user_attaches_is_known(model):
    from torch import nn

    source = "layers[1].sae = Make()\nx = layers[1].sae.encoder.output"
    assert problems(source, model, {"Make": nn.Identity}) == []
    model.layers[1].probe = nn.Sequential(nn.Linear(2, 2))
    assert problems("x = layers[1].probe[0].output", model) == []
    assert "there is no layers[1].probe[3]" in problems("x = layers[1].probe[3].output", model)[0]


def test_a_misspelt_output_is_no_new_module(model):
    assert "did you mean 'output'?" in problems("layers[1].ouput = 3", model)[0]


def test_names_of_the_user_s_own_are_known(tiny, tiny_tokenizer):
    model = LanguageModel(tiny("gpt2"), tiny_tokenizer, rename={"transformer.h": "blocks"})
    assert problems("x = blocks[1].mlp.output + model.blocks[0].output", model) == []
    assert "there is no blocks[7]" in problems("x = blocks[7].output", model)[0]


def test_an_unknown_name_is_reported_once(model):
    assert len(problems("x = foo1\ny = foo1 + foo1", model)) == 1


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "mamba", "mixtral", "t5", "bert"])
def test_every_architecture_s_own_paths_are_known(architecture, tiny, tiny_tokenizer):
    model = LanguageModel(tiny(architecture), tiny_tokenizer)
    paths = [name for name, _ in model.module.named_modules() if name][:60]
    for path in paths:
        root, *rest = path.split(".")
        written = root + "".join(f"[{p}]" if p.isdigit() else f".{p}" for p in rest)
        if {"output", "input"} & set(rest):
            continue  # a child of that name is reached by brackets
        assert problems(f"x = {written}", model) == [], written
