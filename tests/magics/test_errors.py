"""Every mistake ends in one short message on the cell's own line, and the next cell works."""

import sys

import pytest
import torch

from tests.hooks import hook_count
from tests.magics.conftest import PROMPT

LINES = 15


@pytest.fixture
def fails(shell):
    """Runs a failing cell; checks what holds for every mistake, and gives the text shown."""

    def run(cell):
        shown = shell.fails(cell)
        assert len(shown.strip().split("\n")) <= LINES, shown
        for library in ("site-packages", "nnsight_magic/", "hidden"):
            assert library not in shown
        assert hook_count(shell.ns["model"].module) == 0
        shell.run(f'%%trace "{PROMPT}"\nafter = layers[0].output')
        assert type(shell.ns["after"]) is torch.Tensor
        return shown

    return run


def test_an_unknown_module(fails, cell):
    shown = fails(cell("x = 1\ny = layers[0].mpl.output"))
    assert "line 3" in shown
    assert "y = layers[0].mpl.output" in shown
    assert "did you mean 'mlp'?" in shown
    assert "^^^" in shown


def test_several_problems_at_once(fails, cell):
    shown = fails(cell("x = layer[0].output\ny = layers[7].output\nlayers = 3"))
    assert "3 problems" in shown
    assert shown.count(" | ") == 3


def test_a_syntax_error(fails, cell):
    shown = fails(cell("x = 1\ny = (2"))
    assert "line 3" in shown
    assert "never closed" in shown


@pytest.mark.parametrize("word", ["save", "who", "time", "cd", "let", "reset"])
def test_a_word_before_a_name_is_no_magic(fails, cell, word):
    """IPython takes the only line of a cell for the magic that its first word names."""
    shown = fails(cell(f"{word} h = layers[1].output"))
    assert "line 2" in shown
    assert "every name that the cell assigns is saved: h = layers[1].output" in shown


@pytest.mark.parametrize(
    "line",
    [
        "%time h = X",
        "%timeit -n1 -r1 X",
        "%prun h = X",
        "%%time\nh = X",
        "a = %time X",
        "%time 1;X",
    ],
)
def test_a_magic_that_runs_its_code_elsewhere(fails, cell, line):
    shown = fails(cell(line.replace("X", "layers[1].output")))
    assert "line 2" in shown
    assert "runs its code apart from this cell, where layers is not known" in shown


def test_a_magic_that_runs_code_with_names_of_the_notebook(shell, cell):
    shell.run("number = 2")
    shell.run(cell("%time number = number + 1\nh = layers[1].output"))
    assert shell.ns["number"] == 3


@pytest.mark.parametrize(
    "above", ["# a note", "\n# two\n\n# notes", "x = 1", "%who", "def f():\n    pass"]
)
@pytest.mark.parametrize("magic", ["trace", "generate", "edit"])
def test_a_cell_magic_that_is_not_the_first_line(fails, above, magic):
    shown = fails(f'{above}\n%%{magic} "{PROMPT}"\nh = layers[1].output')
    first = above.strip().split("\n")[0]
    assert f"%%{magic} has to be the first line of its cell, and above it stands: {first}" in shown


def test_a_cell_that_tells_of_a_magic_is_run(shell):
    assert shell.run('"""\n%%trace "a"\nh = 1\n"""') == '\n%%trace "a"\nh = 1\n'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("torch.zeros(1, 2, 3)", ("shape", "(1, 2, 3)")),
        ("torch.zeros_like(layers[1].output, dtype=torch.float64)", ("dtype", "float64")),
        ("torch.zeros_like(layers[1].output, device='meta')", ("device", "meta")),
    ],
)
def test_a_wrong_value_is_refused_where_it_is_written(fails, shell, cell, value, expected):
    shell.run("import torch")
    shown = fails(cell(f"x = 1\nlayers[1].output = {value}\ny = logits"))
    assert "line 3" in shown
    assert "Expected" in shown
    assert "Found" in shown
    for word in expected:
        assert word in shown


