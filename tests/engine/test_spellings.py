"""What users of nnsight write runs as it stands, or is answered in one line of words."""

from __future__ import annotations

import pytest
import torch

import nnsight_magic
from nnsight_magic import LanguageModel, Model, NnsightError
from nnsight_magic.errors import SpellingError
from tests.hooks import hooked, hooked_block

IDS = torch.tensor([[1, 2, 3, 4, 5]])
NEW = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}


@pytest.fixture(params=["gpt2", "llama"])
def hf(request, tiny):
    return tiny(request.param)


def plain_logits(hf):
    with torch.no_grad():
        return hf(IDS, use_cache=False).logits


@pytest.mark.parametrize("more", [{}, {"return_dict_in_generate": True, "output_scores": True}])
def test_results_are_saved(model, hf, more):
    expected = hf.generate(IDS, **NEW, **more)
    with model.generate(IDS, **NEW, **more) as tracer:
        found = tracer.result.save()
        same = model.generator.output.save()
    for each in (found, same):
        ids = each.value if not more else each.sequences
        assert torch.equal(ids, expected if not more else expected.sequences)
    if more:
        assert isinstance(found, type(expected))
        assert all(map(torch.equal, found.scores, expected.scores))
    assert type(model.generate(IDS, **NEW).sequences) is torch.Tensor
    with model.generate(**NEW) as tracer:
        for _ in range(2):
            with tracer.invoke(IDS):
                model.layers[0].output.save()
    assert len(tracer.result.save()) == 2
    with model.trace(IDS) as tracer:
        whole = tracer.result.save()
    assert torch.equal(whole.logits.value, plain_logits(hf))


def test_chosen_steps(model):
    with model.generate(IDS, **NEW) as tracer:
        states = [int(step) for step in tracer.iter[[0, 2]]]
    assert states == [0, 2]
    with pytest.raises(IndexError, match="3 steps"), model.generate(IDS, **NEW) as tracer:
        list(tracer.iter[7])
    with model.generate(IDS, **NEW) as tracer:
        seen = [model.layers[0].output.shape[1]]
        for _ in range(2):
            tracer.next()
            seen.append(model.layers[0].output.shape[1])
    assert seen == [5, 1, 1]


@pytest.mark.parametrize(
    ("of", "write"),
    [
        (lambda model, tracer: tracer.iter[:], "for step in tracer.iter[:]:"),
        (lambda model, tracer: tracer.iter[1:3], "for step in tracer.iter[1:3]:"),
        (lambda model, tracer: tracer.all(), "for step in tracer.iter[:]:"),
        (lambda model, tracer: tracer.steps, "for step in tracer.steps:"),
        (lambda model, tracer: model.layers[0].all(), "for step in tracer.iter[:]:"),
        (lambda model, tracer: model.all(), "for step in tracer.iter[:]:"),
    ],
)
def test_a_block_that_would_run_once_a_step_says_what_to_write(model, of, write):
    with (
        pytest.raises(SpellingError) as error,
        model.generate(IDS, **NEW) as tracer,
        of(model, tracer),
    ):
        pass
    assert write in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("call", ["trace", "generate", "session", "scan", "edit"])
def test_remote_runs_say_what_there_is_instead(model, call):
    given = () if call in ("session", "edit") else (IDS,)
    with pytest.raises(SpellingError, match="load the model on this machine"):
        getattr(model, call)(*given, remote=True)
    getattr(model, call)(*given, remote=False)


def test_the_shapes_of_a_scan_are_read_in_a_block(model, hf):
    with model.scan(IDS):
        hidden = model.layers[1].output[0].save()
        attention = model.layers[1].attn.output[0]
        width = model.layers[0].mlp.input.shape[-1]
        logits = model.output.logits
        with pytest.raises(IndexError):
            model.layers[1].output[:, :, 99] = 0
    assert (hidden.shape, attention.shape, width) == ((1, 5, 32), (1, 5, 32), 32)
    assert logits.shape == plain_logits(hf).shape
    assert hidden.device.type == "meta"
    with pytest.raises(NnsightError, match="inside a trace"):
        _ = model.layers[0].output


