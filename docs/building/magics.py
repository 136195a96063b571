"""The directive `{magics}`: every magic with its options, from the parser that reads its line.

A page that lists options by hand would be wrong with the next one that is added.
"""

from __future__ import annotations

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from nnsight_magic.magics.options import CELLS, LINES_TOO, OPTIONS, SUMMARY, Option


def spelled(magic: str) -> str:
    """How a magic is typed, `%%trace` or `%lens`; both ways where there are two."""
    whole = [f"%%{magic}"] if magic in CELLS else []
    line = [f"%{magic}"] if magic not in CELLS or magic in LINES_TOO else []
    return ", ".join([*whole, *line])


def option_line(option: Option) -> str:
    """One row: how the option is spelled, what it does, and the setting of its default."""
    metavar = f" {option.metavar}" if option.metavar else ""
    names = ", ".join(f"`{each}{metavar}`" for each in option.spellings)
    default = f"`{option.setting}`" if option.setting else ""
    return f"| {names} | {option.help.replace('|', chr(92) + '|')} | {default} |"


def page_of(magic: str) -> list[str]:
    """The section of one magic, in Markdown."""
    summary, _, example = SUMMARY[magic].partition(": %")
    lines = [f"({magic}-magic)=", f"## {spelled(magic)}", "", summary.rstrip(".") + ".", ""]
    if example:
        lines += ["```text", f"%{example}", "```", ""]
    if OPTIONS[magic]:
        lines += ["| option | what it does | default by |", "|---|---|---|"]
        lines += [option_line(each) for each in OPTIONS[magic]] + [""]
    return lines


class Magics(SphinxDirective):
    """All magics, or those that the directive names."""

    optional_arguments = 99

    def run(self) -> list[nodes.Node]:
        chosen = self.arguments or list(OPTIONS)
        lines = [line for magic in chosen for line in page_of(magic)]
        return self.parse_text_to_nodes(
            "\n".join(StringList(lines, "magics")), allow_section_headings=True
        )


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("magics", Magics)
    return {"parallel_read_safe": True}
