"""A result as text: with rich's colours and bars in a terminal, plain everywhere else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from nnsight_magic import terminal
from nnsight_magic.results.record import PromptResult, RunRecord
from nnsight_magic.terminal import PLAIN_WIDTH
from nnsight_magic.views.data.two_texts import two_texts
from nnsight_magic.views.data.words import bar, percent, visible
from nnsight_magic.views.still.two_texts import lines

TOKENS_SHOWN = 200
PROMPTS_SHOWN = 8
# Alternating backgrounds tell tokens apart where there are colours; `|` does where there are none.
TOKEN_STYLES = ("#ffffff on #2b3a55", "#ffffff on #4a3560")
# Readable on light and on dark ground; the bars are the views' colours.
WITH, WITHOUT, NOTICE = "#3a86d6", "#8a8a8a", "#c06000"
BAR = 16
SHARE = 7  # characters of a percentage with its blank
TOKEN_WIDTH = 24


def plain_text(record: RunRecord) -> str:
    """Without escape codes, for files, notebooks' text output and logs."""
    return terminal.printed(layout(record, colour=False), PLAIN_WIDTH, colour=False)


def terminal_text(record: RunRecord) -> str:
    """For standard output: coloured and as wide as the terminal, if it is one."""
    if not terminal.in_terminal():
        return plain_text(record)
    width = terminal.width()
    return terminal.printed(layout(record, colour=True, width=width), width, colour=True)


def layout(record: RunRecord, colour: bool, width: int = PLAIN_WIDTH) -> Group:
    """The parts of a record, from top to bottom."""
    parts: list[Any] = [_headline(record)]
    for k, each in enumerate(record.prompts[:PROMPTS_SHOWN]):
        name = each.name or (f"prompt {k + 1}" if len(record.prompts) > 1 else "")
        parts.extend(_prompt(each, name, colour, width))
    if len(record.prompts) > PROMPTS_SHOWN:
        parts.append(Text(f"… and {len(record.prompts) - PROMPTS_SHOWN} more prompts", style="dim"))
    if record.saved:
        parts.append(_saved_table(record))
    parts.extend(Text(f"note: {notice}", style=NOTICE) for notice in record.notices)
    return Group(*parts)


def _headline(record: RunRecord) -> Text:
    text = Text()
    text.append(f"run {record.number}", style="bold")
    text.append(f" · {record.model.name} · {record.extent} · {record.ran.time}", style="dim")
    if record.wrote:
        wrote = ", ".join(record.wrote[:4]) + (", …" if len(record.wrote) > 4 else "")
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

    `before` is written before the first. A line end in a long text ends the line here too.
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


def _saved_table(record: RunRecord) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("saved", "shape", "dtype", "device", "from"):
        table.add_column(name, no_wrap=name != "from")
    for each in record.saved:
        table.add_row(
            Text(each.name, style="bold cyan"), each.form, each.dtype, each.device, Text(each.where)
        )
    return table
