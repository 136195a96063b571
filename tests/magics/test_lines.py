"""The line magics: %model, %models, %saved, %runs, %edits, %about."""

import gc
import re
import subprocess
import sys
import weakref

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.magics.options import CELLS, OPTIONS
from nnsight_magic.views.data.words import percent, visible


def test_model_adopts_a_variable_and_shows_its_tree(bare, tiny):
    bare.ns["hf"] = tiny("gpt2")
    bare.run("%model hf --name mine")
    assert bare.ns["mine"].module is bare.ns["hf"]
    assert "GPT2LMHeadModel" in bare.text
    assert "[0 … 2]  GPT2Block" in bare.text
    assert "layers = transformer.h[0 … 2]" in bare.text


def test_model_loads_a_folder_and_takes_dtype_and_device(bare, tiny_gpt2_folder):
    bare.run(f"%model {tiny_gpt2_folder} --dtype bfloat16 --device cpu")
    assert bare.ns["model"].module.lm_head.weight.dtype is torch.bfloat16
    bare.run('%%trace "The city"\nh = layers[0].output')
    assert bare.ns["h"].dtype is torch.bfloat16


def test_the_adopted_model_uses_the_notebook_s_tokenizer(bare, tiny, tiny_tokenizer):
    bare.ns.update(hf=tiny("gpt2"), tokenizer=tiny_tokenizer)
    bare.run("%model hf --name m")
    bare.run('%%trace "The city"\nh = layers[0].output')
    assert bare.ns["h"].shape[0] == 1


def test_models_lists_what_is_there_and_marks_the_one_in_use(shell, tiny):
    shell.ns["hf"] = tiny("gpt2")
    shell.run("%model hf --name second")
    shell.run("%models")
    rows = shell.text.split("\n")
    assert any(row.startswith("*") and "second" in row for row in rows)
    assert any("model" in row and "LlamaForCausalLM" in row for row in rows)


def test_the_model_loaded_last_is_used_until_its_variable_is_gone(
    shell, tiny, tiny_tokenizer, cell
):
    shell.ns.update(hf=tiny("gpt2"), tokenizer=tiny_tokenizer)
    shell.run("%model hf --name second")
    assert shell.run(cell("h = layers[0].output")).model == "GPT2LMHeadModel"
    shell.run("del second")
    assert shell.run(cell("h = layers[0].output")).model == "LlamaForCausalLM"


def test_saved_lists_sizes_and_drops(shell, cell):
    shell.run(cell("a = layers[0].output\nb = layers[1].output[:, -1]"))
    shell.run("%saved")
    assert "layers[0].output" in shell.text
    assert "in all" in shell.text
    shell.run("%saved a --drop")
    assert "a" not in shell.ns
    shell.run("%saved")
    assert "layers[0].output" not in shell.text
    shell.run("%saved --drop")
    assert "b" not in shell.ns


def test_saved_leaves_out_what_was_assigned_anew(shell, cell):
    shell.run(cell("a = layers[0].output"))
    shell.run("a = 3")
    shell.run("%saved --drop")
    assert shell.ns["a"] == 3


@pytest.mark.parametrize("value", ["[1, 2]", "'text'", "len"])
def test_saved_never_drops_what_the_user_put_there(shell, cell, value):
    shell.run(cell("a = [layers[0].output]\nb = 3"))
    shell.run(f"a = b = {value}")
    shell.run("%saved --drop")
    assert "nothing is saved" in shell.text
    assert "a" in shell.ns
    assert "b" in shell.ns


def test_what_a_cell_saved_before_its_error_is_listed(shell, cell):
    shell.fails(cell("kept = layers[0].output\nlayers[1].output[:] = 0\n1 / 0"))
    shell.run("%saved")
    assert shell.text.split("\n")[1].split()[0] == "kept"
    shell.run("%runs")
    row = shell.text.split("\n")[1]
    assert "ZeroDivisionError" in row
    assert "layers[1].output" in row
    assert shell.run(cell("h = layers[0].output")).number == 2


def test_runs_are_listed_and_compared(shell, cell):
    shell.run(cell("layers[1].mlp.output *= 0"))
    shell.run(cell("x = logits"))
    shell.run("%runs")
    assert "layers[1].mlp.output" in shell.text
    shell.run("%runs 1 2")
    assert "run 1" in shell.text
    assert "nothing" in shell.text
    assert "no run '7'; there are 1 to 2" in shell.fails("%runs 7 1")