def test_a_session_holds_traces(model, hf):
    with model.session() as session:
        with model.trace(IDS):
            hidden = model.layers[0].output.save()
        with model.trace(IDS):
            model.layers[1].output = hidden
            logits = model.logits.save()
        session.stop()
        raise AssertionError
    with hooked_block(model.layers[1].module, lambda out: hidden.value):
        assert torch.equal(logits.value, plain_logits(hf))


def test_an_edited_copy_leaves_the_model_as_it_was(model, hf):
    with hooked(model.layers[1].mlp.module, torch.zeros_like):
        expected = plain_logits(hf)
    with model.edit() as edited:
        model.layers[1].mlp.output[:] = 0
    with edited.edit() as twice:
        twice.layers[0].mlp.output = 1
    assert type(edited) is type(model)
    assert torch.equal(edited.trace(IDS, trace=False).logits, expected)
    assert torch.equal(model.trace(IDS, trace=False).logits, plain_logits(hf))
    assert (len(model.edits), len(edited.edits), len(twice.edits)) == (0, 1, 2)
    assert edited.module is model.module is twice.module
    with model.edit(inplace=True):
        model.layers[1].mlp.output[:] = 0
    assert torch.equal(model.trace(IDS, trace=False).logits, expected)
    model.clear_edits()
    assert torch.equal(model.trace(IDS, trace=False).logits, plain_logits(hf))


def test_an_error_in_an_edit_leaves_nothing(model):
    with pytest.raises(ZeroDivisionError), model.edit():
        model.layers[0].output[:] = 1 / 0
    assert not model.edits
    with model.trace(IDS):
        model.layers[0].output.save()


def test_a_copy_of_a_model_that_is_not_loaded_loads_its_weights_once(tiny_gpt2_folder):
    model = LanguageModel(str(tiny_gpt2_folder), device_map="cpu")
    with model.edit() as edited:
        edited.layers[0].mlp.output[:] = 0
    assert not model.loaded
    assert edited.module is model.module


def test_a_cache_is_read_in_many_ways(model, hf):
    path = model.layers[1].path
    with model.trace(IDS) as tracer:
        cache = tracer.cache(modules=[model.layers[0], model.layers[1]], include_inputs=True).save()
        hidden = model.layers[1].output
        given = model.layers[1].input
    walked = cache.model
    for part in path.split("."):
        walked = walked[int(part)] if part.isdigit() else getattr(walked, part)
    for entry in (cache[f"model.{path}"], cache[path], cache[model.layers[1]], walked):
        assert torch.equal(hidden_states(entry.output), hidden)
        assert torch.equal(entry.input, given)
        assert len(entry) == 1
    assert f"model.{path}" in cache
    assert hidden_states(cache[path].output).save() is not None
    with pytest.raises(KeyError, match="The cache has no"):
        cache["model.nothing"]
    with model.generate(IDS, **NEW) as tracer:
        cache = tracer.cache(modules=[model.layers[0]])
    assert [len(cache[model.layers[0]]), len(cache[model.layers[0]].output)] == [3, 3]
    assert hidden_states(cache[model.layers[0]][2].output).shape == (1, 1, 32)


def hidden_states(output):
    """A cache keeps what a block returned: before transformers 5, a tuple for some."""
    return output[0] if isinstance(output, tuple) else output


def test_a_cache_may_keep_the_graph(model, hf):
    with model.trace(IDS, grad=True) as tracer:
        cache = tracer.cache([model.layers[0]], detach=False)
    hidden_states(cache[model.layers[0]].output).sum().backward()
    assert hf.get_input_embeddings().weight.grad is not None


