"""Completion through IPython's completer."""

import re

import pytest
from IPython.core.completer import CompletionContext, provisionalcompleter

from nnsight_magic.magics.completion import in_one_line
from nnsight_magic.magics.options import CELLS, OPTIONS
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
    assert str(tuple(shell.ns["h"].shape)).replace(" ", "\u00a0") in hint


HINTS = (
    "", " ", "a - b", "new-tokens", "a\u2010b", "a\nb\tc", "\u3000 x", "x\u2003y", "\x1b[31m",
    "LlamaDecoderLayer (1, 4096, 40960)", "LlamaDecoderLayer (batch, tokens, 576)", "x" * 200,
    "word " * 50, "Where the random numbers of %%generate begin, if it samples.",
    "(" + "1, " * 60 + ")",
)  # fmt: skip


@pytest.mark.parametrize("hint", HINTS, ids=range(len(HINTS)))
def test_a_hint_is_one_short_line_in_jupyterlab(hint):
    shown = in_one_line(hint)
    assert 0 < len(shown) <= 30
    assert not re.search(r"[^\S\u00a0]|[-\u2010]|[\x00-\x1f]", shown)


def test_a_shape_is_not_cut_from_a_hint():
    assert in_one_line("LlamaDecoderLayer (1, 10, 40960)").endswith(
        "…\u00a0(1,\u00a010,\u00a040960)"
    )


def test_every_completion_has_a_hint_that_jupyterlab_does_not_break(complete, shell):
    shell.run("%%edit something\nlayers[0].output[:] = 0")
    shell.run(HEAD + "h = layers[1].mlp.output\nnames = [layers[0].output]")
    shell.run("layers[1].mlp?")  # shapes by a scan
    shell.ns["prompts"] = {"a": "b"}
    body = HEAD + "x = "
    cells = [
        body,
        *(body + each for each in ("l", "layers[", "layers[1].", "layers[1].attn.", "p")),
    ]
    cells += [body + 'layers[1].output[:, "', "model.", "model.layers[", "model.layers[0]."]
    cells += [f"{'%%' if magic in CELLS else '%'}{magic} {rest}" for magic in OPTIONS
              for rest in ("", "--", "-m ", "-p ", "--dtype ", "x", "s", "h")]  # fmt: skip
    with provisionalcompleter():
        found = {each.type for cell in cells for each in ours(shell, cell)}
    assert len(found) > 40
    for hint in found:
        assert in_one_line(hint) == hint
        assert 0 < len(hint) <= 30


def ours(shell, cell):
    """What this package alone offers at the end of a cell."""
    lines = cell.split("\n")
    (matcher,) = (
        each for each in shell.ip.Completer.custom_matchers if hasattr(each, "nnsight_magic")
    )
    context = CompletionContext("", cell, len(lines[-1]), len(lines) - 1, 500)
    return matcher(context)["completions"]


def test_without_a_model_or_outside_our_cells_nothing_is_added(bare):
    bare.ip.Completer.use_jedi = False
    with provisionalcompleter():
        for text in (HEAD + "x = layers[1].m", "layers[1].m", "%%bash\nlayers[1].m"):
            assert list(bare.ip.Completer.completions(text, len(text))) == []


def test_everything_that_a_cell_touched_has_its_shape(complete, shell):
    shell.run(HEAD + "for i in range(3):\n    _ = layers[i].output.norm()")
    width = len(shell.ns["model"].tokenizer(PROMPT)["input_ids"])
    found = complete(HEAD + "x = layers[")
    shape = f"(1,\u00a0{width},\u00a032)"
    assert set(found.values()) == {f"LlamaDecoderLayer\u00a0{shape}"}
    assert complete(HEAD + "x = layers[2].outp") == {HEAD + "x = layers[2].output": shape}


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
    assert hint == "Linear\u00a0(batch,\u00a0tokens,\u00a032)"
    shell.run(HEAD + "h = layers[1].mlp.output")
    shell.run("layers[1].mlp?")
    assert f"output: (batch, tokens, 32), seen last: {tuple(shell.ns['h'].shape)}" in shell.text


def test_a_model_without_tokens_is_not_scanned(shell):
    shell.run("import torch\nfrom nnsight_magic import Model")
    shell.run("net = Model(torch.nn.Sequential(torch.nn.Linear(3, 4)))")
    shell.run("net[0]?")
    assert "Linear" in shell.text
    assert "(4, 3)" in shell.text


def test_names_of_a_sweep_are_offered_in_its_cell_alone(complete):
    head = '%%sweep clean="a" corrupt="b"\n'
    loop = head + "for layer, head in "
    assert loop + "grid" in complete(loop + "gr")
    for begun, name in [("hea", "heads"), ("lay", "layers"), ("tok", "tokens"), ("pro", "prompt")]:
        axis = loop + "grid(axis="
        assert axis + name in complete(axis + begun)
    assert loop + "grid.points(" in complete(loop + "grid.p")
    assert loop + "grid(at=corrupt.tokens" in complete(loop + "grid(at=corrupt.to")
    assert HEAD + "x = grid" not in complete(HEAD + "x = gr")
