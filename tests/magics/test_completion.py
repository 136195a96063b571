"""Completion through IPython's completer."""

import pytest
from IPython.core.completer import provisionalcompleter

from tests.magics.conftest import PROMPT

HEAD = f'%%trace "{PROMPT}"\n'


@pytest.fixture
def complete(shell):
    shell.ip.Completer.use_jedi = False

    def run(text, at=None):
        at = len(text) if at is None else at
        with provisionalcompleter():
            found = list(shell.ip.Completer.completions(text, at))
        return {text[: each.start] + each.text + text[each.end :]: each.type for each in found}

    return run


def test_paths_of_the_model_with_their_class(complete):
    assert complete(HEAD + "x = layers[1].m") == {HEAD + "x = layers[1].mlp": "LlamaMLP"}
    found = complete(HEAD + "x = layers[i].self_attn.")
    assert found[HEAD + "x = layers[i].self_attn.q_proj"] == "Linear"
    assert HEAD + "x = layers[i].self_attn.output" in found


def test_in_the_middle_of_a_cell_and_of_a_line(complete):
    text = HEAD + "y = f(layers[1].ml, 2)\nz = 1"
    at = text.index(", 2")
    assert list(complete(text, at)) == [text[:at] + "p" + text[at:]]


def test_trace_names_and_prompt_names(complete):
    assert HEAD + "x = layers" in complete(HEAD + "x = lay")
    named = '%%trace clean="a" corrupt="b"\n'
    assert named + "x = clean" in complete(named + "x = cle")
    assert named + "x = clean.layers" in complete(named + "x = clean.la")


def test_indices_of_a_list_of_modules(complete):
    assert complete(HEAD + "x = layers[") == {
        HEAD + f"x = layers[{k}]": "LlamaDecoderLayer" for k in range(3)
    }


def test_tokens_of_the_prompt(complete):
    found = complete(HEAD + 'x = layers[1].output[:, "ci')
    assert found == {HEAD + 'x = layers[1].output[:, "city"]': "token"}


def test_options_on_the_line(complete):
    assert "%%trace --full" in complete("%%trace --fu")
    assert "%%generate --new-tokens" in complete("%%generate --new")
    assert "%model x --dtype" in complete("%model x --dt")


def test_models_and_variables_on_the_line(complete, shell):
    shell.ns["my_prompts"] = ["a"]
    assert complete('%%trace "a" -m mo') == {'%%trace "a" -m model': "model"}
    assert complete("%%trace -p my_") == {"%%trace -p my_prompts": "list"}


def test_inside_a_prompt_there_are_no_options(complete):
    assert not any("--full" in text for text in complete('%%trace "a --fu'))


def test_paths_of_a_model_in_plain_cells(complete):
    assert complete("x = model.layers[1].self_") == {
        "x = model.layers[1].self_attn": "LlamaAttention"
    }


def test_under_another_cell_magic(complete):
    text = "%%time\n" + HEAD + "x = layers[1].m"
    assert list(complete(text)) == [text + "lp"]


def test_the_shape_seen_last_is_part_of_the_hint(complete, shell):
    shell.run(HEAD + "h = layers[1].mlp.output")
    hint = complete(HEAD + "x = layers[1].m")[HEAD + "x = layers[1].mlp"]
    assert str(tuple(shell.ns["h"].shape)) in hint


def test_without_a_model_or_outside_our_cells_nothing_is_added(bare):
    bare.ip.Completer.use_jedi = False
    with provisionalcompleter():
        for text in (HEAD + "x = layers[1].m", "layers[1].m", "%%bash\nlayers[1].m"):
            assert list(bare.ip.Completer.completions(text, len(text))) == []


def test_everything_that_a_cell_touched_has_its_shape(complete, shell):
    shell.run(HEAD + "for i in range(3):\n    _ = layers[i].output.norm()")
    width = len(shell.ns["model"].tokenizer(PROMPT)["input_ids"])
    found = complete(HEAD + "x = layers[")
    assert set(found.values()) == {f"LlamaDecoderLayer (1, {width}, 32)"}
    assert complete(HEAD + "x = layers[2].outp") == {
        HEAD + "x = layers[2].output": f"(1, {width}, 32)"
    }


def test_shapes_of_one_model_are_no_hints_for_another(complete, shell, tiny, tiny_tokenizer):
    from nnsight_magic import LanguageModel

    shell.run(HEAD + "_ = layers[1].mlp.output.norm()")
    shell.ns["other"] = LanguageModel(tiny("gpt2"), tiny_tokenizer)
    line = f'%%trace "{PROMPT}" -m other\n'
    assert complete(line + "x = layers[1].m") == {line + "x = layers[1].mlp": "GPT2MLP"}


def test_a_scan_gives_the_shapes_that_no_cell_has_met(complete, shell):
    shell.run("layers[1].mlp?")
    assert "input: (batch, tokens, 32)\noutput: (batch, tokens, 32)" in shell.text
    assert "loaded" not in shell.text
    hint = complete(HEAD + "x = layers[2].self_attn.q_p")[HEAD + "x = layers[2].self_attn.q_proj"]
    assert hint == "Linear (batch, tokens, 32)"
    shell.run(HEAD + "h = layers[1].mlp.output")
    shell.run("layers[1].mlp?")
    assert f"output: (batch, tokens, 32), seen last: {tuple(shell.ns['h'].shape)}" in shell.text


def test_a_model_without_tokens_is_not_scanned(shell):
    shell.run("import torch\nfrom nnsight_magic import Model")
    shell.run("net = Model(torch.nn.Sequential(torch.nn.Linear(3, 4)))")
    shell.run("net[0]?")
    assert "Linear" in shell.text
    assert "(4, 3)" in shell.text
