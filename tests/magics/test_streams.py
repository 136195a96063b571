"""What is shown of a generation is what came of it, however often it was written on the way."""

from __future__ import annotations

import pytest
import torch
from ipywidgets.widgets import widget

from nnsight_magic import LanguageModel
from nnsight_magic.language.tokens import token_texts
from nnsight_magic.magics.progress import TokenProgress
from nnsight_magic.views import StepsView
from tests import tiny

PROMPT = "The cat sat on"
NEW = 6


@pytest.fixture(autouse=True)
def one_core():
    """Two threads that wait for each other on a busy machine cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


# ── what the model is configured to do, where the line says nothing ──────────────────────


def written(module, new=NEW, **options):
    """The texts of the new tokens, as plain transformers generates them."""
    encoded = tiny.tokenizer()(PROMPT, return_tensors="pt")
    torch.manual_seed(3)
    with torch.no_grad():
        ids = module.generate(**encoded, max_new_tokens=new, **options)[0]
    begin = 1 if module.config.is_encoder_decoder else encoded.input_ids.shape[1]
    return token_texts(tiny.tokenizer(), ids[begin:].tolist())


@pytest.fixture
def configured(bare):
    """Makes a model with a configuration of its own the one that cells run on."""

    def make(architecture, **config):
        module = tiny.build(architecture)
        for name, value in {"eos_token_id": 319, "pad_token_id": 0, **config}.items():
            setattr(module.generation_config, name, value)
        bare.ns["model"] = LanguageModel(module, tiny.tokenizer())
        return module

    return make


@pytest.mark.parametrize("views", [False, True])
@pytest.mark.parametrize("body", ["nothing", "backwards", "write"])
@pytest.mark.parametrize(
    "config",
    [{"num_beams": 2}, {"do_sample": True}, {"num_beams": 2, "num_return_sequences": 2}],
    ids=str,
)
@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_beams_and_sampling_that_a_model_is_configured_for(
    bare, configured, architecture, config, body, views
):
    module = configured(architecture, min_new_tokens=NEW, **config)
    if views:
        bare.ip.kernel = object()
    result = bare.run(f'%%generate "{PROMPT}" -n {NEW} --seed 3\n{BODIES[body]}')
    if views:
        del bare.ip.kernel
    clean = written(module)
    mine = result.prompts[0]
    assert list(mine.generated_clean if body == "write" else mine.generated) == clean
    assert result.extent == f"{NEW} new tokens"
    steps = result.view.steps
    assert (steps is not None) == (views and "num_beams" not in config)
    if steps is not None:
        assert [step.token for step in steps.all_steps] == list(mine.generated)


@pytest.mark.parametrize("option", ["prompt_lookup_num_tokens", "guidance_scale"])
def test_a_way_without_steps_that_a_model_is_configured_for_is_refused_in_words(
    bare, configured, option
):
    configured("llama", **{option: 2})
    shown = bare.fails(f'%%generate "{PROMPT}" -n 3\nh = layers[1].output')
    assert option in shown
    assert "no step would be one new token" in " ".join(shown.split())


@pytest.mark.parametrize("views", [False, True])
def test_a_text_ends_where_the_line_says(bare, configured, views):
    """And not where the model's own configuration would have it end."""
    module = configured("llama")
    ids = written(module, min_new_tokens=NEW)
    tokens = tiny.tokenizer()(PROMPT, return_tensors="pt")
    with torch.no_grad():
        text = module.generate(**tokens, max_new_tokens=NEW, min_new_tokens=NEW)[0, -NEW:].tolist()
    module.generation_config.eos_token_id = text[1]
    if views:
        bare.ip.kernel = object()
    whole = bare.run(f'%%generate "{PROMPT}" -n {NEW} --eos_token_id 319\npass')
    short = bare.run(f'%%generate "{PROMPT}" -n {NEW}\npass')
    if views:
        del bare.ip.kernel
    assert list(whole.prompts[0].generated) == ids
    stop = text.index(text[1]) + 1
    assert list(short.prompts[0].generated) == ids[:stop]


# ── a bar, and a run that is cut short ───────────────────────────────────────────────────


@pytest.mark.parametrize("config", [{}, {"num_beams": 3}], ids=str)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_the_bar_counts_every_new_token_once(
    bare, configured, monkeypatch, architecture, body, config
):
    bars = []

    class Watched(TokenProgress):
        def close(self):
            bars.append((self._bar.n, self._bar.total))
            super().close()

    monkeypatch.setattr("nnsight_magic.magics.progress.TokenProgress", Watched)
    configured(architecture, min_new_tokens=NEW, **config)
    text = BODIES[body].replace("embed.output", "layers[0].output")
    bare.run(f'%%generate "{PROMPT}" -n {NEW} --no-compare\n{text}')
    assert bars == [(NEW, NEW)]


@pytest.mark.parametrize("error", ["ValueError('stop')", "KeyboardInterrupt()"])
@pytest.mark.parametrize("body", ["forwards", "backwards", "back a step"])
def test_a_run_that_is_cut_short_shows_the_beginning_of_its_text(bare, configured, body, error):
    module = configured("llama", min_new_tokens=NEW)
    bare.ip.kernel = object()
    bare.fails(
        f'%%generate "{PROMPT}" -n {NEW}\n{BODIES[body]}\n    if step == 4:\n        raise {error}'
    )
    del bare.ip.kernel
    # Until ipywidgets 8 all widgets stood in an attribute of their class.
    alive = getattr(widget, "_instances", None) or widget.Widget.widgets
    steps = [each for each in list(alive.values()) if isinstance(each, StepsView)][-1]
    tokens = [step.token for step in steps.all_steps]
    assert tokens == written(module)[: len(tokens)]
    assert len(tokens) in (4, 5)
    assert not steps.running
    bare.run("%runs")
    assert ("interrupted" if "Keyboard" in error else "ValueError") in bare.plain
    again = bare.run(f'%%generate "{PROMPT}" -n {NEW}\n{BODIES[body]}')
    assert list(again.prompts[0].generated) == written(module)
