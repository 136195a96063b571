"""What JupyterLab's panel is told of a session, what it may change there, and what is refused."""

from __future__ import annotations

import pytest

from nnsight_magic.errors import NnsightError
from nnsight_magic.lab.comms import Lines
from nnsight_magic.lab.session import Session, quoted
from nnsight_magic.views.data.modules import describe, packed_kinds
from tests.magics.conftest import PROMPT

LINE = f'%%trace "{PROMPT}"\n'


@pytest.fixture
def session(shell):
    return Session(shell.ip.magics_manager.registry["NNsightMagic"])


def state(session):
    return session.state({"model": ""})


def test_a_session_without_a_model_has_nothing(bare):
    found = state(Session(bare.ip.magics_manager.registry["NNsightMagic"]))
    assert [found[name] for name in ("models", "saved", "runs", "edits")] == [[], [], [], []]
    assert (found["model"], found["tree"], found["facts"]) == ("", 0, None)


def test_the_tree_has_the_shapes_of_the_last_run_and_what_was_saved_and_written(shell, session):
    shell.run(f"{LINE}layers[0].mlp.output[:] = 0\nh = layers[1].output")
    found = state(session)
    model = shell.ns["model"]
    block = model.names.layers
    assert found["notes"][f"{block}.1"]["s"] == ["h"]
    assert found["notes"][f"{block}.1"]["o"] == str(tuple(shell.ns["h"].shape))
    assert found["notes"][f"{block}.0.mlp"]["w"] == 1
    parameters = {id(p): p.numel() for p in model.module.parameters()}
    assert found["facts"]["parameters"] == sum(parameters.values())
    del shell.ns["h"]
    assert "s" not in state(session)["notes"][f"{block}.1"]


def test_what_was_saved_is_listed_until_the_variable_is_another(shell, session):
    shell.run(f"{LINE}h = layers[1].output\np = logits[:, -1]")
    saved = {each["name"]: each for each in state(session)["saved"]}
    assert saved["h"]["bytes"] == shell.ns["h"].numel() * 4
    assert (saved["p"]["where"], saved["p"]["run"]) == ("logits[:, -1]", 1)
    shell.run("h = 3")
    assert [each["name"] for each in state(session)["saved"]] == ["p"]


def test_only_what_was_saved_can_be_dropped(shell, session):
    shell.run(f"{LINE}h = layers[1].output\np = logits[:, -1]")
    with pytest.raises(NnsightError, match="was not saved"):
        session.drop_saved({"names": ["h", "PROMPT"]})
    with pytest.raises(NnsightError, match="nothing to drop"):
        session.drop_saved({"names": []})
    assert "h" in shell.ns
    session.drop_saved({"names": ["h"]})
    assert "h" not in shell.ns
    assert "p" in shell.ns


def test_a_run_that_is_dropped_is_forgotten_and_its_number_is_not_used_again(shell, session):
    shell.run(f"{LINE}h = layers[1].output")
    shell.run(f"{LINE}layers[1].output[:] = 0")
    assert [each["number"] for each in state(session)["runs"]] == [2, 1]
    session.drop_run({"run": 2})
    with pytest.raises(NnsightError, match="no run '2'"):
        session.drop_run({"run": 2})
    shell.run(f"{LINE}h = layers[1].output")
    assert [each["number"] for each in state(session)["runs"]] == [3, 1]


def test_an_edit_is_switched_and_removed(shell, session):
    shell.run("%%edit quiet\nlayers[0].mlp.output[:] = 0")
    [edit] = state(session)["edits"]
    assert (edit["name"], edit["on"], edit["writes"]) == (
        "quiet",
        True,
        ["layers[0].mlp.output[:] = 0"],
    )
    session.switch_edit({"model": "model", "name": "quiet", "on": False})
    assert not shell.ns["model"].edits["quiet"].enabled
    with pytest.raises(NnsightError, match="does not say"):
        session.switch_edit({"model": "model", "name": "quiet", "on": 1})
    session.remove_edit({"model": "model", "name": "quiet"})
    assert not shell.ns["model"].edits


def test_what_is_asked_for_in_the_panel_is_saved_by_the_next_cell(shell, session):
    path = f"{shell.ns['model'].names.layers}.1.mlp"
    session.answers["want"]({"model": "model", "paths": [path]})
    assert state(session)["wanted"] == [path]
    shell.run(f"{LINE}h = layers[0].output")
    assert state(session)["wanted"] == []
    assert "layers_1_mlp_output" in [each["name"] for each in state(session)["saved"]]