def test_runs_name_models_and_the_edits_that_were_in_force(
    shell, cell, tiny, tiny_tokenizer, monkeypatch
):
    from nnsight_magic import terminal

    monkeypatch.setattr(terminal, "PLAIN_WIDTH", 160)
    shell.ns["small"] = LanguageModel(tiny("gpt2"), tiny_tokenizer)
    shell.run(cell("x = logits"))
    shell.run("%%edit steer\nlayers[1].mlp.output[:] = 0")
    shell.run("%%edit dim\nlayers[0].mlp.output *= 0.5")
    shell.run(cell("x = logits"))
    shell.run("%edits dim --off")
    shell.run(cell("x = logits"))
    shell.run(cell("x = logits", "-m small"))
    shell.fails(cell("x = layers[1].output\n1 / 0"))
    shell.run("%edits steer --remove")
    shell.run("%runs")
    head, *rows = shell.plain.rstrip().split("\n")
    models = ["LlamaForCausalLM"] * 3 + ["small (GPT2LMHeadModel)", "LlamaForCausalLM"]
    edits = ["", "steer, dim", "steer", "", "steer"]
    for row, model, edit in zip(rows, models, edits, strict=True):
        assert row[head.index("model") :].startswith(model)
        assert row[head.index("edits") : head.index("best")].strip() == edit
    shell.run("%runs 4 2")
    table = [re.split(r"\s{2,}", line.strip()) for line in shell.plain.split("\n")]
    assert table[0] == ["run 4", "run 2"]
    assert ["model", "small (GPT2LMHeadModel)", "LlamaForCausalLM"] in table
    assert ["edits in force", "none", "steer, dim"] in table


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_comparison_keeps_the_order_that_was_asked_for(shell, cell, order):
    shell.run(cell("x = logits"))
    shell.run(cell("layers[1].output[:] = 0\nx = logits"))
    titles = [f"run {k}" for k in order]
    runs = shell.ip.magics_manager.registry["NNsightMagic"].runs_made
    first, second = (runs.get(str(k)) for k in order)
    shell.run(f"%runs {order[0]} {order[1]}")
    lines = shell.plain.split("\n")
    assert re.split(r"\s{2,}", lines[0].strip()) == titles
    best = first.prompts[0].predictions[0]
    assert any(line.split()[:2] == [visible(best.token), percent(best.p)] for line in lines)
    view = first.compare(second)
    (strip,) = view.tokens.strips
    assert strip.heads == tuple(titles)
    for guesses, run in ((strip.top, first), (strip.clean, second)):
        assert guesses[-1] == tuple((c.token, c.p) for c in run.prompts[0].predictions)
    assert [fact.split(":")[0] for fact in view.facts] == titles
    assert [each.title for each in (view.tensors[0].first, view.tensors[0].second)] == titles


