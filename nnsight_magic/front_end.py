"""Where a cell's output goes: to a notebook, which shows views, or to a terminal.

`jupyter console` is a terminal with a kernel. It would open a window for every picture in an
output and print nothing beside it, so it is given text, as IPython's own terminal is. A kernel
cannot ask its front end; it knows which process has started it.
"""

from __future__ import annotations

import os
import re
from functools import cache
from typing import Any

_TERMINALS = re.compile(r"jupyter[-_]console|\bjupyter console\b")


def shows_views(shell: Any) -> bool:
    """Whether what this IPython shell displays is seen in a notebook.

    >>> shows_views(None)
    False
    """
    return hasattr(shell, "kernel") and not _started_by_a_terminal()


@cache
def _started_by_a_terminal() -> bool:
    parent = os.environ.get("JPY_PARENT_PID", "")
    if not parent.isdigit():
        return False
    try:
        import psutil  # a kernel has it

        return is_terminal(psutil.Process(int(parent)).cmdline())
    except (ImportError, OSError, RuntimeError):
        return False
    except Exception as error:  # psutil's own: the process is gone, or not ours to look at
        if type(error).__module__.startswith("psutil"):
            return False
        raise


def is_terminal(command: list[str]) -> bool:
    """Whether a process that was started so is a terminal with a kernel.

    >>> is_terminal(["/usr/bin/python3", "/usr/bin/jupyter-console", "--simple-prompt"])
    True
    >>> is_terminal(["python", "-m", "jupyter", "console"])
    True
    >>> is_terminal(["/usr/bin/python3", "/usr/bin/jupyter-lab", "console.ipynb"])
    False
    """
    words = [word.replace("\\", "/").rpartition("/")[2] for word in command[:4]]
    return _TERMINALS.search(" ".join(words)) is not None
