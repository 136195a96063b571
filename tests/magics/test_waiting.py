"""The word that stands while a model is loaded: in a terminal, and where output is no terminal."""

import os
import pty
import subprocess
import sys

import pytest

CODE = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="nocolor")
shell.run_cell("%load_ext nnsight_magic")
write, seen = sys.stdout.write, []
def watched(text):
    seen.append("torch" in sys.modules)
    return write(text)
sys.stdout.write = watched
shell.run_cell("%model " + sys.argv[1])
print("torch was there:", seen[0])
"""


def in_terminal(*arguments):
    """What a terminal is sent by such a program."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", CODE, *arguments], stdin=theirs, stdout=theirs, stderr=theirs
    ) as program:
        os.close(theirs)
        sent = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the program has ended
                break
            if not part:
                break
            sent += part
        assert program.wait() == 0
    os.close(ours)
    return sent.decode()


def on_screen(sent):
    """What stands there in the end: CR goes to the line's begin, ESC[K wipes the rest of it."""
    lines = []
    for line in sent.replace("\r\n", "\n").split("\n"):
        shown = ""
        for part in line.split("\r"):
            written = part.removeprefix("\x1b[K")
            shown = written + (shown[len(part) :] if written == part else "")
        lines.append(shown)
    return "\n".join(lines)


def test_a_terminal_is_told_at_once_and_the_word_is_wiped_off(tiny_gpt2_folder):
    sent = in_terminal(str(tiny_gpt2_folder))
    assert "loading /" in sent.split("\r")[0]
    assert "torch was there: False" in sent, "the word comes before what takes long"
    shown = on_screen(sent)
    assert "loading" not in shown
    assert "GPT2LMHeadModel" in shown


def test_after_an_error_the_word_is_gone():
    sent = in_terminal("nowhere/at-all")
    assert sent.startswith("loading nowhere/at-all …")
    assert "loading nowhere" not in on_screen(sent)


@pytest.mark.parametrize("name", ["hf", "model.bin"])
def test_where_nothing_can_be_taken_back_nothing_is_said(bare, tiny, name):
    bare.ns["hf"] = tiny("gpt2")
    bare._run(f"%model {name}")
    assert "loading" not in bare.plain


def test_a_word_takes_one_line(monkeypatch, capsys):
    from nnsight_magic.magics.waiting import Waiting

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with Waiting(None, "loading \x1b[2J" + "long\n" * 100):
        pass
    said = capsys.readouterr().out
    assert said.endswith("\r\x1b[K")
    word = said.removesuffix("\r\x1b[K")
    assert len(word) <= 60
    assert "\n" not in word
    assert "\x1b" not in word
