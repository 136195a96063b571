"""What a cell becomes when it is parsed."""

import ast

import pytest

from nnsight_magic.errors import CellError
from nnsight_magic.language.names import bound_names
from nnsight_magic.language.parse import parse

NAMES = bound_names(["transformer", "lm_head"])


def program(source, **kwargs):
    return parse(source, NAMES, **kwargs)


class WithoutTelling(ast.NodeTransformer):
    """Assignments as they are but for telling what they come from."""

    def visit_Call(self, node):
        self.generic_visit(node)
        tells = isinstance(node.func, ast.Attribute) and node.func.attr == "_from"
        return node.args[-1] if tells else node


def rewritten(source):
    return ast.unparse(WithoutTelling().visit(program(source).tree))


def test_an_assignment_tells_what_it_comes_from_in_its_place():
    text = ast.unparse(program("x = layers[3].output + y").tree)
    told = "__trace__._from(__trace__._begin(), ('x',), ('y',), False, "
    assert text == f"x = {told}__trace__.layers[3].output + y)"


def test_a_trace_name_becomes_an_attribute_of_the_scope():
    assert rewritten("x = layers[3].mlp.output") == "x = __trace__.layers[3].mlp.output"


def test_every_child_of_the_root_is_a_trace_name():
    assert rewritten("x = lm_head.output;") == "x = __trace__.lm_head.output"


def test_logits_and_output_are_written_by_assignment():
    assert rewritten("logits = logits * 2") == "__trace__.logits = __trace__.logits * 2"
    assert rewritten("output = 0") == "__trace__.output = 0"


def test_notebook_names_stay_as_they_are():
    assert rewritten("y = x + 1") == "y = x + 1"


@pytest.mark.parametrize(
    "source",
    [
        "f = lambda tokens: tokens",
        "def f(norm):\n    return norm",
        "def f():\n    norm = 1\n    return norm",
        "z = [tokens for tokens in range(3)]",
        "z = {tokens: 1 for tokens in range(3)}",
        "class A:\n    norm = 1\n    x = norm",
        "def f():\n    for norm in range(3):\n        pass\n    def g():\n        return norm",
        "def f(*norm, **layers):\n    return (norm, layers)",
        "def f():\n    with a as norm:\n        pass\n    return norm",
        "def f(x):\n    match x:\n        case [norm, *layers]:\n            return norm",
    ],
)
def test_a_name_bound_inside_a_scope_is_no_trace_name_there(source):
    assert "__trace__" not in rewritten(source)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("def f(x=norm):\n    return x", 1),
        ("z = [layers[i] for i in range(3)]", 1),
        ("z = [x for layers in layers]", 1),
        ("def f():\n    return layers", 1),
        ("def f():\n    global logits\n    logits = 1", 1),
        ("class A:\n    norm = 1\n    def f(self):\n        return norm", 1),
        ("z = [(lambda: layers)() for _ in range(2)]", 1),
        ("@norm\ndef f(norm):\n    return norm", 1),
        ("def f():\n    def g():\n        return logits\n    return g", 1),
    ],
)
def test_a_name_that_reaches_the_cell_is_a_trace_name(source, count):
    assert rewritten(source).count("__trace__") == count


def test_columns_stay_those_of_the_cell():
    tree = program("x = layers[3].output").tree
    attribute = next(
        n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "layers"
    )
    assert (attribute.col_offset, attribute.end_col_offset) == (4, 10)


def test_plain_names_are_saved_and_underscored_names_are_scratch():
    found = program("a = 1\n_b = 2\nc, (d, *e) = x\nf: int = 3\ng += 1\nfor i in y:\n    h = i")
    assert found.saved == ("a", "c", "d", "e", "f", "g", "h")
    assert found.scratch == ("_b",)
    assert "i" in found.bound


def test_names_of_inner_scopes_are_not_saved():
    found = program("def f():\n    inside = 1\nz = [w for w in x]")
    assert found.saved == ("z",)


def test_a_walrus_is_saved_even_from_a_comprehension():
    assert program("y = [(last := v) for v in x]").saved == ("y", "last")


def test_the_expression_behind_a_saved_name_is_kept_as_text():
    found = program("probs = (logits[:, -1]\n    .softmax(-1))\nx += 1")
    assert found.expressions["probs"] == "logits[:, -1] .softmax(-1)"
    assert found.expressions["x"] == "x += 1"


