"""`%%edit` and `%edits`: writes that every later run carries out."""

import pytest
import torch

from nnsight_magic import LanguageModel
from tests.magics.conftest import PROMPT

SILENCE = "%%edit silence\nlayers[1].mlp.output[:, -1] = 0"


@pytest.fixture
def logits(shell, cell):
    """What the model predicts now, in a trace of its own."""

    def run():
        shell.run(cell("_now = logits\nnow = _now[0, -1]", "-q"))
        return shell.ns["now"]

    return run


def test_an_edit_is_carried_out_by_every_later_trace(shell, cell, logits):
    before = logits()
    shell.run(SILENCE)
    assert "edit 'silence' made: every trace and generation of model has it now" in shell.text
    assert "layers[1].mlp.output[:, -1] = 0" in shell.text
    edited = logits()
    shell.run("%edits --remove")
    shell.run(cell("layers[1].mlp.output[:, -1] = 0\nby_hand = logits[0, -1]"))
    assert not torch.equal(edited, before)
    assert torch.equal(edited, shell.ns["by_hand"])
    assert torch.equal(logits(), before)


def test_a_result_says_which_edits_are_in_force(shell, cell):
    shell.run(SILENCE)
    assert "Edits in force: silence." in shell.run(cell("h = layers[2].output")).notices


def test_numbers_come_from_the_notebook_and_from_the_cell(shell, logits):
    shell.run(f'%%trace "{PROMPT}"\ndirection = layers[0].output[:, -1]')
    body = "scale = 3\nfor i in (1, 2):\n    layers[i].output[:, -1] += scale * direction"
    shell.run(f"%%edit steer\n{body}")
    writes = shell.ns["model"].edits["steer"].writes
    assert [each.operation for each in writes] == ["add", "add"]
    assert torch.equal(writes[0].value, 3 * shell.ns["direction"])
    assert shell.ns["scale"] == 3
    logits()


@pytest.mark.parametrize(
    "body",
    [
        "layers[1].attn.heads[2] = 0",
        "layers[1].attn.heads[2][:, -1] = 0",
        "layers[0].mlp.input = 0",
        "model.layers[0].self_attn.q_proj.output *= 0.5",
        "layers[1].output[0] = 0",
        "unembed.output[:, :, 7] = 10",
        "def quiet(block):\n    block.mlp.output[:] = 0\nquiet(layers[2])",
    ],
)
def test_an_edit_does_what_the_same_write_does_in_a_cell(shell, cell, logits, body):
    shell.run(f"%%edit one\n{body}")
    edited = logits()
    shell.run("%edits one --remove")
    shell.run(cell(f"{body}\nby_hand = logits[0, -1]"))
    assert torch.equal(edited, shell.ns["by_hand"])


def test_all_that_an_edit_cannot_do_is_said_before_anything_is_recorded(shell):
    shown = shell.fails(
        "%%edit wrong\n"
        "layers[1].output[:] = layers[0].output\n"
        "h = layers[2].mlp.output\n"
        "logits[:, -1] = 0\n"
        "n = len(tokens)\n"
        "layers[9].output[:] = 0"
    )
    assert "5 problems, nothing was run" in shown
    assert "layers[0].output has no value in an edit: no forward runs there" in shown
    assert "unembed.output" in shown
    assert "there is no layers[9]" in shown
    assert len(shell.ns["model"].edits) == 0
    assert "h" not in shell.ns


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x = 1", "The cell writes nothing"),
        ('layers[1].output[:, "Tower"] = 0', "no token 'Tower' can be looked up"),
        ('where = "Tower"\nlayers[1].output[:, where] = 0', "no token 'Tower' can be looked up"),
        ("layers[1].output[:] = 'x'", "writes a number or a tensor"),
        ("layers[1].output[:] = 0\n1 / 0", "----> 3 1 / 0"),
    ],
)
def test_a_cell_that_fails_leaves_no_edit(shell, cell, body, expected):
    assert expected in shell.fails(f"%%edit wrong\n{body}")
    assert len(shell.ns["model"].edits) == 0
    shell.run(cell("h = layers[0].output"))


def test_a_cell_that_fails_leaves_the_edit_of_its_name_as_it_was(shell):
    shell.run(SILENCE)
    shell.fails("%%edit silence\nlayers[1].output[:] = 'x'")
    assert str(shell.ns["model"].edits["silence"].writes[0].value) == "0"
    shell.run("%%edit silence\nlayers[0].output[:] = 1")
    assert "edit 'silence' replaced" in shell.text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("two words", "an edit has one name"),
        ("x --steps often", "names no steps"),
        ("x -m nothing", "no model 'nothing'"),
        ("x --full", "unknown option '--full'"),
    ],
)
def test_a_line_that_cannot_be_understood(shell, line, expected):
    assert expected in shell.fails(f"%%edit {line}\nlayers[0].output[:] = 0")


