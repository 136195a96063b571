"""Twenty thousand cells: no crash, no hang, and no error but the language's own."""

from __future__ import annotations

import ast
import random
import re
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from nnsight_magic import LanguageModel
from nnsight_magic.errors import CellError
from nnsight_magic.language.complete import complete
from nnsight_magic.language.names import SCOPE_NAME, TRACE_NAMES
from nnsight_magic.language.problems import LINES_SHOWN
from nnsight_magic.language.read import read
from tests import tiny

CELLS = 20_000
BATCH = 100
NAMES = [
    *TRACE_NAMES,
    "x",
    "_y",
    "h",
    "layer",
    "model",
    "range",
    "torch",
    "é",
    "日本",
    "match",
    "type",
]
ATTRIBUTES = ["output", "input", "mlp", "attn", "mpl", "next", "grad", "shape", "zero_", "layers"]
NOISE = [
    *"\0\t\r\n\f\\\"'`()[]{}%!?;:,.#@=~^ 0é日\ud800\u2028",
    "%%",
    "!ls",
    "%time ",
    "\r\n",
    "\\\n",
]

pytestmark = pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def feed():
    model = LanguageModel(tiny.build("llama"))
    transform = TransformerManager().transform_cell

    def refused(source: str, how) -> CellError | None:
        try:
            program = read(source, model, {"torch": None}, ("clean",), "<fuzz>", 2, how)
            assert SCOPE_NAME not in program.bound
        except CellError as error:
            return error
        return None

    def run(source: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for how in (None, transform):
                error = refused(source, how)
                assert error is None or error.problems
                assert error is None or len(error.message.split("\n")) <= LINES_SHOWN
            complete(source.split("\n")[-1], model, ("clean",), ("a", " b"))

    return run


# -- cells that are programs, by hypothesis, so that a failure shrinks --------------------------

names = st.sampled_from(NAMES)
loads = names.map(lambda name: ast.Name(name, ast.Load()))
constants = st.sampled_from([0, -1, 3, "Tower", None, True, 1.5, ...]).map(ast.Constant)


def paths(inner):
    attribute = st.builds(
        lambda v, a: ast.Attribute(v, a, ast.Load()), inner, st.sampled_from(ATTRIBUTES)
    )
    index = st.builds(lambda v, i: ast.Subscript(v, i, ast.Load()), inner, inner)
    pair = st.builds(
        lambda v, i: ast.Subscript(v, ast.Tuple([ast.Slice(), i], ast.Load()), ast.Load()),
        inner,
        inner,
    )
    call = st.builds(lambda f, a: ast.Call(f, [a], []), inner, inner)
    walrus = st.builds(lambda n, v: ast.NamedExpr(ast.Name(n, ast.Store()), v), names, inner)
    function = st.builds(
        lambda n, b: ast.Lambda(ast.arguments([], [ast.arg(n)], None, [], [], None, []), b),
        names,
        inner,
    )
    listed = st.builds(
        lambda n, e, i: ast.ListComp(e, [ast.comprehension(ast.Name(n, ast.Store()), i, [], 0)]),
        names,
        inner,
        inner,
    )
    return attribute | index | pair | call | walrus | function | listed


expressions = st.recursive(loads | constants, paths, max_leaves=8)
stored = names.map(lambda name: ast.Name(name, ast.Store())) | st.builds(
    lambda v, a: ast.Attribute(v, a, ast.Store()), loads, st.sampled_from(ATTRIBUTES)
)
simple = (
    st.builds(lambda t, v: ast.Assign([t], v), stored, expressions)
    | st.builds(lambda t, v: ast.AugAssign(t, ast.Add(), v), stored, expressions)
    | st.builds(lambda n: ast.Delete([ast.Name(n, ast.Del())]), names)
    | st.builds(lambda n: ast.Import([ast.alias("os", n)]), names)
    | st.builds(lambda n: ast.Global([n]), names)
    | st.builds(ast.Expr, expressions)
    | st.sampled_from([ast.Break(), ast.Continue(), ast.Pass(), ast.Return(None)])
)


def compound(inner):
    body = st.lists(inner, min_size=1, max_size=3)
    return (
        st.builds(lambda n, i, b: ast.For(ast.Name(n, ast.Store()), i, b, []), names, loads, body)
        | st.builds(lambda t, b: ast.If(t, b, []), expressions, body)
        | st.builds(
            lambda n, a, b: ast.FunctionDef(
                n, ast.arguments([], [ast.arg(a)], None, [], [], None, []), b, [], None
            ),
            names,
            names,
            body,
        )
        | st.builds(lambda n, b: ast.ClassDef(n, [], [], b, []), names, body)
    )


statements = st.recursive(simple, compound, max_leaves=6)


@settings(
    max_examples=CELLS // 20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(statements, min_size=1, max_size=4))
def test_programs(feed, body):
    feed(ast.unparse(ast.fix_missing_locations(ast.Module(body, []))))


# -- cells with noise in them, many -------------------------------------------------------------


# `<P>` is a path and `<N>` a name, each time another one.
TEMPLATES = [
    "<P> = <P>",
    "<N> += <P> * <P>",
    "for <N> in <P>:\n    <P> = <P>",
    "def <N>(<N>=1):\n    return <P>",
    "with <P> as <N>: <P>",
    "try:\n\t<P>\nexcept <P> as <N>:\n\tpass",
    "match <P>:\n  case [<N>, *<N>]:\n    1",
    "f'{<P>} {<P>!r:>{x}}'",
    "[<P> for <N> in <P> if <P>]",
    "%time <P>",
    "<P>?",
    "!echo <P>",
    "x = !ls <P>",
    "del <P>, <P>",
    "class <N>: <N> = <P>",
    "(<N> := <P>)",
    "(<P> := <P>)",
    "lambda <N>: (yield <P>)",
    "await <P>",
    "x = ((((((((((((<P>",
    "global <N>",
    "nonlocal <N>",
    "return <P>",
    "from <N> import *",
]


def path(chance: random.Random) -> str:
    text = chance.choice(NAMES)
    for _ in range(chance.randrange(4)):
        steps = (f".{chance.choice(ATTRIBUTES)}", f"[{chance.randint(-3, 9)}]", "[:, -1]", "()")
        text += chance.choice(steps)
    return text


def line(chance: random.Random) -> str:
    made = {"<P>": lambda: path(chance), "<N>": lambda: chance.choice(NAMES)}
    return re.sub("<[PN]>", lambda found: made[found[0]](), chance.choice(TEMPLATES))


def noisy(source: str, chance: random.Random) -> str:
    for _ in range(chance.choice([0, 1, 1, 2, 5])):
        at = chance.randrange(len(source) + 1)
        cut = chance.choice([0, 0, 1, 3])
        source = source[:at] + chance.choice(NOISE) + source[at + cut :]
    return source


@pytest.mark.parametrize("batch", range(CELLS // BATCH // 10))
def test_noise(feed, batch):
    chance = random.Random(batch)
    for _ in range(BATCH * 10):
        lines = [line(chance) for _ in range(chance.randint(1, 4))]
        feed(noisy(chance.choice(["\n", "\n", "\r\n", "\n\n"]).join(lines), chance))


def test_a_very_long_cell(feed):
    feed("\n".join(f"x{k} = layers[{k % 3}].mlp.output[:, {k}]  # {'é' * 30}" for k in range(2000)))
    feed("x = [" + "layers[0].output, " * 5_000 + "]")


@pytest.mark.parametrize(
    "deep", ["(" * 10_000, "[" * 10_000, "-" * 100_000, "x." * 50_000, "if x:\n " * 500]
)
def test_a_very_deep_cell(feed, deep):
    feed(deep)
    feed(deep + "x")
