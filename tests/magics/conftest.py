"""A real IPython shell with a tiny model."""

from __future__ import annotations

import atexit
import builtins
import re

import pytest
from IPython import version_info
from IPython.core import completer
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from nnsight_magic import LanguageModel
from tests.hooks import hook_count

# IPython 7, which Colab has, takes no completion from others; all else is tested there too.
collect_ignore = [] if hasattr(completer, "context_matcher") else ["test_completion.py"]

PROMPT = "The Eiffel Tower is in the city of"


class Shell:
    """Runs cells as a notebook does, and keeps what they print, show and raise."""

    def __init__(self, ip):
        self.ip = ip
        self.ns = ip.user_ns
        self.text = ""
        self.result = None

    def run(self, cell):
        """Runs a cell that must not fail; gives its value."""
        outcome = self._run(cell)
        outcome.raise_error()
        return outcome.result

    def fails(self, cell):
        """Runs a cell that must fail; gives what is shown, without colours."""
        outcome = self._run(cell)
        self.error = outcome.error_in_exec or outcome.error_before_exec
        assert self.error is not None, "the cell ran"
        return self.plain

    def shown(self, cell):
        """What a cell shows, whether it fails or not: `%%time` of IPython 8 keeps errors back."""
        self._run(cell)
        return self.plain

    @property
    def plain(self):
        plain = re.sub(r"\x1b\[[0-9;]*m", "", self.text)
        # IPython 7 marks the line with an arrow, later ones write its number as well.
        if version_info < (8,):
            plain = re.sub(r"(?m)^-+> (\d+) .*$", r"\g<0>  # line \1", plain)
        return plain

    def _run(self, cell):
        with capture_output() as captured:
            outcome = self.ip.run_cell(cell, store_history=True)
        self.text = captured.stdout + captured.stderr
        self.outputs = captured.outputs
        return outcome


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A shell with the extension and no model."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    # A doctest that ran before leaves its last value here, and IPython then keeps off `_`.
    monkeypatch.delattr(builtins, "_", raising=False)
    config = Config()
    config.HistoryManager.enabled = False
    InteractiveShell.clear_instance()
    ip = InteractiveShell.instance(config=config, colors="nocolor")
    shell = Shell(ip)
    shell.run("%load_ext nnsight_magic")
    yield shell
    # Every shell resets itself at exit, which collects garbage: half a second for each test.
    atexit.unregister(ip.atexit_operations)
    InteractiveShell.clear_instance()


@pytest.fixture
def module(tiny):
    module = tiny("llama")
    yield module
    assert hook_count(module) == 0, "hooks were left behind"


@pytest.fixture
def shell(bare, module, tiny_tokenizer):
    """A shell with the extension and a tiny Llama as `model`."""
    bare.ns["model"] = LanguageModel(module, tiny_tokenizer)
    return bare


@pytest.fixture
def cell():
    """`cell(body, line)`: a `%%trace` cell on the usual prompt."""
    return lambda body, line="", magic="trace": f'%%{magic} "{PROMPT}" {line}\n{body}'
