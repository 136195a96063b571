"""`%%trace` and `%%generate`: what a cell leaves in the notebook and shows."""

import gc
import importlib.util

import pytest
import torch
from IPython import version_info
from IPython.core import completer

from nnsight_magic.language.tokens import joined
from tests import tiny
from tests.magics.conftest import PROMPT


def test_a_saved_name_is_a_plain_tensor_and_the_result_is_the_cell_s_value(shell, cell):
    result = shell.run(cell("h = layers[1].output"))
    assert type(shell.ns["h"]) is torch.Tensor
    assert shell.ns["_"] is result
    assert "".join(result.prompts[0].tokens) == PROMPT


def test_a_cell_that_only_reads_stops_early_and_predicts_nothing(shell, cell):
    result = shell.run(cell("h = layers[0].output", "--fresh"))
    assert (result.blocks_run, result.blocks) == (1, 3)
    assert result.stopped_at == "layers[0].output"
    assert result.prompts[0].predictions == ()
    assert "stopped after layers[0].output" in repr(result)


def test_a_cell_that_writes_predicts_with_and_without_the_write(shell, cell, module):
    result = shell.run(cell("layers[1].mlp.output[:, -1] = 0"))
    ids = shell.ns["model"].tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        clean = module(ids).logits[0, -1].softmax(-1)
    shown = result.prompts[0].predictions
    assert result.prompts[0].compared
    for candidate in shown:
        assert candidate.clean == pytest.approx(float(clean[candidate.id]), abs=1e-5)
    assert any(abs(each.p - each.clean) > 1e-4 for each in shown)
    assert result.wrote == ("layers[1].mlp.output",)


def test_a_write_inside_a_notebook_function_is_noticed(shell, cell):
    shell.run("def zero(h):\n    h[:, -1] = 0")
    result = shell.run(cell("zero(layers[1].mlp.output)"))
    assert result.wrote == ("layers[1].mlp.output",)
    assert result.prompts[0].compared


def test_the_clean_run_is_made_once_for_a_prompt(shell, cell, module):
    runs, forward = [], module.lm_head.forward

    def counting(hidden):
        runs.append(1)
        return forward(hidden)

    module.lm_head.forward = counting
    shell.run(cell("layers[1].mlp.output *= 0"))
    first = len(runs)
    shell.run(cell("layers[1].mlp.output *= 2"))
    second = len(runs) - first
    assert (first, second) == (2, 1)


@pytest.mark.parametrize(
    "change",
    [
        "model.module.lm_head.weight.data.mul_(-1)",
        "model.module.model.layers[0].self_attn.scaling = 4.0",
        "hook = model.module.lm_head.register_forward_hook(lambda m, a, out: -out)",
        "model.module.bfloat16()",
    ],
)
def test_a_changed_model_makes_a_new_clean_run(shell, cell, module, change):
    ids = shell.ns["model"].tokenizer(PROMPT, return_tensors="pt").input_ids
    shell.run(cell("layers[1].mlp.output *= 0"))
    shell.run(change)
    shown = shell.run(cell("layers[1].mlp.output *= 0")).prompts[0].predictions
    with torch.no_grad():
        clean = module(ids).logits[0, -1].float().softmax(-1)
    if "hook" in shell.ns:
        shell.ns["hook"].remove()
    for candidate in shown:
        assert candidate.clean == pytest.approx(float(clean[candidate.id]), abs=1e-5)


def test_no_compare_leaves_the_clean_run_out(shell, cell, module):
    runs = []
    handle = module.lm_head.register_forward_hook(lambda *_: runs.append(1))
    try:
        result = shell.run(cell("layers[1].mlp.output *= 0", "--no-compare"))
    finally:
        handle.remove()
    assert len(runs) == 1
    assert result.prompts[0].predictions
    assert not result.prompts[0].compared


def test_reading_logits_predicts_without_a_comparison(shell, cell):
    result = shell.run(cell("probs = logits[:, -1].softmax(-1)"))
    assert result.stopped_at is None
    best = int(shell.ns["probs"].argmax())
    assert result.prompts[0].predictions[0].id == best
    assert not result.prompts[0].compared


def test_full_runs_to_the_end(shell, cell):
    result = shell.run(cell("h = layers[0].output", "--full --fresh"))
    assert result.blocks_run == 3
    assert result.prompts[0].predictions


