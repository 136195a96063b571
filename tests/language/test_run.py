"""Programs on real models: what is read, written and left behind."""

import gc
import weakref

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.engine.values.value import Value
from nnsight_magic.errors import CellError, TokenTextError, WrongValueError
from nnsight_magic.language.check import check
from nnsight_magic.language.names import SCOPE_NAME, bound_names
from nnsight_magic.language.parse import parse
from nnsight_magic.language.run import Outcome, run
from nnsight_magic.language.tree import root_names
from tests.hooks import hooked, hooked_block

PROMPT = "The Eiffel Tower is in the city of"


class Notebook:
    """A namespace and a model, and cells that run in it."""

    def __init__(self, model):
        self.model = model
        self.namespace = {"torch": torch}
        self.shown = []
        self.outcome = None

    def trace(self, source, inputs=PROMPT, names=(), **options):
        return self._run(source, self.model.trace, inputs, names, options)

    def generate(self, source, inputs=PROMPT, new=4, names=(), **options):
        options = {"max_new_tokens": new, "do_sample": False, **options}
        return self._run(source, self.model.generate, inputs, names, options)

    def _run(self, source, call, inputs, names, options):
        program = parse(source, bound_names(root_names(self.model), names), "<cell>", 2)
        check(program, self.model, self.namespace, names)
        options.setdefault("grad", program.wants_gradients)
        self.outcome = Outcome()
        run(
            program,
            call(inputs, **options),
            self.namespace,
            self.outcome,
            names,
            self.shown.append,
        )
        return self.namespace


@pytest.fixture
def notebook(model):
    return Notebook(model)


def clean_output(model, index, prompt=PROMPT):
    found = []
    ids = model.tokenizer(prompt, return_tensors="pt").input_ids
    with (
        torch.no_grad(),
        hooked_block(model.module.model.layers[index], lambda out: found.append(out)),
    ):
        logits = model.module(ids).logits
    return found[0], logits


def test_a_read_is_a_plain_tensor_in_the_notebook(notebook, model):
    h = notebook.trace("h = layers[1].output")["h"]
    assert type(h) is torch.Tensor
    assert torch.equal(h, clean_output(model, 1)[0])


def test_a_write_flows_on(notebook, model):
    found = notebook.trace("layers[2].mlp.output[:, -1] = 0\nend = logits")["end"]
    with torch.no_grad():

        def zero_last(output):
            output = output.clone()
            output[:, -1] = 0
            return output

        with hooked(model.module.model.layers[2].mlp, zero_last):
            expected = clean_output(model, 1)[1]
    assert torch.equal(found, expected)
    assert not torch.equal(found, clean_output(model, 1)[1])


def test_notebook_variables_and_functions_are_at_hand(notebook):
    notebook.namespace["scale"] = 2.0
    source = (
        "def doubled(x):\n    return x * scale\na = doubled(layers[0].output)\nb = layers[0].output"
    )
    found = notebook.trace(source)
    assert torch.equal(found["a"], found["b"] * 2)


def test_a_function_of_the_cell_sees_the_trace(notebook):
    source = "def at(i):\n    return layers[i].output\nhs = [at(i) for i in range(3)]"
    hs = notebook.trace(source)["hs"]
    assert [type(h) for h in hs] == [torch.Tensor] * 3


def test_logits_are_written_by_assignment(notebook):
    found = notebook.trace("logits = logits * 0\nend = logits")
    assert found["end"].abs().sum() == 0
    assert "logits" not in found


def test_scratch_names_are_gone_and_old_values_are_back(notebook):
    notebook.namespace["_old"] = "kept"
    found = notebook.trace("_old = layers[0].output\n_new = 1\nx = _old.sum()")
    assert found["_old"] == "kept"
    assert "_new" not in found


def test_the_hidden_name_is_gone_after_a_run_and_after_an_error(notebook):
    notebook.trace("x = 1")
    with pytest.raises(ZeroDivisionError):
        notebook.trace("x = 1 / 0")
    assert SCOPE_NAME not in notebook.namespace


def test_what_was_saved_before_an_error_stays(notebook):
    with pytest.raises(ZeroDivisionError):
        notebook.trace("h = layers[0].output\n_x = h\n1 / 0\nlater = 1")
    assert type(notebook.namespace["h"]) is torch.Tensor
    assert "_x" not in notebook.namespace
    assert "later" not in notebook.namespace
    assert [saved.name for saved in notebook.outcome.saved] == ["h"]


