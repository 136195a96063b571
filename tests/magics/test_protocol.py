"""The magics over the Jupyter messaging protocol, in a kernel of their own."""

from __future__ import annotations

import IPython
import pytest
from jupyter_client.manager import start_new_kernel

from tests.magics.conftest import PROMPT

SETUP = """
from nnsight_magic import LanguageModel
from tests import tiny
model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
%load_ext nnsight_magic
"""
HEAD = f'%%trace "{PROMPT}"\n'


class Kernel:
    def __init__(self, client):
        self.client = client

    def run(self, code):
        """Executes a cell; gives its reply and the messages on iopub."""
        sent = self.client.execute(code)
        reply = self._reply(sent)
        messages = []
        while True:
            message = self.client.get_iopub_msg()
            if message["parent_header"].get("msg_id") != sent:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return reply, messages
            messages.append((message["msg_type"], message["content"]))

    def complete(self, code):
        return self._reply(self.client.complete(code, len(code)))

    def _reply(self, sent):
        """The reply to one message: others may be late, of those that asked whether it is up."""
        while True:
            message = self.client.get_shell_msg()
            if message["parent_header"].get("msg_id") == sent:
                return message["content"]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ipython")
    manager, client = start_new_kernel(kernel_name="python3", env=_environment(folder))
    kernel = Kernel(client)
    reply, messages = kernel.run(SETUP)
    assert reply["status"] == "ok", messages
    yield kernel
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def _environment(folder):
    import os
    from pathlib import Path

    root = str(Path(__file__).parents[2])
    folders = filter(None, (os.environ.get("PYTHONPATH"), root))
    return {**os.environ, "IPYTHONDIR": str(folder), "PYTHONPATH": os.pathsep.join(folders)}


def test_the_kernel_has_the_ipython_of_the_tests(kernel):
    _, messages = kernel.run("import IPython; print(IPython.__version__)")
    assert ("stream", f"{IPython.__version__}\n") in [(k, c.get("text")) for k, c in messages]


def test_a_result_without_views_comes_as_text_and_html(kernel):
    reply, messages = kernel.run(f'%%trace "{PROMPT}" --no-view\nh = layers[1].output')
    assert reply["status"] == "ok"
    (data,) = [content["data"] for kind, content in messages if kind == "execute_result"]
    assert "stopped after layers[1].output" in data["text/plain"]
    assert "\x1b" not in data["text/plain"]
    assert data["text/html"].startswith('<div class="nnv-still">')


def test_completion_has_the_classes_in_its_metadata(kernel):
    reply = kernel.complete(HEAD + "x = layers[1].m")
    if IPython.version_info < (8, 6):  # its completer takes nobody else's, and answers as ever
        assert reply["status"] == "ok" and reply["matches"] == []
        return
    assert reply["matches"] == ["mlp"]
    (item,) = reply["metadata"]["_jupyter_types_experimental"]
    assert item["type"].startswith("LlamaMLP")


def test_completion_of_options(kernel):
    matches = kernel.complete("%%trace --fu")["matches"]
    assert ("--full" in matches) == (IPython.version_info >= (8, 6))


def test_a_language_error_is_shown_as_exactly_its_lines(kernel):
    reply, messages = kernel.run(HEAD + "x = layers[1].mpl.output")
    assert reply["status"] == "error"
    (error,) = [content for kind, content in messages if kind == "error"]
    text = "\n".join(error["traceback"])
    assert "did you mean" in text
    assert "Traceback" not in text
    assert len(text.split("\n")) <= 15


def test_an_error_in_a_cell_shows_the_cell_s_lines(kernel):
    _, messages = kernel.run(HEAD + "h = layers[1].output\nh @ h")
    (error,) = [content for kind, content in messages if kind == "error"]
    text = "\n".join(error["traceback"])
    assert "site-packages" not in text
    assert "run_cell_magic" not in text


def test_a_cell_with_await_in_the_notebook_runs_before_and_after(kernel):
    assert kernel.run("import asyncio\nawait asyncio.sleep(0)")[0]["status"] == "ok"
    assert kernel.run(HEAD + "h = layers[1].output")[0]["status"] == "ok"


def test_print_in_a_cell_arrives(kernel):
    _, messages = kernel.run(HEAD + "print('seen', layers[1].output.ndim)")
    assert any("seen 3" in content["text"] for kind, content in messages if kind == "stream")


def displayed(messages):
    """What was displayed, and what took its place: kind and data."""
    return [(k, c["data"], c["transient"]) for k, c in messages if k.endswith("display_data")]