def test_a_block_is_written_as_the_tuple_that_it_used_to_be(model, hf):
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    with hooked_block(model.layers[1].module, torch.ones_like), torch.no_grad():
        expected = hf(ids, use_cache=False).logits
    with model.trace(ids):
        new = torch.ones_like(model.layers[1].output[0])
        model.layers[1].output = (new, *model.layers[1].output[1:])
        one = model.logits
    with model.trace(ids):
        new = torch.ones_like(model.layers[1].output[0])
        model.layers[1].output = (new,) + model.layers[1].output[1:]  # noqa: RUF005
        other = model.logits
    assert torch.equal(one, expected) and torch.equal(other, expected)


def test_saving_by_a_function(model):
    with model.trace(IDS):
        numbers = nnsight_magic.save([1])
        best = nnsight_magic.save(model.logits[0, -1].argmax(-1).item())
    assert numbers == [1] and isinstance(best, int)


@pytest.mark.parametrize(
    ("do", "error"),
    [
        (lambda m: m.layers[99], IndexError),
        (lambda m: m.layers[0].mlp[0], TypeError),
        (lambda m: list(m.layers[0].mlp), TypeError),
        (lambda m: m.layers[0].nothing, AttributeError),
        (lambda m: m.layers[0].output, AttributeError),
        (lambda m: m.edits["none"], KeyError),
        (lambda m: m.trace(IDS, attention_maks=1), TypeError),
    ],
)
def test_errors_are_those_that_python_code_catches(model, do, error):
    with pytest.raises(error) as found:
        do(model)
    assert isinstance(found.value, NnsightError)


@pytest.mark.parametrize(
    ("index", "new", "error"),
    [
        ((slice(None), 99), 0, IndexError),
        (slice(None), torch.zeros(7), RuntimeError),
        (slice(None), "x", TypeError),
    ],
)
def test_errors_of_writes_are_those_of_torch(model, index, new, error):
    with pytest.raises(error) as found, model.trace(IDS):
        model.layers[0].output[index] = new
    assert isinstance(found.value, NnsightError)


def test_a_step_behind_the_end_is_an_index_error(model):
    with pytest.raises(IndexError), model.generate(IDS, **NEW):
        mlp = model.layers[0].mlp
        for _ in range(9):
            mlp = mlp.next()
        _ = mlp.output


def test_any_module_is_run_at_once():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    model = Model(module)
    x = torch.ones(2, 3)
    assert torch.equal(model.trace(x, trace=False), module(x))


def test_a_model_that_is_moved_or_set_stays_wrapped(model, hf):
    assert model.to("cpu") is model.cpu() is model.eval() is model.requires_grad_(False) is model
    assert model.layers[0].mlp.float() is model.layers[0].mlp
    assert not any(p.requires_grad for p in hf.parameters())
    assert model._module is hf and model.layers[0]._module is model.layers[0].module
    assert model.get("layers.1.mlp").path == model.layers[1].mlp.path


def test_the_savers_of_the_package_are_python_s_own_kinds():
    import copy
    import pickle

    made = {
        "list": [1],
        "dict": {1: 2},
        "set": {1},
        "tuple": (1,),
        "int": 3,
        "float": 0.5,
        "str": "x",
    }
    for name, value in made.items():
        saver = getattr(nnsight_magic, name)(value)
        assert saver.save() is saver and saver == value and isinstance(saver, type(value))
        for other in (copy.copy(saver), pickle.loads(pickle.dumps(saver))):
            assert type(other) is type(value) and other == value
    assert nnsight_magic.apply(max, 1, 2) == 2
    assert "list" not in nnsight_magic.__all__


@pytest.mark.parametrize(
    ("do", "write"),
    [
        (lambda m, t: [].save(), "nnsight_magic.save(x)"),
        (lambda m, t: m.logits.shape.save(), "nnsight_magic.save(x)"),
        (lambda m, t: dict(m.named_modules())[m.layers[0].path].output, "model[path].output"),
    ],
)
def test_errors_of_python_s_own_say_what_to_write(model, do, write):
    with pytest.raises(AttributeError) as error, model.trace(IDS) as tracer:
        do(model, tracer)
    assert any(write in note for note in error.value.__notes__)