def test_an_edit_of_an_unwrapped_model_would_be_lost_and_is_refused(shell, tiny):
    shell.ns["hf"] = tiny("gpt2")
    assert "first: %model hf" in shell.fails("%%edit x -m hf\nlayers[0].output[:] = 0")


def test_an_edit_without_a_name_gets_one(shell):
    shell.run("%%edit\nlayers[0].output[:] = 0")
    shell.run('%%edit "no French"\nlayers[0].output[:] = 0')
    assert list(shell.ns["model"].edits) == ["edit 1", "no French"]


def test_steps_of_a_generation(shell, cell):
    line = "-n 3 --do_sample False --eos_token_id 319"
    shell.run("%%edit late --steps 1-2\nunembed.output[:, :, 7] = 1e4")
    assert "at steps 1, 2" in shell.text
    result = shell.run(cell("for step in steps:\n    h = logits[:, -1]", line, "generate"))
    seventh = shell.ns["model"].tokenizer.decode([7])
    assert result.prompts[0].generated[1:] == (seventh, seventh)
    assert result.prompts[0].generated[0] != seventh


def test_edits_are_listed_switched_and_removed(shell, logits):
    before = logits()
    shell.run("%edits")
    assert "model has no edits; make one with %%edit NAME" in shell.text
    shell.run(SILENCE)
    shell.run("%%edit 'two lines' --steps 0\nlayers[0].output[:] = 0\nlayers[1].output[:] *= 2")
    shell.run("%edits")
    rows = [line.split() for line in shell.text.strip().split("\n")]
    assert rows[1] == ["silence", "on", "layers[1].mlp.output[:,", "-1]", "=", "0"]
    assert rows[2][:5] == ["two", "lines", "on", "step", "0"]
    assert rows[3] == ["layers[1].output[:]", "*=", "2"]
    shell.run("%edits silence 'two lines' --off")
    assert "off" in shell.text
    assert torch.equal(logits(), before)
    shell.run("%edits silence --on")
    assert not torch.equal(logits(), before)
    shell.run("%edits silence --remove")
    assert list(shell.ns["model"].edits) == ["two lines"]
    assert "did you mean 'two lines'?" in shell.fails("%edits 'two line' --off")
    assert "one at a time" in shell.fails("%edits --on --off")


def test_edits_are_stored_and_loaded(shell, tmp_path, tiny, tiny_tokenizer):
    path = tmp_path / "steer.safetensors"
    shell.run("import torch\ndirection = torch.ones(32)")
    shell.run("%%edit steer\nlayers[1].output[:, -1] += direction")
    shell.run(f"%edits --save {path}")
    assert "stored steer" in shell.text
    shell.ns["other"] = LanguageModel(tiny("llama"), tiny_tokenizer)
    shell.run(f"%edits --load {path} -m other")
    (write,) = shell.ns["other"].edits["steer"].writes
    assert torch.equal(write.value, torch.ones(32))
    assert "holds no edits" in shell.fails(f"%edits --load {__file__}")
    assert "cannot be read" in shell.fails("%edits --load /no/such/file")
    assert "cannot be written" in shell.fails("%edits --save /no/such/folder/file")


def test_edits_belong_to_their_model(shell, tiny, tiny_tokenizer):
    shell.ns["other"] = LanguageModel(tiny("gpt2"), tiny_tokenizer)
    shell.run("%%edit quiet -m other\ntransformer.h[1].mlp.output[:] = 0")
    shell.run("%edits")
    assert "model has no edits" in shell.text
    shell.run("%edits -m other")
    assert "layers[1].mlp.output[:] = 0" in shell.text


def test_an_edit_cell_stands_in_the_way_of_nothing(shell, cell):
    shell.ns["h"] = "mine"
    shell.run("%%time\n" + SILENCE)
    assert shell.ns["h"] == "mine"
    assert "__trace__" not in shell.ns
    shell.run(cell("h = layers[0].output"))


def test_an_edit_cell_of_a_tuple_is_refused(shell, cell):
    shown = shell.fails("%%edit broken\nlayers[1].attn.output[:, -1] = 0")
    assert "layers[1].attn.output[0][:, -1]" in shown
    shell.run(cell("h = layers[1].output"))