def test_kinds_of_modules_are_those_of_the_tree(shell, session):
    tree = describe(shell.ns["model"].module)
    asked = {"model": "model", "numbers": [tree.root]}
    assert session.answers["kinds"](asked)["kinds"] == packed_kinds(tree, [tree.root])
    with pytest.raises(NnsightError, match="no such kind"):
        session.answers["kinds"]({"model": "model", "numbers": [10_000]})
    with pytest.raises(NnsightError, match="no module"):
        session.answers["details"]({"model": "model", "path": "nowhere"})


@pytest.mark.parametrize(
    "prompt", ["plain", 'a "b"', "{x} and $y", "two\nlines", "·é 中", "it's", "back\\slash", ""]
)
def test_a_prompt_in_a_line_is_read_as_itself(prompt):
    from nnsight_magic.magics.options import read_line

    assert read_line("trace", quoted(prompt), {}, {"x": 1, "y": 2}).prompts == [prompt]


class Comm:
    """What ipykernel's has that is used here, and what was sent on it."""

    comm_id = "one"

    def __init__(self, **_):
        self.sent = []
        self.closed = False

    def on_msg(self, heard):
        self.say = lambda data: heard({"content": {"data": data}})

    def on_close(self, gone):
        self.gone = gone

    def send(self, data):
        self.sent.append(data)

    def close(self):
        self.closed = True


@pytest.fixture
def lines(shell):
    news = []

    def open_comm(**facts):
        news.append(Comm())
        return news[-1]

    lines = Lines(shell.ip.magics_manager.registry["NNsightMagic"], open_comm)
    comm = Comm()
    lines.opened(comm, {})
    lines.news = news
    lines.comm = comm
    return lines


BAD = [
    {"do": "state"},
    {"do": "state", "model": 3},
    {"do": "drop_saved", "names": "h"},
    {"do": "drop_saved", "names": [["h"]]},
    {"do": "drop_run", "run": True},
    {"do": "drop_run", "run": "1"},
    {"do": "kinds", "model": "model", "numbers": [-1]},
    {"do": "want", "model": "model", "paths": [1]},
    {"do": "details", "model": "other", "path": ""},
    {"do": "__class__"},
    {"do": ["state"]},
    {},
]


@pytest.mark.parametrize("asked", BAD, ids=str)
def test_a_message_that_says_something_else_is_refused_in_words(lines, asked):
    lines.comm.say({**asked, "id": 4})
    [answer] = lines.comm.sent
    assert answer["re"] == 4
    assert answer["error"]
    assert "failed" not in answer["error"]


@pytest.mark.parametrize("said", [None, [], "state", {"do": "state"}, {"do": "state", "id": "1"}])
def test_what_nobody_waits_for_is_not_answered(lines, said):
    lines.comm.say(said)
    assert lines.comm.sent == []


def test_news_come_only_where_the_panel_is_seen(lines):
    lines.tell()
    assert lines.news == []
    lines.comm.say({"do": "watch", "on": True, "id": 1})
    lines.tell()
    assert lines.news[0].sent == [{"changed": 1}]
    lines.comm.say({"do": "watch", "on": False, "id": 2})
    lines.tell()
    assert len(lines.news[0].sent) == 1
    lines.close()
    assert lines.comm.closed


def test_the_model_in_use_is_told_with_its_memory(bare, shell, session):
    model = shell.ns["model"]
    held = sum(each.nbytes for each in model.module.parameters())
    assert session.in_use({}) == {"model": "model", "device": "cpu", "bytes": held}


def test_settings_of_the_page_are_defaults_that_it_takes_back(shell, session):
    magics = session.magics
    assert session.configure({"settings": {"quiet": True, "new_tokens": 7}})
    assert (magics.quiet, magics.new_tokens) == (True, 7)
    session.configure({"settings": {"new_tokens": 9}})
    assert (magics.quiet, magics.new_tokens) == (False, 9)


def test_what_a_notebook_has_set_itself_goes_before_the_page_s_settings(shell, session):
    magics = session.magics
    magics.new_tokens = 5
    session.configure({"settings": {"new_tokens": 9, "view": False}})
    assert (magics.new_tokens, magics.view) == (5, False)


@pytest.mark.parametrize(
    "given",
    [None, [], {"nonsense": 1}, {"model": "m"}, {"quiet": 1}, {"new_tokens": True},
     {"new_tokens": "7"}, {"view": None}, {"new_tokens": 3, "chat": "yes"}],
)  # fmt: skip
def test_settings_of_another_kind_are_refused_and_change_nothing(shell, session, given):
    before = dict(session.magics.settings)
    with pytest.raises(NnsightError):
        session.configure({"settings": given})
    assert session.magics.settings == before