@pytest.mark.parametrize(
    ("do", "write"),
    [
        (lambda m, t: t.cond(True), "if x:"),
        (lambda m, t: t.inputs[0][0], "tracer.input_ids"),
        (lambda m, t: m.session().iter([1]), "for item in items:"),
        (lambda m, t: nnsight_magic.CONFIG.API, "load the model on this machine"),
        (lambda m, t: m.generator.streamer, "step.tokens"),
    ],
)
def test_what_is_written_otherwise_says_how(model, do, write):
    with pytest.raises(SpellingError) as error, model.trace(IDS) as tracer:
        do(model, tracer)
    assert write in str(error.value)
    assert tracer.inputs.get("nothing") is None
    with pytest.raises(KeyError):
        tracer.inputs["nothing"]


def test_a_trace_of_an_edited_copy_is_read_by_either_name(model, hf):
    with model.edit() as edited:
        model.layers[1].mlp.output[:] = 0
    with hooked(model.layers[1].mlp.module, torch.zeros_like):
        expected = plain_logits(hf)
    with edited.trace(IDS):
        hidden = model.layers[0].output
        ablated = model.layers[1].mlp.output
        logits, same = model.logits, edited.logits
        head = model.unembed(model.norm(model.layers[-1].output))
    assert ablated.abs().sum() == 0
    assert torch.equal(logits, expected) and torch.equal(same, expected)
    assert torch.allclose(head, expected, atol=1e-5)
    with model.trace(IDS):
        assert torch.equal(model.layers[0].output, hidden)
        assert torch.equal(model.logits, plain_logits(hf))
    with edited.generate(IDS, **NEW):
        found = model.generator.output
    with hooked(model.layers[1].mlp.module, torch.zeros_like):
        assert torch.equal(found, hf.generate(IDS, **NEW))


def test_a_block_is_skipped_by_the_tuple_that_it_used_to_return(model, hf):
    with model.trace(IDS):
        model.layers[1].skip((model.layers[1].input,))
        one = model.logits
    with model.trace(IDS):
        model.layers[1].skip(model.layers[1].input)
        other = model.logits
    assert torch.equal(one, other)


def test_a_trace_has_one_step(model):
    with model.trace(IDS) as tracer:
        shapes = [(int(step), model.layers[0].output.shape[1]) for step in tracer.iter[:]]
        assert [int(step) for step in tracer.iter[0]] == [int(step) for step in tracer.all()] == [0]
        with pytest.raises(IndexError, match="generate"):
            tracer.iter[1]
    assert shapes == [(0, 5)]
    with (
        pytest.raises(SpellingError, match="for step in"),
        model.trace(IDS) as tracer,
        tracer.all(),
    ):
        pass


def test_types_and_loading_by_their_other_names(model, tiny_gpt2_folder):
    from nnsight_magic import Envoy, NNsight

    assert isinstance(model.layers[0], Envoy) and isinstance(model, NNsight)
    other = LanguageModel(str(tiny_gpt2_folder), device_map="cpu")
    other.dispatch()
    assert other.loaded


def test_modules_are_called_in_a_scan_too(model, hf):
    with model.scan(IDS):
        scores = model.unembed(model.norm(model.layers[0].output[0]))
    assert scores.shape == plain_logits(hf).shape and scores.device.type == "meta"
    assert all(not parameter.is_meta for parameter in hf.parameters())


def test_a_gradient_that_is_not_there_yet_says_where_it_is(model):
    with pytest.raises(AttributeError) as error, model.trace(IDS):
        model.layers[0].output.grad.save()
        model.logits.sum().backward()
    assert any("behind backward()" in note for note in error.value.__notes__)