def test_a_saved_slice_does_not_keep_the_whole_alive(notebook):
    h = notebook.trace("h = layers[0].output[:, -1]")["h"]
    assert h.untyped_storage().nbytes() == h.numel() * h.element_size()


def test_containers_hold_plain_tensors(notebook):
    source = (
        "pair = (layers[0].output, 'text')\n"
        "table = {i: layers[i].output for i in range(1, 3)}\n"
        "nested = [[logits]]"
    )
    found = notebook.trace(source)
    assert type(found["pair"][0]) is torch.Tensor
    assert {type(v) for v in found["table"].values()} == {torch.Tensor}
    assert type(found["nested"][0][0]) is torch.Tensor


def test_nothing_of_the_run_stays_alive(notebook):
    source = "_h = layers[0].output\nholder.append(_h)\nh = _h[:, -1]"
    holder = notebook.namespace["holder"] = []
    notebook.trace(source)
    kept = weakref.ref(holder.pop())
    notebook.outcome = None
    gc.collect()
    assert kept() is None


def test_a_model_output_is_saved_with_plain_tensors(notebook):
    out = notebook.trace("everything = output")["everything"]
    assert type(out.logits) is torch.Tensor


def test_gradients_reach_the_names_of_the_cell(notebook):
    source = "h = layers[0].output\nlogits[0, -1, 5].backward()\ng = h.grad"
    found = notebook.trace(source)
    assert found["g"].shape == found["h"].shape
    assert found["g"].abs().sum() > 0
    assert not found["h"].requires_grad
    assert found["h"].grad_fn is None
    assert torch.equal(found["h"].grad, found["g"])


def test_tokens_and_prompt_are_at_hand(notebook, model):
    found = notebook.trace("ids = tokens\ntext = prompt")
    assert torch.equal(found["ids"], model.tokenizer(PROMPT, return_tensors="pt").input_ids)
    assert found["text"] == PROMPT


def test_show_displays_and_keeps_nothing(notebook):
    notebook.trace("show(layers[0].output)")
    assert type(notebook.shown[0]) is torch.Tensor
    assert notebook.outcome.saved == ()


def test_the_last_expression_is_shown(notebook):
    notebook.trace("h = layers[0].output\nh.shape")
    assert notebook.shown == [notebook.namespace["h"].shape]


def test_save_makes_a_copy_that_nothing_changes(notebook):
    source = "before = save(layers[0].output)\nlayers[0].output[:] = 0\nafter = layers[0].output"
    found = notebook.trace(source)
    assert found["before"].abs().sum() > 0
    assert found["after"].abs().sum() == 0


def test_save_with_a_name_works_from_inside_a_function(notebook):
    found = notebook.trace("def f():\n    save(inner=layers[0].output)\nf()")
    assert type(found["inner"]) is torch.Tensor
    assert [saved.name for saved in notebook.outcome.saved] == ["inner"]


def test_a_token_is_addressed_by_its_text(notebook, model):
    found = notebook.trace(
        'at = layers[1].output[:, "city"]\nword = "city"\nsame = layers[1].output[:, word]'
    )
    texts = [t.strip() for t in notebook.outcome.rows[0].tokens]
    assert torch.equal(found["at"], clean_output(model, 1)[0][:, texts.index("city")])
    assert torch.equal(found["at"], found["same"])


def test_a_write_by_text_flows_on(notebook):
    source = 'layers[1].output[:, "city"] = 0\nh = layers[1].output[:, "city"]\nend = logits'
    found = notebook.trace(source)
    assert found["h"].abs().sum() == 0
    assert not torch.equal(found["end"], clean_output(notebook.model, 1)[1])