def test_a_word_stands_where_a_model_will_be_shown(kernel, tiny_gpt2_folder):
    reply, messages = kernel.run(f"%model {tiny_gpt2_folder} --name loaded")
    kernel.run("del loaded")
    assert reply["status"] == "ok"
    (first, word, place), *_, (second, view, there), (last, still, _) = displayed(messages)
    assert (first, second, last) == ("display_data", "update_display_data", "display_data")
    assert word["text/plain"].startswith("loading /")
    assert "application/vnd.jupyter.widget-view+json" in view
    assert there == place
    assert "GPT2LMHeadModel" in still["text/plain"]
    assert "loading" not in still["text/plain"]


def test_the_word_is_gone_where_no_model_comes(kernel):
    reply, messages = kernel.run("%model nowhere/at-all")
    assert reply["status"] == "error"
    (_, word, place), (_, nothing, there) = displayed(messages)
    assert word["text/plain"] == "loading nowhere/at-all …"
    assert nothing == {"text/plain": "", "text/html": ""}
    assert there == place


def test_without_views_the_word_gives_way_to_the_text(kernel, tiny_gpt2_folder):
    kernel.run("%config NNsightMagic.view = False")
    _, messages = kernel.run(f"%model {tiny_gpt2_folder} --name loaded")
    kernel.run("%config NNsightMagic.view = True\ndel loaded")
    (_, word, _), (_, nothing, _) = displayed(messages)
    assert word["text/plain"].startswith("loading")
    assert nothing["text/plain"] == ""
    (text,) = (content["text"] for kind, content in messages if kind == "stream")
    assert text.startswith("loaded: ")


# A bar is shown to those who have waited for one or two seconds: here they wait at least as long.
SLOW = """
import time
def slowly(*_):
    time.sleep(0.15)
hook = model.module.model.layers[0].register_forward_hook(slowly)
def zero(block):
    model.layers[block].mlp.output[:] = 0
    return model.logits.sum().item()
"""


@pytest.mark.parametrize(
    "cell",
    [
        f'%%generate "{PROMPT}" -n 25 --do_sample False --eos_token_id 319 --no-view --no-compare\n'
        "for step in steps: h = logits",
        f'effects = model.sweep("{PROMPT}", zero, [0] * 16, batch_size=1)',
    ],
    ids=["generation", "sweep"],
)
def test_a_bar_is_shown_and_leaves_no_widget_behind(kernel, cell):
    assert kernel.run(SLOW)[0]["status"] == "ok"
    reply, messages = kernel.run(cell)
    kernel.run("hook.remove()")
    assert reply["status"] == "ok"
    bars = [
        content["data"]
        for kind, content in messages
        if kind in ("display_data", "update_display_data") and "text/html" in content["data"]
    ]
    bars = [data for data in bars if data["text/html"] == "" or "<progress" in data["text/html"]]
    assert len(bars) > 2
    assert "value=" in bars[0]["text/html"]
    assert bars[-1] == {"text/plain": "", "text/html": ""}
    assert not any("comm" in kind for kind, _ in messages)
    assert not any(kind == "stream" for kind, _ in messages)


IN_THE_FOURTH_CALL = """
import _thread
calls = []
def interrupts(*_):
    calls.append(0)
    if len(calls) == 4:
        _thread.interrupt_main()
hook = model.module.model.layers[0].register_forward_hook(interrupts)
"""


def test_an_interrupted_generation_leaves_its_steps(kernel):
    assert kernel.run(IN_THE_FOURTH_CALL)[0]["status"] == "ok"
    line = f'%%generate "{PROMPT}" -n 60 --do_sample False --eos_token_id 319\n'
    reply, _ = kernel.run(line + "for step in steps:\n    seen = logits[:, -1]")
    kernel.run("hook.remove()")
    assert reply["ename"] == "KeyboardInterrupt"
    _, messages = kernel.run("print(len(seen), type(seen).__name__)")
    assert ("stream", "3 Tensor\n") in [(kind, c.get("text")) for kind, c in messages]


def test_a_shown_result_keeps_its_tensors_no_longer_than_the_notebook_does(kernel):
    assert kernel.run(HEAD + "h = layers[1].output")[0]["status"] == "ok"
    code = "import gc, weakref\nalive = weakref.ref(h)\ndel h\ngc.collect()\nprint(alive() is None)"
    _, messages = kernel.run(code)
    assert ("stream", "True\n") in [(kind, content.get("text")) for kind, content in messages]
