"""A progress bar that is gone when it is done: text in a terminal, an output line in a notebook.

tqdm's own bar for notebooks is a widget. A notebook that is saved with one shows "Error displaying
widget" where the bar stood; here what is left is an empty output.
"""

from __future__ import annotations

import io
import sys
import threading
from typing import Any

from tqdm.std import tqdm

from nnsight_magic.front_end import shows_views
from nnsight_magic.printable import escape


def progress_bar(**options: Any) -> tqdm:
    """tqdm's bar with these options, for wherever this runs."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    kind = NotebookBar if shows_views(shell) else Bar
    return kind(**{"leave": False, "miniters": 1, **options})


class Bar(tqdm):
    """tqdm's bar, with a lock of this process.

    tqdm's own is shared with forked processes: where one of them is killed while it holds the lock,
    every bar waits for ever. Nor is there its thread, which a fork could take the lock from; it
    only mends the rate of updates, and here each update counts.
    """

    _lock = threading.RLock()
    monitor_interval = 0


class NotebookBar(Bar):
    """Shows itself as one output of the cell, which is updated in place and emptied at the end."""

    def __init__(self, **options: Any) -> None:
        self._output: Any = None
        super().__init__(**{"file": io.StringIO(), "ncols": 80, **options})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """tqdm calls this with its bar to draw, and with `msg=""` when it is closed."""
        text = str(self) if msg is None else msg
        html = ""
        if text:
            amounts = f"value='{self.n}' max='{self.total}'" if self.total else ""
            html = f"<progress {amounts}></progress> <code>{escape(text)}</code>"
        data = {"text/plain": text, "text/html": html}
        if self._output is not None:
            self._output.update(data, raw=True)
        elif text:
            from IPython.display import DisplayHandle  # there is a kernel, so it is imported

            self._output = DisplayHandle()
            self._output.display(data, raw=True)