def test_touches_tell_path_kind_and_whether_they_write():
    found = program(
        "a = layers[20].output\n"
        "layers[22].mlp.output[:, -1] = 0\n"
        "b = layers[i].attn.inputs\n"
        "layers[1].output.zero_()\n"
        "logits *= 2"
    )
    assert [(t.path, t.kind, t.writes) for t in found.touches] == [
        ("layers[20]", "output", False),
        ("layers[22].mlp", "output", True),
        ("layers[…].attn", "input", False),
        ("layers[1]", "output", True),
        ("logits", "output", True),
    ]


def test_a_touch_stands_on_the_line_of_the_whole_cell():
    touch = program("\nx = layers[3].output", first_line=2).touches[0]
    assert (touch.span.line, touch.span.start, touch.span.end) == (3, 14, 20)


def test_a_write_through_a_name_is_seen():
    assert program("h = layers[3].output\nh[:, -1] = 0").writes
    assert program("h = layers[3].output\nh *= 0").writes
    assert not program("h = layers[3].output\ng = h * 2").writes


def test_gradients_are_wanted_where_the_cell_says_so():
    assert program("logits.sum().backward()").wants_gradients
    assert program("g = layers[3].output.grad").wants_gradients
    assert program("torch.autograd.grad(a, b)").wants_gradients
    assert not program("x = layers[3].output").wants_gradients


def test_names_assigned_in_a_step_loop_are_collected():
    found = program("for step in steps:\n    h = layers[-1].output\n    _x = 1")
    assert found.collected == ("h",)
    assert found.uses_steps


def test_what_the_cell_made_before_the_loop_is_not_collected():
    source = (
        "total = 0\nhs = []\nfor step in steps:\n    total = total + 1\n    count += 1\n    new = 1"
    )
    assert program(source).collected == ("new",)


def test_an_ordinary_loop_collects_nothing():
    assert program("for i in range(3):\n    h = layers[i].output").collected == ()


def test_an_index_that_may_be_text_goes_through_the_tokens():
    assert "_by_text" in rewritten('layers[3].output[:, "Tower"]')
    assert "_by_text" in rewritten("layers[3].output[:, word]")
    assert "_by_text" in rewritten('x[:, "a":"b"] = 0')
    assert "_by_text" not in rewritten("layers[3].output[:, -1]")
    assert "_by_text" in rewritten('probs[" Paris"]')
    assert "_by_text" not in rewritten("table[word]")


def test_the_last_expression_is_displayed_unless_a_semicolon_ends_it():
    assert "_show_last" in rewritten("x = 1\nx")
    assert "_show_last" not in rewritten("x = 1\nx;")
    assert "_show_last" not in rewritten("x;  # no")


@pytest.mark.parametrize(
    "source",
    [
        "layers = 1",
        "for tokens in x:\n    pass",
        "def norm():\n    pass",
        "class embed:\n    pass",
        "import os as prompt",
        "with a as steps:\n    pass",
        "del layers",
        "(logits := 1)",
        "a, layers = x",
        "try:\n    pass\nexcept E as norm:\n    pass",
        "match x:\n    case tokens:\n        pass",
        "transformer += 1",
    ],
)
def test_binding_a_trace_name_is_a_problem_and_no_crash(source):
    problems = program(source).problems
    assert len(problems) == 1
    assert "belongs to the trace" in problems[0].message


def test_a_line_that_the_parser_speaks_of_is_counted_as_the_cell_counts():
    with pytest.raises(CellError) as caught:
        parse("for step in steps:\nx = 1", first_line=2)
    assert "'for' statement on line 2" in caught.value.message
    assert "line 3" in caught.value.message


def test_a_syntax_error_names_the_line_of_the_cell_and_has_a_caret():
    with pytest.raises(CellError) as raised:
        program("x = 1\ny = (2,\n", first_line=2)
    assert raised.value.problems[0].span.line == 3
    assert "was never closed" in str(raised.value)
    assert "y = (2," in str(raised.value)


def test_return_outside_a_function_is_the_language_s_own_error():
    with pytest.raises(CellError, match="outside function") as raised:
        program("x = 1\nreturn x", first_line=2)
    assert raised.value.problems[0].span.line == 3


@pytest.mark.parametrize(
    "source", ["\0", "x" + "(" * 5000, "-" * 100_000 + "1", "\ud800", "await x"]
)
def test_what_cannot_be_compiled_is_refused_in_words(source):
    with pytest.raises(CellError):
        program(source)


def test_carriage_returns_are_line_ends():
    assert program("a = 1\r\nb = 2\r\n").saved == ("a", "b")


def test_a_transform_may_drop_blank_lines_at_the_head():
    found = program("\n\n  \nx = layers[1].output", transform=lambda text: text.lstrip("\n"))
    assert found.touches[0].span.line == 4
