"""A result as text: with rich's colours and bars in a terminal, plain everywhere else."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from nnsight_magic.magics.result import PromptResult, TraceResult
from nnsight_magic.printable import printable
from nnsight_magic.views.data.roles import Axis
from nnsight_magic.views.data.two_texts import lines, two_texts
from nnsight_magic.views.data.words import percent, visible

PLAIN_WIDTH = 100
TOKENS_SHOWN = 200
PROMPTS_SHOWN = 8
# Alternating backgrounds tell tokens apart where there are colours; `|` does where there are none.
TOKEN_STYLES = ("#ffffff on #2b3a55", "#ffffff on #4a3560")
# Readable on light and on dark ground; the bars are the views' colours.
WITH, WITHOUT, NOTICE = "#3a86d6", "#8a8a8a", "#c06000"
BAR = 16
SHARE = 7  # characters of a percentage with its blank
TOKEN_WIDTH = 24


def plain_text(result: TraceResult) -> str:
    """Without escape codes, for files, notebooks' text output and logs."""
    return _printed(layout(result, colour=False), _console(PLAIN_WIDTH, colour=False))


def terminal_text(result: TraceResult) -> str:
    """For standard output: coloured and as wide as the terminal, if it is one."""
    if not _in_terminal():
        return plain_text(result)
    width = terminal_width()
    return _printed(layout(result, colour=True, width=width), _console(width, colour=True))


def rendered(renderable: Any) -> str:
    """Any renderable of rich, by the same rule."""
    colour = _in_terminal()
    return _printed(renderable, _console(terminal_width() if colour else PLAIN_WIDTH, colour))


def terminal_width() -> int:
    return max(40, shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns)


def terminal_map(value: Any, axes: Sequence[Axis] = ()) -> str | None:
    """A matrix, or several of one size, as a small map in a terminal; `None` for all else.

    `axes` are named below it, with the words that they have.
    """
    if not hasattr(value, "untyped_storage") or not _in_terminal():
        return None
    from nnsight_magic.views.still.half_blocks import text_of

    width = terminal_width()
    drawn = text_of(value, width, axes)
    return None if drawn is None else _printed(drawn, _console(width, colour=True))


def in_terminal() -> bool:
    """Whether what is printed goes to a terminal that shows colours."""
    return _in_terminal()


def _in_terminal() -> bool:
    """Whether standard output is a terminal and the shell in it wants colours."""
    if not (hasattr(sys.stdout, "isatty") and sys.stdout.isatty()):
        return False
    if "IPython" not in sys.modules:
        return True
    from IPython import get_ipython

    shell = get_ipython()
    return shell is None or shell.colors.lower() != "nocolor"


def _console(width: int, colour: bool) -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        force_jupyter=False,
        # As many colours as the terminal has: the environment tells.
        color_system="auto" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _printed(renderable: Any, console: Console) -> str:
    shown = [
        Segment(printable(segment.text), segment.style)
        for segment in console.render(renderable)
        if not segment.control
    ]
    console.print(Segments(shown))
    lines = console.file.getvalue().rstrip("\n").split("\n")
    return "\n".join(line.rstrip() for line in lines)


def layout(result: TraceResult, colour: bool, width: int = PLAIN_WIDTH) -> Group:
    """The parts of a result, from top to bottom."""
    parts: list[Any] = [_headline(result)]
    for k, each in enumerate(result.prompts[:PROMPTS_SHOWN]):
        name = each.name or (f"prompt {k + 1}" if len(result.prompts) > 1 else "")
        parts.extend(_prompt(each, name, colour, width))
    if len(result.prompts) > PROMPTS_SHOWN:
        parts.append(Text(f"… and {len(result.prompts) - PROMPTS_SHOWN} more prompts", style="dim"))
    if result.saved:
        parts.append(_saved_table(result))
    parts.extend(Text(f"note: {notice}", style=NOTICE) for notice in result.notices)
    return Group(*parts)


def _headline(result: TraceResult) -> Text:
    text = Text()
    text.append(f"run {result.number}", style="bold")
    text.append(f" · {result.model} · {result.extent} · {result.time}", style="dim")
    if result.wrote:
        wrote = ", ".join(result.wrote[:4]) + (", …" if len(result.wrote) > 4 else "")
        text.append(" · wrote ", style="dim")
        text.append(wrote, style="magenta")
    return text


def _prompt(each: PromptResult, name: str, colour: bool, width: int) -> Iterable[Any]:
    if name:
        yield Text(f"{name}:", style="bold")
    yield tokens_line(each.tokens, colour, width)
    if each.generated:
        if each.generated_clean and each.generated_clean != each.generated:
            yield _two_texts(each, width)
        else:
            arrow = Text("→ ", style=f"bold {WITH}")
            yield tokens_line(each.generated, colour, width, arrow)
        if each.generated_clean == each.generated:
            yield Text("the same without the writes", style="dim")
    if each.predictions:
        yield prediction_lines(each, width)


