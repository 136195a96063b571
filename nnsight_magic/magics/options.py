"""The options of the magics, each defined once: names, help, kind, default by `%config`.

The line is read here too: prompts are Python string literals, `name="…"` names a prompt, and
`{expression}` is replaced by its value in the notebook.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from nnsight_magic.errors import CellError, OptionError
from nnsight_magic.language.names import TRACE_NAMES
from nnsight_magic.language.problems import Problem, Span, cell_error
from nnsight_magic.near import did_you_mean


@dataclass(frozen=True)
class Option:
    """One option. `kind` says what it takes: 'flag', 'switch' (has a `--no-` form), 'text',
    'number', 'variable', 'file', 'model'. `setting` is its trait of `%config NNsightMagic`."""

    name: str
    kind: str
    help: str
    short: str | None = None
    metavar: str | None = None
    setting: str | None = None

    @property
    def spellings(self) -> list[str]:
        """Everything that may stand in the line for it, the long name first."""
        long = [f"--{self.name}"]
        if self.kind == "switch":
            long.append(f"--no-{self.name}")
        return [*long, *([f"-{self.short}"] if self.short else [])]

    @property
    def attribute(self) -> str:
        return self.name.replace("-", "_")


SHARED = (
    Option("model", "model", "the model to run, where several are loaded", "m", "MODEL", "model"),
    Option("prompt", "variable", "a notebook variable with the prompts", "p", "VAR"),
    Option("file", "file", "a text file whose content is the prompt", "f", "FILE"),
    Option("chat", "switch", "put the prompt into the model's chat template", setting="chat"),
    Option("grad", "switch", "record gradients, where the cell does not ask for them",
           setting="grad"),
    Option("fresh", "switch", "start the forward from its beginning, remembering nothing",
           setting="fresh"),
    Option("compare", "switch", "predict without the cell's writes too", setting="compare"),
    Option("view", "switch", "show the result with its views", setting="view"),
    Option("quiet", "switch", "show nothing", "q", setting="quiet"),
    Option("output", "text", "put the result object into this variable", "o", "NAME"),
)  # fmt: skip
FULL = Option("full", "switch", "run the forward to its end", setting="full")
NEW_TOKENS = Option("new-tokens", "number", "how many tokens to generate", "n", "N", "new_tokens")
SEED = Option(
    "seed", "number", "where the random numbers of sampling begin", metavar="N", setting="seed"
)

# What every analysis takes, beside options of its own.
ANALYSIS = (*SHARED[:4], *SHARED[7:],
    Option("code", "flag", "print the Python that does the same, and run nothing"),
)  # fmt: skip
ANSWERS = (
    Option("answer", "text", "what is measured: its log-probability", "a", "TEXT"),
    Option("versus", "text", "measure the difference of both logits", metavar="TEXT"),
)
# Of analyses that go through places: blocks times positions or heads.
PLACES = (
    Option("site", "text", "resid_pre, resid_mid, resid_post, attn, mlp, heads, q, k, v, pattern, "
           "neurons", metavar="SITE"),
    Option("by", "text", "the axes beside the layer: position, head, or position,head",
           metavar="AXES"),
    Option("layers", "text", "the blocks (default: all)", metavar="0,4-8"),
)  # fmt: skip
ALIGN = Option("align", "text", "same: go by the tokens that both prompts have", metavar="same")

CELLS = ("trace", "generate", "edit", "sweep", "audit")  # the magics of whole cells
LINES_TOO = ("audit",)  # those of them that are lines too

OPTIONS: dict[str, tuple[Option, ...]] = {
    "trace": (*SHARED[:5], FULL, *SHARED[5:]),
    "generate": (NEW_TOKENS, SEED, *SHARED),
    "sweep": (
        *SHARED[:5],
        Option("new-tokens", "number", "make every point a generation of so many tokens", "n", "N"),
        SEED,
        Option("batch", "number", "points in one batch (default: as many as 1,024 tokens)",
               metavar="N"),
        Option("pack", "switch", "leave out tokens that a point leaves as they are"),
        Option("keep-going", "flag", "leave a point empty that fails, and go on"),
        Option("fresh", "flag", "begin anew, where this cell was stopped before"),
        Option("dry", "flag", "run a few points, and say how long all would take"),
        Option("on", "variable", "run points there: so many processes, or a cluster",
               metavar="WHERE"),
        Option("out", "file", "keep finished points in this folder, and go on there",
               metavar="FOLDER"),
        *SHARED[7:],
    ),
    "model": (
        Option("device", "text", "where the weights go: cpu, cuda, cuda:1, auto", metavar="DEVICE"),
        Option("dtype", "text", "of the weights: float32, bfloat16, float16", metavar="DTYPE"),
        Option("name", "text", "the variable to put it into (default: model)", metavar="VAR"),
    ),
    "saved": (Option("drop", "flag", "delete the named variables, or all that are listed"),),
    "models": (),
    "edit": (
        SHARED[0],
        Option("steps", "text", "the steps of a generation it is for (default: all)",
               metavar="0,2-4"),
        Option("quiet", "switch", "show nothing", "q", setting="quiet"),
    ),
    "edits": (
        SHARED[0],
        Option("off", "flag", "switch the named edits off, or all of them"),
        Option("on", "flag", "switch them on again"),
        Option("remove", "flag", "take them back for good"),
        Option("save", "file", "store the model's edits in a file", metavar="FILE"),
        Option("load", "file", "add the edits that are stored in a file", metavar="FILE"),
    ),
    "runs": (),
    "about": (),
    "audit": ANALYSIS,
    "attention": (
        Option("induction", "flag", "run on repeated random tokens, and score induction heads"),
        Option("repeated", "number", "how many random tokens are repeated", "n", "N"),
        Option("seed", "number", "where the random numbers begin that choose them", metavar="N"),
        Option("score", "text", "what heads are ranked by at first", metavar="NAME"),
        Option("layers", "text", "the blocks (default: all)", metavar="0,4-8"),
        Option("keep", "flag", "keep the patterns of all heads, however many"),
        *ANALYSIS,
    ),
    "lens": (
        Option("answer", "text", "a token to follow through the rows", "a", "TEXT"),
        Option("of", "text", "what is looked at: resid, or what attn or mlp adds (default: resid)",
               metavar="PART"),
        Option("top", "number", "how many tokens are kept for each place", "k", "N"),
        Option("map", "file", "read rows through a tuned or a Jacobian lens", metavar="FILE"),
        Option("settled", "flag", "mark from which row on the final token stays the likeliest"),
        *ANALYSIS,
    ),
    "patch": (
        *ANSWERS, *PLACES, ALIGN,
        Option("reverse", "flag", "put the corrupt prompt's activations into the clean one"),
        *ANALYSIS,
    ),
    "ablate": (
        *ANSWERS, *PLACES,
        Option("how", "text", "zero, mean or resample (default: zero)", metavar="HOW"),
        Option("over", "variable", "a notebook variable with texts for mean and resample",
               metavar="VAR"),
        Option("repeats", "number", "texts that are drawn for each point", metavar="N"),
        Option("seed", "number", "where the random numbers begin", metavar="N"),
        *ANALYSIS,
    ),
    "attribute": (
        *ANSWERS, *PLACES, ALIGN,
        Option("method", "text", "how the gradient goes back: grad, norm, relp or ig",
               metavar="METHOD"),
        Option("steps", "number", "points on the way of ig (default: 10)", metavar="N"),
        Option("edges", "flag", "every writer with every reader, instead of places"),
        Option("check", "number", "how many points are patched exactly (default: 20, and 20 more)",
               metavar="N"),
        *ANALYSIS,
    ),
    "steer": (
        Option("from", "variable", "a notebook variable: (positive, negative) texts, a direction",
               metavar="VAR"),
        Option("load", "file", "a control vector instead, .gguf or .safetensors", metavar="FILE"),
        Option("layer", "text", "behind which block, or several", metavar="8,10-12"),
        Option("method", "text", "means or principal (default: means)", metavar="METHOD"),
        Option("at", "text", "of each text last or mean (default: last)", metavar="AT"),
        Option("strength", "text", "how much of it", metavar="0.1,0.2"),
        Option("relative", "flag", "strengths are in parts of the residual stream's mean length"),
        Option("random", "switch", "write texts with a random direction too"),
        Option("save", "file", "store the direction, .gguf or .safetensors", metavar="FILE"),
        Option("new-tokens", "number", "how many tokens to generate (default: 20)", "n", "N"),
        *ANALYSIS,
    ),
    "probe": (
        Option("from", "variable", "a notebook variable: a store, or states by block",
               metavar="VAR"),
        Option("group", "variable", "a notebook variable with the group of each row", "g", "VAR"),
        Option("site", "text", "what of the store, where it has several", metavar="SITE"),
        Option("layers", "text", "the blocks (default: all)", metavar="0,4-8"),
        Option("method", "text", "logistic or means (default: logistic)", metavar="METHOD"),
        Option("folds", "number", "into how many parts the groups are dealt (default: 5)",
               metavar="N"),
        Option("draws", "number", "of the control (default: 20)", metavar="N"),
        Option("seed", "number", "where the random numbers begin", metavar="N"),
        *ANALYSIS[4:],
    ),
    "dla": (
        *ANSWERS,
        Option("by", "text", "part or head (default: part)", metavar="PART"),
        Option("position", "number", "whose prediction (default: the last)", metavar="N"),
        *ANALYSIS,
    ),
}  # fmt: skip

SUMMARY = {
    "trace": 'Run a cell inside one forward pass: %%trace "The Eiffel Tower is in the city of"',
    "generate": 'Run a cell inside a generation: %%generate "Once upon a time" -n 20',
    "sweep": 'Run a loop over points in few forwards: %%sweep "The Eiffel Tower is in"',
    "model": "Load a model, or adopt one of the notebook: %model demo",
    "saved": "List what traces have saved, with sizes; --drop deletes: %saved --drop resid",
    "models": "List the models of the notebook.",
    "edit": "Make an edit, writes that every later run carries out: %%edit silence",
    "edits": "List the model's edits, switch, remove, store or load them: %edits silence --off",
    "about": "Show what a module is: %about layers[3].mlp, or layers[3].mlp? in any cell.",
    "audit": 'Check what writes do: %audit, of the last cell; %%audit "…" instead of %%trace',
    "attention": 'What the heads attend to: %attention "Mary and John", %attention --induction',
    "lens": 'The logit lens of a prompt: %lens "The Eiffel Tower is in the city of" -a " Paris"',
    "patch": 'Patch every place: %patch clean="…" corrupt="…" -a " Paris" --versus " Rome"',
    "ablate": 'Take out every head: %ablate "The Eiffel Tower is in the city of" -a " Paris"',
    "attribute": 'Estimate all patches at once: %attribute clean="…" corrupt="…" -a " Paris"',
    "dla": 'What each part adds to a logit: %dla "The Eiffel Tower is in" -a " Paris"',
    "probe": "How well labels are read off activations: %probe labels --from store --group city",
    "steer": 'Steer texts by a direction: %steer shout "My name is" --from pairs --layer 8',
    "runs": "List the runs of this session, or compare two: %runs 3 5",
}

_PIECE = re.compile(
    r"""\s*(?:(?P<name>[^\W\d]\w*)=)?"""
    r"""(?P<string>[rR]?(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'))(?=\s|$)"""
    r"""|\s*(?P<word>\S+)"""
)
# A quotation with something else than a space behind it.
_RUN_ON = re.compile(r"""(?:\w+=)?[rR]?(?P<mark>["'])(?:\\.|(?!(?P=mark))[^\\])*(?P=mark)\S+""")


@dataclass
class Piece:
    """A part of the line: a quoted string (with the prompt's name, if any) or a bare word."""

    text: str
    span: tuple[int, int]
    quoted: bool
    name: str | None = None


@dataclass
class Line:
    """A magic's line, read: options by attribute, prompts, and what is left as plain words."""

    options: dict[str, Any]
    prompts: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    generation: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name == "options":  # asked while it is unpickled, before there are any
            raise AttributeError(name)
        try:
            return self.options[name]
        except KeyError:
            raise AttributeError(name) from None


class HelpShown(Exception):
    """`--help` stood in the line; `text` is what to print."""

    def __init__(self, text: str) -> None:
        self.text = text


def read_line(
    magic: str,
    line: str,
    settings: Mapping[str, Any],
    namespace: Mapping[str, Any],
) -> Line:
    """Reads the line of one magic.

    `settings` are the defaults by `%config`, `namespace` the notebook's variables for
    `{expression}`.

    Raises `HelpShown` for `--help`, and `OptionError` with the next thing to do.
    """
    pieces = split(line)
    if any("{" in piece.text or "$" in piece.text for piece in pieces):
        names = dict(namespace)  # evaluating an expression may add some
        for piece in pieces:
            piece.text = expand(piece.text, names)
    bare = [piece.text for piece in pieces if not piece.quoted]
    if "--help" in bare or "-h" in bare:
        raise HelpShown(help_text(magic))
    marked, strings = [], {}
    for index, piece in enumerate(pieces):
        if piece.quoted:
            # argparse must take no prompt for an option, whatever it begins with.
            marked.append(f"\0{index}")
            strings[marked[-1]] = piece
        else:
            marked.append(piece.text)
    defaults = {o.attribute: settings.get(o.setting) for o in OPTIONS[magic] if o.setting}
    try:
        values, rest = parser(magic).parse_known_args(marked, argparse.Namespace(**defaults))
    except argparse.ArgumentError as error:
        raise _refused(magic, error) from None
    options = {
        name: strings[value].text if isinstance(value, str) and value in strings else value
        for name, value in vars(values).items()
    }
    for option in OPTIONS[magic]:
        if option.kind == "number":
            options[option.attribute] = _whole(option, options[option.attribute])
    read = Line(options)
    _sort_rest(magic, rest, strings, read)
    return read


def _refused(magic: str, error: argparse.ArgumentError) -> OptionError:
    """What argparse cannot do with an option: it lacks its value, or has one and takes none."""
    spelled = (error.argument_name or "").split("/")
    option = next(each for each in OPTIONS[magic] if f"--{each.name}" in spelled)
    if option.kind in ("flag", "switch"):
        return OptionError(f"--{option.name} takes no value")
    return OptionError(f"--{option.name} takes a value; none follows it")


def _whole(option: Option, value: Any) -> int | None:
    """The number that an option was given, or has by default."""
    try:
        return value if value is None else int(value)
    except ValueError:
        raise OptionError(f"--{option.name} takes a whole number, not {value!r}") from None


def _sort_rest(magic: str, rest: list[str], strings: dict[str, Piece], read: Line) -> None:
    """Prompts, generation options and plain words, in the order of the line."""
    waiting: str | None = None
    for word in rest:
        if waiting is not None and (word in strings or not word.startswith("--")):
            read.generation[waiting] = _literal(strings[word].text if word in strings else word)
            waiting = None
        elif word in strings:
            piece = strings[word]
            read.prompts.append(piece.text)
            if piece.name is not None:
                read.names.append(piece.name)
        elif word.startswith("-") and len(word) > 1 and not _is_number(word):
            if waiting is not None:
                read.generation[waiting] = True
            waiting = _generation_option(magic, word, read)
        else:
            read.words.append(word)
    if waiting is not None:
        read.generation[waiting] = True
    _check_names(read)


def _generation_option(magic: str, word: str, read: Line) -> str | None:
    """The name of a generation option; its value follows, unless it came with `=`."""
    generates = magic == "generate" or (magic == "sweep" and read.options.get("new_tokens"))
    if not generates or not word.startswith("--"):
        raise unknown_option(magic, word)
    name, given, value = word[2:].partition("=")
    name = name.replace("-", "_")
    known = generation_options()
    if name not in known:
        raise unknown_option(magic, word, [f"--{each}" for each in known])
    if given:
        read.generation[name] = _literal(value)
        return None
    return name


def generation_options() -> list[str]:
    """The names that transformers' `generate` takes."""
    from transformers import GenerationConfig

    return sorted(name for name in vars(GenerationConfig()) if not name.startswith("_"))


def unknown_option(magic: str, word: str, more: list[str] | tuple = ()) -> OptionError:
    known = [spelling for option in OPTIONS[magic] for spelling in option.spellings]
    near = did_you_mean(word.partition("=")[0], [*known, *more])
    marks = "%%" if magic in CELLS else "%"
    return OptionError(f"unknown option {word!r}; {near or f'{marks}{magic} --help lists them'}")


def _check_names(read: Line) -> None:
    if read.names and len(read.names) != len(read.prompts):
        raise OptionError('name every prompt or none: clean="…" corrupt="…"')
    for name in read.names:
        if name in TRACE_NAMES:
            raise OptionError(f"a prompt cannot be called {name!r}: the trace has that name itself")
    if len(set(read.names)) != len(read.names):
        raise OptionError("two prompts have the same name")


def split(line: str) -> list[Piece]:
    """The pieces of a line: Python string literals, `name="…"`, and bare words."""
    pieces = []
    if line.lstrip().startswith("["):
        raise OptionError('several prompts stand side by side, without brackets: "one" "two"')
    for match in _PIECE.finditer(line.strip()):
        string, word = match["string"], match["word"]
        if string is not None:
            text = ast.literal_eval(string)
            pieces.append(Piece(text, match.span("string"), True, match["name"]))
        elif word is not None:
            if ended := _RUN_ON.match(line.strip(), match.start("word")):
                mark = "\\" + ended["mark"]
                raise OptionError(
                    f"the quotation ends in the middle of a word: {ended[0]}; inside of it write "
                    f"{mark}, or use the other quotation marks"
                )
            if word[0] in "\"'" or re.match(r"\w+=[\"']", word):
                raise OptionError(f"the quotation that begins with {word!r} does not end")
            pieces.append(Piece(word, match.span("word"), False))
    return pieces


_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|\$(\w+)")


def expand(text: str, namespace: dict[str, Any]) -> str:
    """`{expression}` and `$name` replaced by their values, as IPython does in a magic's line.

    `namespace` is the notebook's, or a copy of it: an expression may add names.

    `{{` and `}}` are braces. What is no expression stays as it is, so that a prompt may hold
    JSON; a name that is not there is an error, where IPython would leave the whole line.
    """

    def value(match: re.Match) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        if match[2] is not None:
            return str(namespace[match[2]]) if match[2] in namespace else match[0]
        try:
            code = compile(match[1].strip(), "<line>", "eval")
        except (SyntaxError, ValueError):
            return match[0]
        try:
            return str(eval(code, namespace))
        except Exception as error:
            raise OptionError(
                f"{match[0]} in the line cannot be evaluated: {type(error).__name__}: {error}; "
                "write {{ and }} for braces"
            ) from None

    return _BRACES.sub(value, text)


@cache
def parser(magic: str) -> argparse.ArgumentParser:
    """argparse's parser over the option table."""
    made = argparse.ArgumentParser(
        prog=f"%{magic}", add_help=False, allow_abbrev=False, exit_on_error=False
    )
    for option in OPTIONS[magic]:
        names = [f"--{option.name}", *([f"-{option.short}"] if option.short else [])]
        match option.kind:
            case "switch":
                action = argparse.BooleanOptionalAction
                made.add_argument(*names, action=action, dest=option.attribute)
            case "flag":
                made.add_argument(*names, action="store_true", dest=option.attribute)
            case _:
                made.add_argument(*names, dest=option.attribute)
    return made


def help_text(magic: str) -> str:
    """What `--help` prints."""
    cell = magic in CELLS
    rows = []
    for option in OPTIONS[magic]:
        short = f"-{option.short}, " if option.short else "    "
        long = f"--[no-]{option.name}" if option.kind == "switch" else f"--{option.name}"
        rows.append((f"  {short}{long} {option.metavar or ''}".rstrip(), option.help))
    rows.append(("      --help", "show this"))
    width = max(len(left) for left, _ in rows) + 2
    usage = {
        "trace": '%%trace "PROMPT" ["PROMPT" …] [options]   (or name="PROMPT" name="PROMPT")',
        "generate": '%%generate "PROMPT" [-n N] [options] [--temperature 0.7 …]',
        "sweep": '%%sweep "PROMPT" [options]   (or clean="PROMPT" corrupt="PROMPT")',
        "model": "%model NAME_OR_VARIABLE [options]",
        "edit": "%%edit [NAME] [options]",
        "edits": "%edits [NAME …] [options]",
        "saved": "%saved [NAME …] [--drop]",
        "runs": "%runs [A B]",
        "about": "%about PATH",
        "audit": '%audit [options]   (of the last cell; or %%audit "PROMPT" above a cell)',
        "attention": '%attention "PROMPT" [options]   (or --induction instead of a prompt)',
        "lens": '%lens "PROMPT" [--answer TEXT] [options]',
        "patch": '%patch clean="PROMPT" corrupt="PROMPT" --answer TEXT [options]',
        "ablate": '%ablate "PROMPT" --answer TEXT [options]',
        "attribute": '%attribute clean="PROMPT" corrupt="PROMPT" --answer TEXT [options]',
        "probe": "%probe LABELS --from STORE [--group GROUPS] [options]",
        "steer": '%steer NAME ["PROMPT" …] --from PAIRS --layer N (without prompts: as an edit)',
        "dla": '%dla "PROMPT" --answer TEXT [--versus TEXT] [options]',
    }.get(magic, f"%{magic} [options]")
    lines = [SUMMARY[magic], "", usage, ""]
    lines += [f"{left.ljust(width)}{right}" for left, right in rows]
    if magic == "generate":
        lines += [
            "",
            "Options of transformers' generate go by their own names: --do_sample --top_p 0.9",
        ]
    if cell:
        lines += ["", "Defaults: %config NNsightMagic"]
    return "\n".join(lines)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def line_error(magic: str, line: str, error: Exception, where: str) -> CellError:
    """The error of a magic's line, shown with the line as a cell's error is."""
    cell = magic in CELLS and where != f"%{magic}"
    written = f"{'%%' if cell else '%'}{magic} {line}".rstrip()
    word = re.search(r"'([^']+)'", str(error))
    start = written.find(word[1]) if word else -1
    span = Span(1, 0, len(magic) + 2)
    if word and start >= 0:
        span = Span(1, start, start + len(word[1]))
    return cell_error([Problem(span, str(error))], [written], where)
