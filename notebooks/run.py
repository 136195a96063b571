"""Execute a notebook without a browser and print what its cells show.

    python notebooks/run.py notebooks/quickstart.ipynb [--store]

The outputs appear as each cell ends, in their plain-text form. The file is left as it is, unless
`--store` is given: then it keeps what its cells showed just now, of the views their still form
alone, so that it is small and reads the same on every page that shows notebooks. Ends with status 1
where a cell fails, and then stores nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from rich.console import Console
from rich.markdown import Markdown
from rich.syntax import Syntax
from rich.text import Text

SECONDS_PER_CELL = 600

# What a terminal would obey: colours are kept, cursor movements are not.
CONTROL = re.compile(r"\x1b\[[0-9;]*[A-LN-Za-ln-z]")


LIVE = "application/vnd.jupyter.widget-view+json"


def run(path: Path, console: Console, store: bool = False) -> bool:
    """Execute the notebook; whether all its cells ran."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--IPKernelApp.log_level=40"],
        on_cell_start=lambda cell, cell_index: show_source(cell, console),
        on_cell_executed=lambda cell, cell_index, execute_reply: show_outputs(cell, console),
    )
    try:
        client.execute()
    except CellExecutionError:
        return False
    if store:
        keep_stills(notebook)
        nbformat.write(notebook, path)
    return True


def keep_stills(notebook: nbformat.NotebookNode) -> None:
    """Take out what needs a kernel or a script, and what differs by machine and moment."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if LIVE not in each.get("data", {})]


def show_source(cell: nbformat.NotebookNode, console: Console) -> None:
    """Prose as prose, code with a bar at its left."""
    if cell.cell_type == "markdown":
        console.print(Markdown(cell.source))
        console.print()
    elif cell.cell_type == "code":
        code = Syntax("", "python", theme="ansi_dark").highlight(cell.source.rstrip())
        code.rstrip()
        for line in code.split("\n"):
            console.print(Text("│ ", style="dim") + line, soft_wrap=True)


def show_outputs(cell: nbformat.NotebookNode, console: Console) -> None:
    """Everything that a cell printed, displayed or raised, as text."""
    for output in cell.outputs:
        text = as_text(output)
        if text:
            console.print(Text.from_ansi(text), soft_wrap=True)
    console.print()


def as_text(output: nbformat.NotebookNode) -> str:
    """One output in its plain-text form; the empty string where it has none."""
    if output.output_type == "stream":
        text = "\n".join(line.rpartition("\r")[2] for line in output.text.splitlines())
    elif output.output_type == "error":
        text = "\n".join(output.traceback)
    else:
        # A live view stands beside its still twin, which says the same.
        text = "" if LIVE in output.data else output.data.get("text/plain", "")
    return CONTROL.sub("", text).rstrip()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("notebook", type=Path)
    arguments.add_argument("--store", action="store_true", help="keep the outputs in the file")
    given = arguments.parse_args()
    if not given.notebook.is_file():
        sys.exit(f"There is no notebook {given.notebook}.")
    return 0 if run(given.notebook, Console(highlight=False), given.store) else 1


if __name__ == "__main__":
    sys.exit(main())