def test_the_vocabulary_is_addressed_by_text_too(notebook, model):
    piece = model.tokenizer.decode([200])
    source = "x = logits[0, -1, piece]\ny = logits[0, 'city', [piece]]\nz = logits[0, -1, 200]"
    notebook.namespace["piece"] = piece
    found = notebook.trace(source)
    assert torch.equal(found["x"], found["z"])
    assert found["y"].shape == (1,)
    text = repr(piece)
    found = notebook.trace(f"x = logits[0, -1]\nx = x[{text}]\ny = logits[0, -1][[{text}]]\n")
    assert torch.equal(found["x"], found["y"][0])
    found = notebook.trace("d = {'a': [1, 2]}\nx = d['a'][0]")
    assert found["x"] == 1
    with pytest.raises(TokenTextError, match="no single token of the vocabulary"):
        notebook.trace('x = logits[0, -1, "Nowhere at all"]')
    with pytest.raises(TokenTextError, match="empty text is no token"):
        notebook.trace('x = logits[0, -1, ""]')


# -- several prompts ------------------------------------------------------------------------------

CLEAN, CORRUPT = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"


def test_named_prompts_see_their_own_rows_without_padding(notebook, model):
    source = "a = clean.layers[1].output\nb = corrupt.layers[1].output\nn = corrupt.tokens"
    found = notebook.trace(source, [CLEAN, CORRUPT], ("clean", "corrupt"))
    for name, prompt in (("a", CLEAN), ("b", CORRUPT)):
        expected = clean_output(model, 1, prompt)[0]
        assert found[name].shape == expected.shape
        assert torch.allclose(found[name], expected, atol=1e-5)
    assert torch.equal(found["n"], model.tokenizer(CORRUPT, return_tensors="pt").input_ids)


def test_a_patch_from_one_prompt_into_another(notebook, model):
    source = (
        "corrupt.layers[1].output[:, -1] = clean.layers[1].output[:, -1]\n"
        "patched = corrupt.logits[:, -1]\nuntouched = clean.logits[:, -1]"
    )
    found = notebook.trace(source, [CLEAN, CORRUPT], ("clean", "corrupt"))
    donor = clean_output(model, 1, CLEAN)[0][:, -1]

    def patch(output):
        output = output.clone()
        output[:, -1] = donor
        return output

    with hooked_block(model.module.model.layers[1], patch):
        expected = clean_output(model, 2, CORRUPT)[1][:, -1]
    assert torch.allclose(found["patched"], expected, atol=1e-4)
    assert torch.allclose(found["untouched"], clean_output(model, 1, CLEAN)[1][:, -1], atol=1e-4)


def test_prompts_of_one_length_are_patched_whole(notebook):
    source = "b.layers[0].output = a.layers[0].output\nx = a.logits\ny = b.logits"
    found = notebook.trace(source, ["1 2 3", "1 2 4"], ("a", "b"))
    assert torch.allclose(found["x"], found["y"], atol=1e-5)


def test_a_patch_of_another_length_is_refused_where_it_stands(notebook):
    with pytest.raises(WrongValueError, match="takes another shape"):
        notebook.trace(
            "corrupt.layers[0].output = clean.layers[0].output",
            [CLEAN, CORRUPT + " Italy and"],
            ("clean", "corrupt"),
        )


def test_tuples_of_a_named_prompt_are_split_too(notebook):
    source = "h = corrupt.layers[1].attn.output[0]\ncorrupt.layers[1].attn.output[0] = 0"
    found = notebook.trace(source, [CLEAN, CORRUPT], ("clean", "corrupt"))
    assert found["h"].shape[0] == 1


def test_a_tuple_of_a_named_prompt_is_taken_as_a_tuple(notebook):
    source = "out = corrupt.layers[1].attn._output\nh = out[0] if isinstance(out, tuple) else out"
    source += "\nsliced = out[:1]"
    found = notebook.trace(source, [CLEAN, CORRUPT], ("clean", "corrupt"))
    assert found["h"].shape[0] == 1
    assert torch.equal(found["sliced"][0], found["h"])
    assert type(found["out"]) is tuple
    assert torch.equal(found["out"][0], found["h"])
    assert type(found["out"][0]) is torch.Tensor


def test_block_index_zero_keeps_its_meaning_for_a_named_prompt(notebook):
    source = "a = clean.layers[1].output[0]\nb = clean.layers[1].output"
    found = notebook.trace(source, [CLEAN, CORRUPT], ("clean", "corrupt"))
    assert torch.equal(found["a"], found["b"])


def test_text_is_looked_up_in_the_named_prompt(notebook):
    source = 'a = clean.layers[1].output[:, "city"]\nb = clean.layers[1].output'
    found = notebook.trace(source, [CLEAN, CORRUPT], ("clean", "corrupt"))
    texts = [t.strip() for t in notebook.outcome.rows[0].tokens]
    assert torch.equal(found["a"], found["b"][:, texts.index("city")])