def test_a_module_that_never_runs(fails, shell, module, cell):
    module.extra = torch.nn.Linear(2, 2)
    shown = fails(cell("x = extra.output"))
    assert "line 2" in shown
    assert "did not run" in shown


def test_a_write_to_a_module_that_ran_already(fails, cell):
    shown = fails(cell("a = layers[2].output\nlayers[0].output = 0"))
    assert "line 3" in shown
    assert "Line 2 ran past it" in shown


def test_an_exception_in_the_cell(fails, cell, shell):
    shown = fails(cell("kept = layers[0].output\nx = 1 / 0"))
    assert "----> 3 x = 1 / 0" in shown
    assert "ZeroDivisionError" in shown
    assert type(shell.ns["kept"]) is torch.Tensor


def test_an_exception_in_a_function_of_another_cell(fails, shell, cell):
    shell.run("def broken(h):\n    return h.nothing")
    shown = fails(cell("x = broken(layers[0].output)"))
    assert "return h.nothing" in shown
    assert "x = broken(layers[0].output)" in shown


def test_an_exception_of_torch_in_the_cell(fails, cell):
    shown = fails(cell("h = layers[0].output\ny = h @ h"))
    assert "----> 3 y = h @ h" in shown


def test_an_exception_in_the_model(fails, module, shell, cell):
    inner = module.model.layers[1].mlp
    inner.forward, original = lambda x: x @ x, inner.forward
    shown = shell.fails(cell("y = layers[2].output"))
    inner.forward = original
    assert "----> 2 y = layers[2].output" in shown
    assert len(shown.strip().split("\n")) <= LINES
    assert hook_count(module) == 0


@pytest.mark.parametrize("body", ["", " ", "\n\n", "   \n\t\n"])
def test_an_empty_cell(fails, body):
    shown = fails(f'%%trace "a"\n{body}')
    assert "empty" in shown


def test_an_unknown_option(fails, cell):
    shown = fails(cell("x = 1", "--ful"))
    assert "unknown option '--ful'; did you mean '--full'?" in shown
    assert "line 1" in shown


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "there is no prompt"),
        ("Hello there", 'a prompt stands in quotation marks: "Hello there"'),
        ("model there", "a variable follows -p: -p model"),
        ('["a", "b"]', 'several prompts stand side by side, without brackets: "one" "two"'),
        (r"'It's a'", "the quotation ends in the middle of a word: 'It's"),
        ('clean="a"b"', 'inside of it write \\"'),
        ('"never closed', "does not end"),
        ("-p nothing", "no variable 'nothing' in the notebook"),
        ("-f /no/such/file", "cannot be read"),
        ('"a" -m nothing', "no model 'nothing'"),
        ('"a" "b" -p x', "give the prompt once"),
        ('clean="a" "b"', "name every prompt or none"),
        ('logits="a" x="b"', "the trace has that name itself"),
        ('"a {nothing}"', "cannot be evaluated: NameError"),
        ('"a" -n', "--new-tokens takes a value; none follows it"),
        ('"a" -n five', "--new-tokens takes a whole number, not 'five'"),
        ('"a" -n "five"', "--new-tokens takes a whole number, not 'five'"),
        ('"a" --quiet=yes', "--quiet takes no value"),
        ('"a" --no-view=1', "--view takes no value"),
    ],
)
def test_a_line_that_cannot_be_understood(fails, line, expected):
    magic = "generate" if "-n" in line else "trace"
    assert expected in fails(f"%%{magic} {line}\nh = layers[0].output")


def test_a_generation_option_that_transformers_does_not_know(fails):
    shown = fails('%%generate "a" --temperatur 0.5\nx = 1')
    assert "did you mean '--temperature'?" in shown


def test_no_model_is_loaded(bare):
    shown = bare.fails('%%trace "a"\nh = layers[0].output')
    assert "no model is loaded; load one first: %model demo" in shown
    assert len(shown.strip().split("\n")) <= LINES


def test_a_model_name_that_cannot_be_found(bare):
    shown = bare.fails("%model no/such-model-anywhere")
    assert "no/such-model-anywhere" in shown
    assert len(shown.strip().split("\n")) <= LINES
    assert "site-packages" not in shown


