"""Nothing is printed, and nothing warned, that the user did not do."""

from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest

from nnsight_magic import LanguageModel
from tests.engine.undisturbed import IDS

pytestmark = pytest.mark.usefixtures("ctrl_c", "gradients_on")


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox", "mixtral", "t5"])
def test_nothing_is_printed_and_nothing_warned(architecture, tiny, capfd, recwarn):
    model = LanguageModel(tiny(architecture))
    with model.trace(IDS):
        model.layers[0].output.save()
        model.output.logits.save()
    with model.generate(IDS, max_new_tokens=2):
        model.layers[0].output.save()
    assert [str(warning.message) for warning in recwarn] == []
    assert capfd.readouterr() == ("", "")


def test_what_transformers_logs_in_a_forward_stays_there(tiny):
    hf, log = tiny("llama"), logging.getLogger("transformers.models.llama")
    shown = logging.StreamHandler(io.StringIO())
    root = logging.getLogger("transformers")
    root.addHandler(shown)
    try:
        filters = [list(handler.filters) for handler in root.handlers]
        hf.model.layers[0].register_forward_hook(lambda *_: log.warning("slow kernels"))
        model = LanguageModel(hf)
        with model.trace(IDS):
            model.layers[1].output.save()
            log.warning("the user's own")
        log.warning("after it")
    finally:
        root.removeHandler(shown)
    assert shown.stream.getvalue() == "the user's own\nafter it\n"
    assert [list(handler.filters) for handler in (*root.handlers, shown)] == filters


def test_a_mamba_without_kernels_runs_in_silence():
    code = (
        "import torch, transformers\n"
        "from tests import tiny; from nnsight_magic import LanguageModel\n"
        "transformers.logging.set_verbosity_error()\n"  # transformers 4 says it when it is made
        "model = LanguageModel(tiny.build('mamba'))\n"
        "transformers.logging.set_verbosity_warning()\n"
        "with model.trace(torch.tensor([[1, 2, 3]])):\n"
        "    h = model.layers[0].output\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