# -- generation -----------------------------------------------------------------------------------


def test_a_step_loop_collects_into_one_tensor(notebook):
    found = notebook.generate("for step in steps:\n    h = layers[-1].output[:, -1]", new=3)
    assert type(found["h"]) is torch.Tensor
    assert found["h"].shape[:2] == (3, 1)
    assert "step" not in found


def test_values_of_different_shape_make_a_list(notebook):
    found = notebook.generate("for step in steps:\n    h = layers[-1].output", new=3)
    assert [h.shape[1] for h in found["h"]] == [len(notebook.outcome.rows[0].tokens), 1, 1]
    assert {type(h) for h in found["h"]} == {torch.Tensor}


def test_only_the_steps_that_assign_are_collected(notebook):
    source = (
        "for step in steps:\n"
        "    if step.index == 1:\n"
        "        at = step.index\n"
        "        continue\n"
        "    x = 1"
    )
    found = notebook.generate(source, new=3)
    assert found["at"] == [1]
    assert found["x"] == [1, 1]


def test_what_was_collected_is_at_hand_behind_the_loop(notebook):
    source = "for step in steps:\n    h = logits[:, -1]\nbest = h.argmax(-1)"
    found = notebook.generate(source, new=3)
    assert found["best"].shape == (3, 1)


def test_an_accumulator_is_an_ordinary_variable(notebook):
    source = "total = 0\nfor step in steps:\n    total = total + 1\n    _n = 2"
    assert notebook.generate(source, new=3)["total"] == 3


def test_a_break_keeps_what_was_collected(notebook):
    source = "for step in steps:\n    h = logits[:, -1]\n    if step.index == 1:\n        break"
    assert notebook.generate(source, new=4)["h"].shape[0] == 2


def test_an_error_in_a_step_keeps_the_steps_before_it(notebook):
    source = "for step in steps:\n    h = logits[:, -1]\n    if step.index == 1:\n        1 / 0"
    with pytest.raises(ZeroDivisionError):
        notebook.generate(source, new=4)
    assert notebook.namespace["h"].shape[0] == 2


def test_a_write_in_each_step_is_not_seen_by_what_was_saved_before(notebook):
    source = "for step in steps:\n    h = layers[0].output[:, -1]\n    layers[0].output[:] = 0"
    assert notebook.generate(source, new=2)["h"].abs().sum() > 0


def test_no_value_of_the_engine_is_left_in_the_notebook(notebook):
    notebook.generate("for step in steps:\n    h = layers[0].output\n    hs = [h]", new=2)
    found = list(notebook.namespace.values())
    for value in found:
        found.extend(value if isinstance(value, list) else [])
        assert not isinstance(value, Value)


# -- the model's own paths ------------------------------------------------------------------------


def test_a_path_as_torch_prints_it_works_where_the_root_has_a_child_called_model(notebook):
    source = (
        "a = model.embed_tokens.output\n"
        "b = model.model.embed_tokens.output\n"
        "c = embed.output\n"
        "d = model.layers[0].output\n"
        "n = model.config.vocab_size"
    )
    found = notebook.trace(source)
    assert torch.equal(found["a"], found["b"])
    assert torch.equal(found["a"], found["c"])


def test_a_parameter_called_model_is_an_ordinary_variable(notebook):
    source = "def f(model):\n    return model.real\nx = f(3)"
    assert notebook.trace(source)["x"] == 3


# -- heads ----------------------------------------------------------------------------------------


def test_a_head_is_its_slice_of_the_output_projection_s_input(notebook):
    found = notebook.trace(
        "h = layers[1].attn.heads[2]\n"
        "whole = layers[1].self_attn.o_proj.input\n"
        "some = layers[1].attn.heads[1:3]\n"
        "count = len(layers[1].attn.heads)"
    )
    size = found["whole"].shape[-1] // found["count"]
    assert found["count"] == 4
    assert torch.equal(found["h"], found["whole"][..., 2 * size : 3 * size])
    assert torch.equal(found["some"][:, :, 1], found["h"])