def test_the_saved_table_tells_shape_dtype_device_and_where_from(shell, cell):
    result = shell.run(cell("probs = logits[:, -1].softmax(-1)\nn = 3"))
    probs, number = result.saved
    assert (probs.name, probs.shape, probs.dtype, probs.device, probs.where) == (
        "probs",
        (1, 320),
        "float32",
        "cpu",
        "logits[:, -1].softmax(-1)",
    )
    assert number.kind == "int 3"
    assert result["probs"] is shell.ns["probs"]


def test_a_result_keeps_no_tensor_alive(shell, cell):
    result = shell.run(cell("h = layers[0].output"))
    assert result["h"] is not None
    shell.run("del h")
    gc.collect()
    assert result["h"] is None
    assert "layers[0].output" in repr(result)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("magic", ["trace", "generate"])
def test_a_result_keeps_no_graph_and_no_activation_alive(shell, magic):
    line = "-n 2 --do_sample False --eos_token_id 319" if magic == "generate" else ""
    body = "layers[0].output.requires_grad_()\nh = layers[1].output * 2\nx = logits.sum().item()"
    gc.collect()
    before = {id(each) for each in gc.get_objects() if issubclass(type(each), torch.Tensor)}
    result = shell.run(f'%%{magic} "{PROMPT}" --grad --fresh {line}\n{body}')
    shell.ns["model"].resume.clear()
    shell.run("del h")
    gc.collect()
    alive = [
        each
        for each in gc.get_objects()
        if issubclass(type(each), torch.Tensor) and id(each) not in before
    ]
    assert result.saved
    # What the comparison with the clean run remembers are numbers of the vocabulary's size.
    assert [tuple(each.shape) for each in alive if each.numel() > 400] == []
    assert not any(each.requires_grad or each.grad_fn is not None for each in alive)


def test_generate_shows_the_new_text_and_collects_over_steps(shell, cell):
    body = "for step in steps:\n    h = layers[-1].output[:, -1]"
    result = shell.run(cell(body, "-n 3 --do_sample False --eos_token_id 319", "generate"))
    assert shell.ns["h"].shape[0] == 3
    assert len(result.prompts[0].generated) == 3
    assert "step" not in shell.ns


def test_generate_compares_with_the_text_without_the_writes(shell, cell, module):
    body = "for step in steps:\n    logits[:, :, 7] = 1e4"
    result = shell.run(cell(body, "-n 3 --do_sample False --eos_token_id 319", "generate"))
    ids = shell.ns["model"].tokenizer(PROMPT, return_tensors="pt")
    expected = module.generate(**ids, max_new_tokens=3, do_sample=False, eos_token_id=319)
    first, tokenizer = result.prompts[0], shell.ns["model"].tokenizer
    assert first.generated == (tokenizer.decode([7]),) * 3
    new = expected[0, ids.input_ids.shape[1] :]
    assert joined(first.generated_clean) == first.new_text_clean == tokenizer.decode(new)


def test_a_seed_repeats_what_was_sampled(shell, cell, module):
    line = "-n 6 --do_sample --seed 3 --eos_token_id 319"
    before = torch.get_rng_state()
    first = shell.run(cell("layers[0].output", line, "generate")).prompts[0].generated
    assert torch.equal(torch.get_rng_state(), before)
    ids = shell.ns["model"].tokenizer(PROMPT, return_tensors="pt")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = module.generate(**ids, max_new_tokens=6, do_sample=True, eos_token_id=319)
    new = expected[0, ids.input_ids.shape[1] :]
    assert joined(first) == shell.ns["model"].tokenizer.decode(new)
    written = shell.run(cell("layers[0].output *= 1", line, "generate")).prompts[0]
    assert written.generated == written.generated_clean == first
    other = shell.run(cell("layers[0].output *= 1", line.replace("3", "4", 1), "generate"))
    assert other.prompts[0].generated_clean != first


def test_several_prompts_make_a_batch(shell):
    result = shell.run('%%trace "The Eiffel Tower" "The city of Paris is"\nh = layers[0].output')
    assert len(result.prompts) == 2
    assert shell.ns["h"].shape[0] == 2
    assert "".join(result.prompts[1].tokens) == "The city of Paris is"


def test_named_prompts_are_names_of_the_cell(shell):
    result = shell.run(
        f'%%trace clean="{PROMPT}" corrupt="The Colosseum is in the city of"\n'
        "corrupt.layers[1].output[:, -1] = clean.layers[1].output[:, -1]\n"
        "a = corrupt.logits[:, -1]"
    )
    assert [each.name for each in result.prompts] == ["clean", "corrupt"]
    assert shell.ns["a"].shape == (1, 320)
    clean, corrupt = result.prompts
    assert all(each.p == pytest.approx(each.clean, abs=1e-5) for each in clean.predictions)
    assert any(abs(each.p - each.clean) > 1e-4 for each in corrupt.predictions)