@pytest.mark.parametrize("width", [80, 120])
def test_runs_are_one_line_each_within_the_terminal_s_width(shell, cell, monkeypatch, width):
    from nnsight_magic import terminal

    shell.run(cell("for k in range(3):\n    layers[k].mlp.output[:] = 0\n    layers[k].output"))
    shell.fails(cell("layers[0].output[:, 'Rome']"))
    monkeypatch.setattr(terminal, "in_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    shell.run("%runs")
    lines = shell.plain.rstrip().split("\n")
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    heads = ["run", "kind", "model", "prompt", "wrote", "best", "ran", "time"]
    assert lines[0].split() == heads
    assert lines[1].startswith("1    trace  Llama")


@pytest.mark.parametrize("question", ["layers[1].mlp?", "%runs --help", "%edits --help"])
def test_what_is_told_in_words_keeps_to_the_terminal_s_width(shell, monkeypatch, question):
    from nnsight_magic import terminal

    shell.run(question)
    words = shell.plain.split()
    monkeypatch.setattr(terminal, "in_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "50")
    shell.run(question)
    assert shell.plain.split() == words
    assert all(len(line) <= 50 or " " not in line.strip() for line in shell.plain.split("\n"))


def test_a_cell_that_is_run_again_is_compared_with_its_run_before(shell, cell):
    for factor in (1, 2, 2):
        shell.run(cell(f"h = layers[0].output * {factor}"))
    h = shell.ns["h"]
    shell.run("%runs 1 2")
    assert f"{(h / 2).abs().max():.3g} at" in shell.text
    assert "1.0000" in shell.text
    shell.run("%runs 2 3")
    assert "they are equal" in shell.text
    shell.run("%saved")
    assert "more of runs before" in shell.text


@pytest.mark.parametrize("gone", ["del h", "%saved --drop h", "%reset -f"])
def test_what_was_overwritten_goes_with_its_variable(shell, cell, gone):
    shell.run(cell("h = layers[0].output"))
    first = weakref.ref(shell.ns["h"])
    shell.run(cell("h = layers[1].output"))
    assert first() is not None
    shell.run(gone)
    gc.collect()
    assert first() is None


def test_what_was_overwritten_is_kept_within_the_budget(shell, cell):
    shell.run("%config NNsightMagic.overwritten = 0")
    shell.run(cell("h = layers[0].output"))
    first = weakref.ref(shell.ns["h"])
    shell.run(cell("h = layers[1].output"))
    gc.collect()
    assert first() is None
    shell.run("%runs 1 2")
    assert "no longer there" in shell.text


def test_what_was_overwritten_goes_with_its_run(shell, cell, monkeypatch):
    monkeypatch.setattr("nnsight_magic.results.history.REMEMBERED", 2)
    shell.run(cell("h = layers[0].output"))
    first = weakref.ref(shell.ns["h"])
    shell.run(cell("h = layers[1].output"))
    assert first() is not None
    shell.run(cell("h = layers[2].output"))
    gc.collect()
    assert first() is None


def test_what_the_user_put_in_a_saved_tensor_s_place_is_no_run_s(shell, cell):
    shell.run(cell("h = layers[0].output"))
    first = weakref.ref(shell.ns["h"])
    shell.run("h = 3")
    shell.run(cell("h = layers[1].output"))
    gc.collect()
    assert first() is None


def test_saved_values_of_every_kind_are_compared(shell, cell):
    bodies = ["h = layers[0].output", "h = [layers[0].output]", "h = layers[0].output[:, 0]"]
    for body in bodies:
        shell.run(cell(body))
    for pair, part in (("1 2", "tensor, list of 1"), ("1 3", "and"), ("2 2", "list of 1")):
        shell.run(f"%runs {pair}")
        assert part in shell.text
    shell.run(cell("i = tokens"))
    shell.run(cell("i = tokens + 1"))
    shell.run("%runs 4 5")
    assert "1 at [0, 0]" in shell.text


def test_reload_ext_keeps_settings_and_runs(shell, cell):
    shell.run("%config NNsightMagic.new_tokens = 3")
    shell.run(cell("h = layers[0].output"))
    shell.run("%reload_ext nnsight_magic")
    shell.run("%saved")
    assert "h" in shell.text.split()
    assert shell.ip.magics_manager.registry["NNsightMagic"].new_tokens == 3
    shell.run(cell("h = layers[1].output"))
    shell.run("%runs 1 2")
    assert "at [" in shell.text


def test_lists_are_empty_at_first(bare):
    for magic, text in (("models", "no model"), ("saved", "nothing"), ("runs", "no cell")):
        bare.run(f"%{magic}")
        assert text in bare.text


def test_reset_forgets_models_and_saved_and_breaks_nothing(shell, cell, tiny, tiny_tokenizer):
    from nnsight_magic import LanguageModel

    shell.run(cell("a = layers[0].output"))
    shell.run("%reset -f")
    shell.run("%saved")
    assert "nothing is saved" in shell.text
    assert "no model is loaded" in shell.fails(cell("a = layers[0].output"))
    shell.ip.user_ns["model"] = LanguageModel(tiny("gpt2"), tiny_tokenizer)
    shell.run(cell("a = layers[0].output"))


@pytest.mark.parametrize("question", ["layers[1].mlp?", "?layers[1].mlp", "model.layers[1].mlp?"])
def test_a_question_mark_shows_what_a_module_is(shell, question):
    shell.run(question)
    for part in ("layers[1].mlp: LlamaMLP", "up_proj.weight", "(64, 32)", "modeling_llama.py:"):
        assert part in shell.text


def test_a_question_mark_inside_a_cell_does_the_same(shell, cell):
    shell.run(cell("h = layers[0].output\nlayers[1].mlp?"))
    assert "layers[1].mlp: LlamaMLP" in shell.text
    assert "h" in shell.ns


def test_a_question_about_a_notebook_variable_is_ipython_s(shell):
    shell.run("norm = len\nnorm?")
    assert "builtin" in shell.text


@pytest.mark.parametrize("magic", OPTIONS)
def test_help_is_printed_and_nothing_runs(bare, magic):
    bare.run(f"%%{magic} --help\nx = 1" if magic in CELLS else f"%{magic} --help")
    assert "--help" in bare.text
    assert "x" not in bare.ns


@pytest.mark.parametrize("magic", CELLS)
def test_help_needs_no_body(bare, magic):
    bare.run(f"%%{magic} --help")
    assert "show this" in bare.text
    assert max(map(len, bare.text.split("\n"))) <= 80
    assert "the cell is empty" in bare.fails(f"%%{magic}")


def test_a_console_waits_for_the_body_of_a_cell(bare):
    check = bare.ip.input_transformer_manager.check_complete
    assert check('%%trace "a"')[0] == "incomplete"
    assert check('%%trace "a"\nx = 1')[0] == "incomplete"


def test_config_sets_the_default_of_an_option(shell, cell):
    shell.run("%config NNsightMagic.quiet = True")
    assert shell.run(cell("h = layers[0].output")) is None
    assert shell.run(cell("h = layers[0].output", "--no-quiet")) is not None
    shell.run("%config NNsightMagic.compare = False")
    assert not shell.run(cell("logits *= 2", "--no-quiet")).prompts[0].compared


def test_loading_the_extension_imports_neither_torch_nor_transformers():
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "import sys\n"
        "shell = InteractiveShell.instance()\n"
        "shell.run_line_magic('load_ext', 'nnsight_magic')\n"
        "for magic in ('models', 'saved', 'runs'):\n"
        "    shell.run_line_magic(magic, '')\n"
        "heavy = {'torch', 'transformers', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