@pytest.mark.parametrize(
    "source",
    [
        "layers[1].attn.heads[2] = 0",
        "layers[1].attn.heads[2][:] = 0",
        "layers[1].attn.heads[2] *= 0",
        "layers[1].attn.heads[[2]] = 0",
        "h = layers[1].attn.heads[2]\nh[:] = 0",
    ],
)
def test_a_write_to_a_head_removes_what_it_contributes(notebook, model, source):
    found = notebook.trace(source + "\nend = logits")["end"]

    def without_head(module, args):
        hidden = args[0].clone()
        hidden[..., 16:24] = 0
        return (hidden,)

    projection = model.module.model.layers[1].self_attn.o_proj
    handle = projection.register_forward_pre_hook(without_head)
    expected = clean_output(model, 1)[1]
    handle.remove()
    assert torch.equal(found, expected)
    assert not torch.equal(found, clean_output(model, 1)[1])


def test_a_head_of_one_prompt_is_written_for_that_prompt_alone(notebook, model):
    source = (
        "corrupt.layers[1].attn.heads[0] = 0\na = clean.logits[:, -1]\nb = corrupt.logits[:, -1]"
    )
    found = notebook.trace(source, [CLEAN, CORRUPT], ("clean", "corrupt"))
    assert torch.allclose(found["a"], clean_output(model, 1, CLEAN)[1][:, -1], atol=1e-4)
    assert not torch.allclose(found["b"], clean_output(model, 1, CORRUPT)[1][:, -1], atol=1e-4)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "mixtral", "bert"])
def test_every_architecture_with_attention_has_heads(architecture, tiny, tiny_tokenizer):
    notebook = Notebook(LanguageModel(tiny(architecture), tiny_tokenizer))
    found = notebook.trace("h = layers[0].attn.heads[3]\nn = len(layers[0].attn.heads)")
    assert found["n"] == 4
    assert found["h"].shape[-1] == 8


def test_operations_and_patterns_of_a_prompt_are_its_own(notebook):
    source = (
        "a = clean.layers[1].attn.pattern\n"
        "b = corrupt.layers[1].attn.pattern\n"
        "q = corrupt.layers[1].attn.ops.scaled_dot_product_attention.inputs[0][0]"
    )
    prompts = [CLEAN, CORRUPT + " and more"]
    found = notebook.trace(source, prompts, ("clean", "corrupt"))
    for name, prompt in zip("ab", prompts, strict=True):
        with notebook.model.trace(prompt):
            expected = notebook.model.layers[1].attn.pattern
        assert found[name].shape == expected.shape
        assert torch.allclose(found[name], expected, atol=1e-5)
    assert found["q"].shape[2] == found["b"].shape[2] != found["a"].shape[2]


def test_a_pattern_of_one_prompt_is_written(notebook):
    source = "corrupt.layers[1].attn.pattern[:, 2] = 0\na = clean.logits\nb = corrupt.logits"
    found = notebook.trace(source, [CLEAN, CORRUPT], ("clean", "corrupt"))
    with notebook.model.trace(CLEAN):
        assert torch.allclose(found["a"], notebook.model.logits, atol=1e-4)
    with notebook.model.trace(CORRUPT):
        notebook.model.layers[1].attn.pattern[:, 2] = 0
        assert torch.allclose(found["b"], notebook.model.logits, atol=1e-4)


def test_a_module_without_heads_says_so(notebook):
    for name in ("heads[0]", "pattern"):
        with pytest.raises(CellError, match="no attention module"):
            notebook.trace(f"h = layers[0].mlp.{name}")
    with pytest.raises(CellError, match=r"the attention pattern is layers\[0\].attn.pattern"):
        notebook.trace("h = layers[0].attn.attention_weights")
    with pytest.raises(IndexError, match="there are 4, 0 to 3"):
        notebook.trace("h = layers[0].attn.heads[4]")


def test_a_module_is_called_in_the_cell(notebook):
    found = notebook.trace("early = unembed(norm(layers[2].output))\nlate = logits")
    assert torch.allclose(found["early"], found["late"], atol=1e-5)


def test_names_of_the_user_s_own_work_in_a_cell(tiny, tiny_tokenizer):
    model = LanguageModel(tiny("gpt2"), tiny_tokenizer, rename={"transformer.h": "blocks"})
    found = Notebook(model).trace("a = blocks[1].output\nb = layers[1].output")
    assert torch.equal(found["a"], found["b"])