@pytest.mark.parametrize("given", [["a b", "c"], "a b", {"x": "a b", "y": "c"}])
def test_prompts_come_from_a_variable(shell, given):
    shell.ns["mine"] = given
    result = shell.run("%%trace -p mine\nh = layers[0].output")
    texts = (
        [given]
        if isinstance(given, str)
        else list(given.values() if isinstance(given, dict) else given)
    )
    assert ["".join(each.tokens) for each in result.prompts] == texts


def test_token_ids_come_from_a_variable(shell):
    shell.ns["ids"] = torch.tensor([[5, 6, 7]])
    result = shell.run("%%trace -p ids\nh = layers[0].output")
    assert len(result.prompts[0].tokens) == 3
    assert result.prompts[0].text == shell.ns["model"].tokenizer.decode([5, 6, 7])


def test_a_prompt_comes_from_a_file(shell, tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_text("The city\nof Paris\n", encoding="utf-8")
    result = shell.run(f"%%trace -f {path}\nh = layers[0].output")
    assert "".join(result.prompts[0].tokens) == "The city\nof Paris"


def test_expressions_in_the_line_are_expanded(shell):
    shell.ns.update(place="Rome", depth=[1])
    result = shell.run('%%trace "The city of {place} {depth[0] + 1} {{x}}"\nh = layers[0].output')
    assert "".join(result.prompts[0].tokens) == "The city of Rome 2 {x}"


def test_a_model_is_picked_by_name(shell, tiny, tiny_tokenizer):
    shell.ns["other"] = tiny("gpt2")
    shell.ns["tokenizer"] = tiny_tokenizer
    result = shell.run('%%trace "a b" -m other\nh = transformer.h[0].output')
    assert result.model == "GPT2LMHeadModel"


def test_the_result_object_goes_into_a_variable(shell, cell):
    assert shell.run(cell("h = layers[0].output", "-o mine -q")) is None
    assert shell.ns["mine"].saved[0].name == "h"


def test_gradients_are_recorded_where_the_cell_asks_for_them(shell, cell):
    body = "h = layers[0].output\nlogits[0, -1, 3].backward()\ng = h.grad"
    shell.run(cell(body))
    assert shell.ns["g"].abs().sum() > 0


def test_the_grad_option_records_for_functions_of_the_notebook(shell, cell):
    shell.run("def slope(y, x):\n    y.backward()\n    return x.grad")
    shell.run(cell("h = layers[0].output\ng = slope(logits[0, -1, 3], h)", "--grad"))
    assert shell.ns["g"].abs().sum() > 0


def test_a_chat_prompt_goes_through_the_template(shell, cell):
    shell.ns[
        "model"
    ].tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %} ->"
    )
    try:
        result = shell.run('%%trace "hello" --chat\nh = layers[0].output')
    finally:
        shell.ns["model"].tokenizer.chat_template = None
    assert "".join(result.prompts[0].tokens) == "[user] hello ->"


@pytest.mark.parametrize("names", [("one",), ("one", "two")])
def test_a_chat_prompt_has_the_special_tokens_of_its_template_alone(shell, names):
    """The ids are those that transformers makes of the messages, for a tokenizer that begins and
    ends a text with tokens of its own."""
    from tokenizers.processors import TemplateProcessing

    model = shell.ns["model"]
    before = model.tokenizer
    tokenizer = tiny.tokenizer()
    begin = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A {begin}", special_tokens=[(begin, 0)]
    )
    tokenizer.chat_template = (
        begin + "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %} ->"
    )
    assert tokenizer("x").input_ids[::2] == [0, 0]
    shell.ns["turns"] = {name: f"Hello {name}" for name in names}
    model._given_tokenizer = tokenizer
    try:
        result = shell.run("%%trace -p turns --chat\nh = layers[0].output")
        right = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True
            )["input_ids"]
            for text in shell.ns["turns"].values()
        ]
    finally:
        model._given_tokenizer = before
    assert right[0].count(0) == 1
    pieces = [[tokenizer.decode([i]) for i in ids] for ids in right]
    assert [list(row.tokens) for row in result.prompts] == pieces