def test_a_variable_that_is_no_model(bare):
    bare.run("import collections\nbox = collections.Counter()")
    assert "is a Counter, not a model" in bare.fails("%model box")


def test_an_interrupt_in_mid_forward(shell, module, cell):
    def interrupt(*_):
        raise KeyboardInterrupt

    handle = module.model.layers[1].register_forward_hook(interrupt)
    shown = shell.fails(cell("kept = layers[0].output\nx = layers[2].output"))
    handle.remove()
    assert "KeyboardInterrupt" in shown
    assert hook_count(module) == 0
    assert type(shell.ns["kept"]) is torch.Tensor
    shell.run(cell("x = layers[2].output"))


@pytest.mark.parametrize("outer", ["%%time", "%%prun -q", "%%timeit -n 1 -r 1"])
def test_errors_name_the_same_line_under_other_magics(shell, cell, outer):
    shown = shell.shown(f"{outer}\n" + cell("x = 1\ny = 1 / 0"))
    assert "----> 4 y = 1 / 0" in shown


def test_breakpoint_stands_in_the_cell_with_the_real_tensors(shell, cell, monkeypatch):
    stood = []

    def hook():
        frame = sys._getframe(1)
        stood.append((frame.f_lineno, tuple(frame.f_globals["h"].shape)))

    monkeypatch.setattr(sys, "breakpointhook", hook)
    shell.run(cell("h = layers[0].output\nbreakpoint()"))
    assert stood == [(3, tuple(shell.ns["h"].shape))]


def test_the_trace_s_names_are_at_hand_in_a_debugger(shell, cell, monkeypatch):
    typed = ["h.shape", "layers[1].mlp.output.shape", "len(tokens[0])", "prompt", "norm"]
    said = []

    def hook():
        frame = sys._getframe(1)
        said.extend(eval(each, frame.f_globals, frame.f_locals) for each in typed)
        exec("layers[2].output[:] = 0", frame.f_globals, frame.f_locals)

    monkeypatch.setattr(sys, "breakpointhook", hook)
    shell.ns["norm"] = "mine"
    shell.run(cell("h = layers[0].output\nbreakpoint()\nend = layers[2].output"))
    assert said[:2] == [shell.ns["h"].shape] * 2
    assert said[3:] == [PROMPT, "mine"]
    assert not shell.ns["end"].any()
    assert "layers" not in shell.ns
    assert "tokens" not in shell.ns
    assert shell.ns["norm"] == "mine"


def test_xmode_verbose_shows_the_library_s_frames(shell, cell):
    shell.run("%xmode Verbose")
    shown = shell.fails(cell("h = layers[0].output\ny = h @ h"))
    shell.run("%xmode Context")
    assert "value.py" in shown


def test_tb_shows_the_same_again(shell, cell):
    shell.fails(cell("y = 1 / 0"))
    shell.run("%tb")
    assert "----> 2 y = 1 / 0" in shell.text
    assert "site-packages" not in shell.text


def test_the_debugger_lands_in_the_cell_with_the_real_tensors(shell, cell):
    shell.fails(cell("h = layers[0].output\ny = h @ h"))
    entry = sys.last_traceback
    while entry.tb_next is not None:
        entry = entry.tb_next
    assert entry.tb_lineno == 3
    assert entry.tb_frame.f_globals["h"].shape[0] == 1


def test_an_errors_notes_are_told_once_however_often_the_magics_were_loaded(shell):
    """IPython 7, which Colab has, does not write them itself."""
    shell.run("%reload_ext nnsight_magic")
    noted = "error = ValueError('no')\nerror.add_note('what is kept')\nraise error"
    for cell in (noted, f'%%trace "{PROMPT}"\n{noted}'):
        assert shell.fails(cell).splitlines().count("what is kept") == 1
    shell.run("%unload_ext nnsight_magic")
    shell.run("%load_ext nnsight_magic")
    assert "what is kept" not in shell.fails("1 / 0")
