"""A cell that is being written: what is told of it before it has run."""

from __future__ import annotations

import pytest

from nnsight_magic.errors import CellError
from nnsight_magic.lab.inspected import answer_inspection, at_cursor, leave_inspection
from nnsight_magic.lab.written import checked, explained
from tests.magics.conftest import PROMPT

LINE = f'%%trace "{PROMPT}"\n'


@pytest.fixture
def magics(shell):
    return shell.ip.magics_manager.registry["NNsightMagic"]


def marked(text, magics):
    """The stretches that would be underlined, as they stand in the text."""
    lines = text.split("\n")
    found = []
    for each in checked(text, magics)["problems"]:
        line = lines[each["line"] - 1].encode("utf-16-le")
        found.append(line[2 * each["start"] : 2 * each["end"]].decode("utf-16-le"))
    return sorted(found)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (f"{LINE}h = layers[0].mpl.output", ["mpl"]),
        (f"{LINE}h = layers[99].output\nlayer[0]", ["99", "layer"]),
        (f'{LINE}s = "😀"; h = layers[0].mpl.output', ["mpl"]),
        (f"%%time\n\n{LINE}h = layers[0].mpl", ["mpl"]),
        (f"{LINE}h = layers[0].mlp.output", []),
        ('%%trace a="x" b="y"\na.layers[0].output = b.layers[0].output', []),
        ("%%edit quiet\nlayers[0].mpl.output[:] = 0", ["mpl"]),
        (f'%%generate "{PROMPT}" -n 2\nfor step in steps:\n    layers[0].mpl.output', ["mpl"]),
        (f'%%audit "{PROMPT}"\nlayers[0].mpl.output[:] = 0', ["mpl"]),
        (
            f'%%sweep "{PROMPT}"\nfor l in grid(layer=layers):\n'
            "    layers[l].mpl.output[:] = 0\n    top = logits[0, -1].max()",
            ["mpl"],
        ),
        ("%%trace -f prompts.json\nfirst.layers[0].mpl", []),  # its names are not known
        ("h = layers[0].mpl", []),
        (f"x = 1\n{LINE}layers[0].mpl", []),
        (LINE, []),
        ("%%trace", []),
        ('%%trace "unclosed\nlayers[0].mpl', []),
        (f"{LINE}layers[0].mlp.output[:] = 0\n-m other", ["other"]),
        (f'%%trace "{PROMPT}" -m other\nlayers[0].mpl', []),
    ],
)
def test_what_is_misspelt_is_found_before_anything_runs(magics, shell, text, wrong):
    before = dict(shell.ns)
    assert marked(text, magics) == wrong
    assert dict(shell.ns) == before


def test_the_check_says_what_running_the_cell_says(magics, shell):
    text = f"{LINE}h = layers[0].mpl.output\ng = layers[99].output"
    with pytest.raises(CellError) as error:
        shell.run(text)
    said = {each.message for each in error.value.problems}
    assert {each["message"] for each in checked(text, magics)["problems"]} == said


def test_no_expression_of_the_line_is_run(magics, shell):
    shell.ns["calls"] = []
    text = '%%trace "{calls.append(1)}"\nh = layers[0].output'
    assert checked(text, magics)["problems"] == []
    assert shell.ns["calls"] == []


def test_names_of_prompts_in_a_variable_are_known(magics, shell):
    shell.ns["both"] = {"clean": "a", "other": "b"}
    text = "%%trace -p both\nclean.layers[0].output = other.layers[0].output"
    found = checked(text, magics)
    assert found["problems"] == []
    assert {"clean", "other", "layers"} <= set(found["names"])


def test_a_path_is_explained_as_far_as_the_cursor(magics, shell):
    text = f"{LINE}h = layers[1].mlp.output[:, -1]  # layers[0]"
    line = text.split("\n")[1]

    def at(word):
        found = explained(text, 2, line.index(word) + 1, magics)
        return found[1].partition("\n")[0] if found else None

    assert at("layers").startswith("layers: ModuleList")
    assert at("1]").startswith("layers[1]: ")
    assert at("mlp").startswith("layers[1].mlp: ")
    assert at("output").startswith("layers[1].mlp.output: what the module returned")
    assert at("h =") is None
    assert explained(text, 2, line.index("# layers") + 4, magics) is None
    shell.run(text)
    shape = tuple(shell.ns["h"].shape)
    assert at("output").endswith(f"seen last: {(shape[0], len(PROMPT.split()), shape[1])}") or (
        "seen last" in at("output")
    )


def test_a_question_mark_and_the_cursor_say_the_same(magics, shell):
    shell.run(f"{LINE}h = layers[1].mlp.output")
    shell.run("layers[1].mlp?")
    asked = shell.plain
    told = at_cursor(f"{LINE}h = layers[1].mlp", 10_000, magics)
    assert "".join(told.split()) in "".join(asked.split())


def test_names_of_a_trace_are_explained_in_its_cells_alone(magics):
    assert at_cursor(f"{LINE}p = logits", 10_000, magics).startswith("logits: final logits")
    assert at_cursor("p = logits", 10_000, magics) == ""
    assert at_cursor("m = model.layers[0].mlp", 10_000, magics).startswith("layers[0].mlp: ")
    assert at_cursor(f'{LINE}p = "logits', 11, magics) == ""


class Kernel:
    """What of a kernel is wrapped."""

    def do_inspect(self, code, cursor_pos, detail_level=0, omit_sections=()):
        return {"status": "ok", "found": False, "position": cursor_pos, "level": detail_level}


def test_the_kernel_answers_for_all_else_and_alone_afterwards(magics):
    kernel = Kernel()
    answer_inspection(kernel, magics)
    answer_inspection(kernel, magics)
    told = kernel.do_inspect(f"{LINE}h = layers[1].mlp", 10_000, detail_level=1)
    assert told["data"]["text/plain"].startswith("layers[1].mlp: ")
    assert kernel.do_inspect("abc", 99, 1) == {
        "status": "ok",
        "found": False,
        "position": 3,
        "level": 1,
    }
    leave_inspection(kernel)
    assert "do_inspect" not in vars(kernel)
    leave_inspection(kernel)
