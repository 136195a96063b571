"""What is shown of a generation is what came of it, however often it was written on the way."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.views import StepsView
from tests import tiny

PROMPT = "The cat sat on"
NEW = 6

# Reads that need no second run of the model, one, and several.
BODIES = {
    "nothing": "pass",
    "forwards": "for step in steps:\n    h = layers[1].output[:, -1]\n    e = logits[:, -1]",
    "backwards": "for step in steps:\n    h = layers[-1].output[:, -1]\n    e = layers[0].output",
    "back a step": "for step in steps:\n    if step == 3:\n        h = layers[1].output",
    "write": "for step in steps:\n    layers[1].output[:, -1] *= 1.5\n    e = layers[0].output",
    "late": "h = layers[1].output\ne = embed.output",
}


@pytest.fixture
def notebook(shell):
    shell.ip.kernel = object()  # there is a front end that shows views
    yield shell
    del shell.ip.kernel


@pytest.mark.parametrize("options", ["", "--do_sample True --seed 3", "--num_beams 2"])
@pytest.mark.parametrize("body", BODIES)
def test_every_new_token_is_shown_once(notebook, body, options):
    line = f'%%generate "{PROMPT}" -n {NEW} --eos_token_id 319 --min_new_tokens {NEW} {options}'
    if "sample" not in options:
        line += " --do_sample False"
    result = notebook.run(f"{line}\n{BODIES[body]}")
    tokens = result.prompts[0].generated
    assert len(tokens) == NEW
    assert result.extent == f"{NEW} new tokens"
    view = result.view
    if "beams" in options:
        return  # nothing streams in there
    assert isinstance(view.steps, StepsView)
    assert [step.token for step in view.steps.all_steps] == list(tokens)
    assert [packed[0] for packed in view.steps.steps] == list(tokens)
    for step in view.steps.all_steps:
        assert step.p == dict(step.candidates)[step.token]
    assert len(result.prompts[0].steps) == NEW


def test_a_decoder_that_starts_by_itself_counts_its_new_tokens(bare):
    module = tiny.build("t5")
    bare.ns["model"] = LanguageModel(module, tiny.tokenizer())
    for new in (1, 3):
        encoded = tiny.tokenizer()(PROMPT, return_tensors="pt")
        with torch.no_grad():
            ids = module.generate(**encoded, max_new_tokens=new, min_new_tokens=new)
        bare.ip.kernel = object()
        line = f'%%generate "{PROMPT}" -n {new} --min_new_tokens {new}\n'
        for body in ("pass", "h = layers[0].output"):
            result = bare.run(line + body)
            assert len(result.prompts[0].generated) == new == ids.shape[1] - 1
            assert result.extent == f"{new} new token{'s' * (new != 1)}"
            assert len(result.view.steps.all_steps) == new
        del bare.ip.kernel
        bare.run(line + "layers[0].output *= 2")
        assert f"{new} new token" in bare.plain
        bare.run("%runs")
        assert "4" not in bare.plain.split("new token")[0][-3:]


@pytest.mark.parametrize(
    "options", ["--num_beams 2", "--num_return_sequences 2 --do_sample True --seed 1"]
)
def test_rows_of_a_prompt_are_its_own_and_its_text_stands_under_it(shell, module, options):
    """Beams and drawn texts are rows one after another, those of each prompt together."""
    flags = f"-n 3 --min_new_tokens 3 {options}"
    line = f'%%generate clean="{PROMPT}" corrupt="A dog" {flags}'
    first = shell.run(
        f"{line}\nh = clean.layers[0].output\nk = corrupt.layers[0].output\nt = layers[0].output"
    )
    assert shell.ns["h"].shape[0] == shell.ns["k"].shape[0] == 2
    assert torch.equal(shell.ns["h"], shell.ns["t"][:2])
    assert torch.equal(shell.ns["k"], shell.ns["t"][2:, -shell.ns["k"].shape[1] :])
    assert len(first.prompts) == 2
    clean = first.prompts[0].generated, first.prompts[1].generated
    second = shell.run(f"{line}\ncorrupt.layers[0].output[:] = 0\nt = layers[0].output")
    assert shell.ns["t"][:2].abs().min() > 0
    assert shell.ns["t"][2:, -shell.ns["k"].shape[1] :].abs().max() == 0
    assert second.prompts[0].generated == clean[0]
    alone = shell.run(f'%%generate "A dog" {flags.replace("--seed 1", "--seed 2")}\npass')
    if "beams" in options:
        assert clean[1] == alone.prompts[0].generated