def _two_texts(each: PromptResult, width: int) -> Text:
    """The texts with the writes and without, token over token, with marks under what differs."""
    columns = two_texts(each.generated, each.generated_clean)
    shown = []
    for above, below, marks in lines(columns, width):
        shown += [Text(above, style=f"bold {WITH}"), Text(below), Text(marks, style=NOTICE)]
    return Text("\n", no_wrap=True, overflow="fold").join(shown)


def tokens_line(
    tokens: Iterable[str], colour: bool, width: int = PLAIN_WIDTH, before: Text | None = None
) -> Text:
    """The tokens one after another, each with its blanks visible; lines break between tokens.

    `before` stands before the first. A line end in a long text ends the line here too.
    """
    tokens = list(tokens)
    text = Text.assemble(before or "", overflow="fold")
    column = cell_len(text.plain)
    broken = False
    for k, token in enumerate(tokens[:TOKENS_SHOWN]):
        shown = visible(token)
        size = cell_len(shown) + (not colour and k > 0)
        if broken or column + size > width >= size:
            text.append("\n")
            column = 0
        if colour:
            text.append(shown, style=TOKEN_STYLES[k % 2])
        else:
            text.append(("|" if k else "") + shown)
        column += size
        following = tokens[k + 1 : k + 2]
        broken = shown.endswith("⏎") and following != [] and "\n" not in following[0]
    if len(tokens) > TOKENS_SHOWN:
        text.append(f" … {len(tokens) - TOKENS_SHOWN} more", style="dim")
    return text


def prediction_lines(each: PromptResult, width: int) -> Text:
    """Candidates for the next token, with bars, and with the clean run's probabilities."""
    same = each.compared and all(c.clean == c.p for c in each.predictions)
    both = each.compared and not same
    length = max(4, min(BAR, (width - 44) // (2 if both else 1)))
    heads = ["next token", "the same without the writes" if same else "with writes"]
    tokens = [Text(visible(c.token), style="bold") for c in each.predictions]
    column = min(TOKEN_WIDTH, max(cell_len(text.plain) for text in (Text(heads[0]), *tokens)))
    lines = []
    if each.compared:
        heads += ["without"] * both
        head = heads[0].ljust(column + 2) + heads[1].ljust(SHARE + length + 2) + "".join(heads[2:])
        lines.append(Text(head, style="dim"))
    for token, candidate in zip(tokens, each.predictions, strict=True):
        token.truncate(column, overflow="ellipsis", pad=True)
        token.append("  ").append(_share(candidate.p, length, WITH))
        if both and candidate.clean is not None:
            token.append("  ").append(_share(candidate.clean, length, WITHOUT))
        lines.append(token)
    return Text("\n", no_wrap=True).join(lines)


def _share(p: float, length: int, colour: str) -> Text:
    return Text(percent(p).rjust(SHARE - 1) + " ").append(bar(p, length), style=colour)


def bar(share: float, length: int) -> str:
    """A bar of `share` of `length` characters, in eighths of a character."""
    eighths = round(max(0.0, min(1.0, share)) * length * 8)
    whole, part = divmod(eighths, 8)
    return ("█" * whole + (" ▏▎▍▌▋▊▉"[part] if part else "")).ljust(length)


def _saved_table(result: TraceResult) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("saved", "shape", "dtype", "device", "from"):
        table.add_column(name, no_wrap=name != "from")
    for each in result.saved:
        table.add_row(
            Text(each.name, style="bold cyan"), each.form, each.dtype, each.device, Text(each.where)
        )
    return table


def table_of(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """A plain table for the list magics."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def one_line_rows(
    columns: Sequence[str], rows: Sequence[Sequence[str]], giving_way: Mapping[str, int]
) -> str:
    """A table with one line for each row: where it is too wide, columns in `giving_way` are cut,
    the widest first; below the width that they have there only when all others are as narrow."""
    width = terminal_width() if _in_terminal() else PLAIN_WIDTH
    widths = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    cut = [k for k, column in enumerate(columns) if column in giving_way]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        roomy = [k for k in cut if widths[k] > giving_way[columns[k]]]
        widest = max(roomy or cut, key=widths.__getitem__)
        if widths[widest] <= len(columns[widest]):
            break
        widths[widest] -= 1
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column, size in zip(columns, widths, strict=True):
        table.add_column(column, width=size, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*map(Text, row))
    return rendered(table)


def fitted(text: str) -> str:
    """Lines that are too long for the terminal broken between words."""
    if not _in_terminal():
        return text
    width = terminal_width()
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        lines += textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(lines)
