"""Completion in trace cells and on the magics' lines, through IPython's own completer."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

from nnsight_magic.errors import NnsightError
from nnsight_magic.language.complete import Candidate, Completions, complete
from nnsight_magic.magics.options import CELLS, LINES_TOO, OPTIONS, Piece, split
from nnsight_magic.printable import printable

_MAGIC = re.compile(r"^\s*(%{1,2})(\w+)\s?(.*)$")
_FROM_VARIABLE = re.compile(r"(?<![\w.])([^\W\d]\w*)[.\[][\w.\[\]\-]*$")


def matcher(magics: Any) -> Callable[[CompletionContext], dict]:
    """The matcher for one registered set of magics."""

    @context_matcher(identifier="nnsight_magic")
    def nnsight_matcher(context: CompletionContext) -> dict:
        try:
            found = completions(
                context.full_text, context.cursor_line, context.cursor_position, magics
            )
        except NnsightError:  # a line that cannot be read yet has nothing to offer
            found = None
        if found is None or not found.candidates:
            return {"completions": []}  # a new one: the completer writes into it
        return {
            "completions": [
                SimpleCompletion(each.text, type=in_one_line(each.hint))
                for each in found.candidates
            ],
            "matched_fragment": found.fragment,
            "suppress": found.exclusive,
            "ordered": True,
        }

    return nnsight_matcher


HINT = 30  # characters that JupyterLab's list has room for
_SHAPED = re.compile(r"(\w+)( \([^()]*\))")  # a class and the shape of what it gives
_BREAKS = re.compile(r"[^\w\s.,:;()\[\]'\"#$%&*<=>@\\^`~\u2011…]|[^\x00-\u2fff]")


def in_one_line(hint: str) -> str:
    """A hint as JupyterLab's list can show it: short, and without a place to break it at.

    Its column of types breaks at blanks, hyphens and the like, while every row is one line high.
    """
    hint = printable(" ".join(hint.split()))
    shaped = _SHAPED.fullmatch(hint)
    head, tail = shaped.groups() if shaped and len(shaped[2]) < HINT - 4 else (hint, "")
    if len(head) + len(tail) > HINT:
        cut = head[: HINT - len(tail) - 1]
        head = (cut if tail or " " not in cut else cut.rpartition(" ")[0]).rstrip(" ,;:(") + "…"
    shown = (head + tail).replace(" ", "\u00a0").replace("-", "\u2011").replace("\u2010", "\u2011")
    return _BREAKS.sub("\\g<0>\u2060", shown) or "\u00a0"


def completions(text: str, line_number: int, column: int, magics: Any) -> Completions | None:
    """What can stand at the cursor of a cell, if the cell is one of this package's."""
    lines = text.split("\n")
    if not 0 <= line_number < len(lines):
        return None
    before = lines[line_number][:column]
    here = _MAGIC.match(lines[line_number])
    if here and here[2] in OPTIONS and len(before) > here.start(3) - 1:
        if (here[2] in CELLS) == (here[1] == "%%") or here[2] in LINES_TOO:
            return on_line(here[2], before[here.start(3) :], magics)
        return None
    head = next((m for m in map(_MAGIC.match, lines[:line_number]) if m and m[2] in CELLS), None)
    if head is None or head[1] != "%%":
        return in_plain_cell(before, magics)
    return in_body(before, head[3], magics, sweeps=head[2] == "sweep")


def in_plain_cell(before: str, magics: Any) -> Completions | None:
    """In a cell of plain Python: paths that begin with a model of the notebook."""
    found = _FROM_VARIABLE.search(before)
    models = magics.models.all()
    if found is None or found[1] not in models:
        return None
    path = "model" + before[found.end(1) :]
    model = models[found[1]]
    return complete(path, model, (), (), magics.shapes.known(model))


def in_body(before: str, line: str, magics: Any, *, sweeps: bool = False) -> Completions | None:
    """Inside a trace cell: paths of the model, trace names, prompts, tokens."""
    try:
        pieces = split(line)
    except NnsightError:
        pieces = []
    try:
        model = magics.models.find(option_value(pieces, "-m", "--model"))[1]
    except NnsightError:
        return None
    names = [piece.name for piece in pieces if piece.quoted and piece.name]
    tokens = _tokens(pieces, model, magics)
    return complete(before, model, names, tokens, magics.shapes.known(model), sweeps=sweeps)


def _tokens(pieces: list[Piece], model: Any, magics: Any) -> list[str]:
    from nnsight_magic.language.tokens import token_texts

    texts = [piece.text for piece in pieces if piece.quoted]
    variable = magics.shell.user_ns.get(option_value(pieces, "-p", "--prompt") or "")
    texts += [variable] if isinstance(variable, str) else []
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        return []
    return [
        token for text in texts for token in token_texts(tokenizer, tokenizer(text)["input_ids"])
    ]


def option_value(pieces: list[Piece], *spellings: str) -> str | None:
    """What follows an option in a line that may be half written."""
    for before, after in pairwise(pieces):
        if not before.quoted and before.text in spellings:
            return after.text
    return None


def on_line(magic: str, before: str, magics: Any) -> Completions | None:
    """On a magic's line: options, models after `-m`, variables after `-p`."""
    if before.count('"') % 2 or before.count("'") % 2:
        return None  # inside a prompt
    words = before.split(" ")
    fragment, last = words[-1], words[-2] if len(words) > 1 else ""
    if last in ("-m", "--model"):
        return _fitting(fragment, [Candidate(name, "model") for name in magics.models.all()])
    if last in ("-p", "--prompt"):
        variables = magics.shell.user_ns
        kinds = {
            n: type(v).__name__ for n, v in variables.items() if isinstance(v, str | list | dict)
        }
        return _fitting(
            fragment, [Candidate(n, k) for n, k in kinds.items() if not n.startswith("_")]
        )
    if last == "--dtype":
        return _fitting(
            fragment, [Candidate(n, "dtype") for n in ("float32", "bfloat16", "float16")]
        )
    if fragment.startswith("-") or not fragment:
        offered = [
            Candidate(s, o.help) for o in OPTIONS[magic] for s in o.spellings if s[:2] == "--"
        ]
        offered.append(Candidate("--help", "show all options"))
        return _fitting(fragment, offered)
    if magic == "model":
        import sys

        torch = sys.modules.get("torch")
        offered = [Candidate("demo", "the demo model")]
        if torch is not None:
            for name, value in magics.shell.user_ns.items():
                if isinstance(value, torch.nn.Module):
                    offered.append(Candidate(name, type(value).__name__))
        return _fitting(fragment, offered, exclusive=False)
    if magic == "saved":
        return _fitting(fragment, [Candidate(n, "saved") for n in magics.saved_names()])
    if magic == "edits":
        return _fitting(fragment, _edits(split(before), magics))
    return None


def _edits(pieces: list[Piece], magics: Any) -> list[Candidate]:
    model = magics.models.find(option_value(pieces, "-m", "--model"))[1]
    return [
        Candidate(name, "on" if edit.enabled else "off")
        for name, edit in model.edits.items()
        if name.isidentifier()
    ]


def _fitting(fragment: str, offered: list[Candidate], exclusive: bool = True) -> Completions:
    found = tuple(each for each in offered if each.text.startswith(fragment))
    return Completions(fragment, found, exclusive)
