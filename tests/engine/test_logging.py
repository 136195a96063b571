"""What the memory of blocks does is told to `logging`, under the package's name."""

from __future__ import annotations

import logging
import warnings

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from nnsight_magic import Model
from nnsight_magic.errors import NnsightWarning, ThreadsWarning


def test_what_is_remembered_resumed_and_given_up_is_logged(caplog):
    torch.manual_seed(0)
    config = GPT2Config(n_layer=4, n_embd=16, n_head=2, vocab_size=32, n_positions=16)
    module, ids = GPT2LMHeadModel(config).eval(), torch.arange(5)[None]
    model = Model(module)
    caplog.set_level(logging.DEBUG, logger="nnsight_magic")
    for _ in range(3):
        with model.trace(ids, use_cache=False):
            model.layers[3].output.save()
    assert "remembered block" in caplog.text and "resumed behind block" in caplog.text
    caplog.clear()
    module.transformer.h[0].register_forward_hook(lambda *_: None)
    with model.trace(ids, use_cache=False):
        model.layers[3].output.save()
    assert "nothing is remembered: hooks of other code, or training mode" in caplog.text
    assert not logging.getLogger("nnsight_magic").handlers


def test_one_class_silences_the_warnings_of_this_package():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", NnsightWarning)
        warnings.warn("threads", ThreadsWarning, stacklevel=1)
        warnings.warn("of another", UserWarning, stacklevel=1)
    assert [str(each.message) for each in seen] == ["of another"]
    assert issubclass(ThreadsWarning, RuntimeWarning)