def test_a_name_that_hides_a_notebook_variable_is_told(shell, cell):
    shell.ns["norm"] = 3
    result = shell.run(cell("h = norm.output"))
    assert "'norm' is the trace's name here" in result.notices[0]
    assert shell.ns["norm"] == 3


def test_line_magics_inside_a_cell_run(shell, cell):
    shell.run(cell("x = 2\n%time y = x + 1\n!true\nh = layers[0].output"))
    assert shell.ns["y"] == 3
    assert type(shell.ns["h"]) is torch.Tensor


def test_print_appears_where_it_runs(shell, cell):
    shell.run(cell("print('shape', tuple(layers[0].output.shape))"))
    assert "shape (1," in shell.text


def test_the_last_expression_is_displayed_as_in_any_cell(shell, cell):
    shell.run(cell("h = layers[0].output\nh.dtype"))
    assert "torch.float32" in shell.text + str([each.data for each in shell.outputs])


@pytest.mark.parametrize("outer", ["%%time", "%%capture", "%%prun -q", "%%timeit -n 1 -r 1"])
def test_other_magics_around_a_cell_change_nothing(shell, cell, outer):
    shell.run(f"{outer}\n" + cell("h = layers[0].output"))
    assert type(shell.ns["h"]) is torch.Tensor


def test_a_cell_runs_from_a_function_and_from_run_cell_magic(shell):
    shell.run(
        "def f():\n"
        "    body = 'h = layers[0].output'\n"
        "    return get_ipython().run_cell_magic('trace', '\"a b\"', body)"
    )
    assert shell.run("f()").saved[0].name == "h"


def test_a_cell_with_windows_line_ends_runs(shell):
    shell.run('%%trace "a b"\r\nh = layers[0].output\r\nx = 1\r\n')
    assert shell.ns["x"] == 1


def own_matchers(shell):
    matchers = getattr(shell.ip.Completer, "custom_matchers", [])  # IPython 7 has none
    return [each for each in matchers if hasattr(each, "nnsight_magic")]


def test_autoreload_and_reload_ext_change_nothing(shell, cell):
    if importlib.util.find_spec("imp") or version_info >= (8,):  # IPython 7's needs it
        shell.run("%load_ext autoreload\n%autoreload 2")
    shell.run("%reload_ext nnsight_magic")
    shell.run("%reload_ext nnsight_magic")
    assert shell.run(cell("h = layers[0].output")).number == 1
    assert len(own_matchers(shell)) == hasattr(completer, "context_matcher")


def test_unload_takes_everything_back(shell):
    shell.run("%unload_ext nnsight_magic")
    assert shell.ip.find_cell_magic("trace") is None
    assert not own_matchers(shell)
    assert not any(hasattr(t, "nnsight_magic") for t in shell.ip.input_transformers_cleanup)


def test_a_long_generation_shows_a_bar_and_a_short_one_does_not(shell, cell, monkeypatch):
    from nnsight_magic.magics import progress

    body = "for step in steps:\n    h = logits[:, -1]"
    line = "-n 3 --do_sample False --eos_token_id 319"
    shell.run(cell(body, line, "generate"))
    assert "generating" not in shell.text
    monkeypatch.setattr(progress, "DELAY", 0)
    shell.run(cell(body, line, "generate"))
    assert "generating" in shell.text
    shell.run(cell(body, f"{line} -q", "generate"))
    assert "generating" not in shell.text


@pytest.mark.parametrize(
    ("body", "wrote"),
    [
        (
            "corrupt.layers[1].output[:, -1] = clean.layers[1].output[:, -1]",
            ("corrupt.layers[1].output",),
        ),
        ("corrupt.layers[1].output = 0", ("corrupt.layers[1].output",)),
        ("h = clean.layers[0].output\nh[:, -1] = 0", ("clean.layers[0].output",)),
        ("corrupt.logits[:, -1] = 0", ("corrupt.logits",)),
        ("clean.layers[2].attn.heads[1] = 0", ("clean.layers[2].attn.o_proj.input",)),
        ("layers[1].output[:, -1] = 0", ("layers[1].output",)),
        (
            "for row in (clean, corrupt):\n    row.layers[1].output[:] = 0",
            ("layers[1].output",),
        ),
    ],
)
def test_a_result_names_what_was_written_by_its_prompt(shell, body, wrote):
    line = f'%%trace clean="{PROMPT}" corrupt="The Colosseum is in the city of"\n'
    assert shell.run(line + body).wrote == wrote
