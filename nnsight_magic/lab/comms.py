"""The two lines between a notebook's page and its kernel.

By the first, which the page opens, the page asks, `{"id": 7, "do": "state", …}`, and is answered,
`{"re": 7, …}` or `{"re": 7, "error": "…"}`. By the second, which the kernel opens in return, the
kernel says that something has changed, and nothing else: ipykernel sends a comm's next message to
the thread that wrote on it last, so a line that a cell writes on would be answered when that cell
has ended. What is asked is answered on a thread of its own, also while a cell runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import nnsight_magic
from nnsight_magic.errors import NnsightError

if TYPE_CHECKING:
    from nnsight_magic.lab.session import Session

TARGET = "nnsight_magic"
NEWS = f"{TARGET}:news"
PROTOCOL = 1  # of the messages; a page that speaks another one says so and asks for nothing


class Lines:
    """The lines of all pages that look at one kernel."""

    def __init__(self, magics: Any, open_comm: Callable[..., Any]) -> None:
        self._magics = magics
        self._open_comm = open_comm
        self._pages: dict[str, Any] = {}  # the first line of each page, by its id
        self._seen: set[str] = set()  # those on which the panel is in sight
        self._lock = threading.Lock()
        self._news: Any = None
        self._changed = 0

    def opened(self, comm: Any, message: Mapping[str, Any]) -> None:
        """A page has come."""
        self._pages[comm.comm_id] = comm
        comm.on_msg(lambda message: self._asked(comm, message["content"].get("data")))
        comm.on_close(lambda _: self._gone(comm.comm_id))

    def _gone(self, page: str) -> None:
        self._pages.pop(page, None)
        self._seen.discard(page)

    @cached_property
    def _session(self) -> Session:
        # Here, so that `%load_ext` takes no longer where no panel is.
        from nnsight_magic.lab.session import Session

        return Session(self._magics)

    def tell(self, *_: Any) -> None:
        """After each cell: the pages on which the panel is seen are told that there is news."""
        if self._seen:
            self._changed += 1
            self._news.send({"changed": self._changed})

    def close(self) -> None:
        """The extension is unloaded: the pages hear that nobody answers any more."""
        lines = [*self._pages.values(), *([self._news] if self._news is not None else [])]
        self._pages.clear()
        self._seen.clear()
        for each in lines:
            each.close()

    def _asked(self, comm: Any, asked: Any) -> None:
        if not isinstance(asked, dict) or type(asked.get("id")) is not int:
            return  # nobody waits for an answer
        comm.send({**self._answer(comm, asked), "re": asked["id"]})

    def _answer(self, comm: Any, asked: dict[str, Any]) -> dict[str, Any]:
        what = str(asked.get("do"))
        if what == "hello":
            return {"protocol": PROTOCOL, "version": nnsight_magic.__version__}
        if what == "watch":
            return self._watched(comm, asked.get("on") is True)
        try:
            with self._lock:
                answer = self._session.answers.get(what)
                if answer is None:
                    return {"error": f"this kernel's nnsight_magic cannot {what[:40]!r}"}
                return answer(asked)
        except NnsightError as error:
            return {"error": error.message}
        except Exception as error:  # the panel must not wait forever, whatever went wrong
            return {"error": f"{what!r} failed: {type(error).__name__}: {error}"}

    def _watched(self, comm: Any, on: bool) -> dict[str, Any]:
        """The panel came into sight on a page, or went out of it."""
        if not on:
            self._seen.discard(comm.comm_id)
        else:  # a line of its own for whoever came last; all pages of a kernel hear it
            self._seen.add(comm.comm_id)
            self._news = self._open_comm(target_name=NEWS, data={"changed": self._changed})
        return {}
