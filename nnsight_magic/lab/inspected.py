"""Shift-Tab in a cell: what `?` shows of the module at the cursor.

IPython is given the name at the cursor without its indices, `layers.mlp` for `layers[3].mlp`, and
looks for a variable. So the kernel's own answer is asked last: it stays what it is wherever no
module stands.
"""

from __future__ import annotations

from typing import Any


def answer_inspection(kernel: Any, magics: Any) -> None:
    """Answers the kernel's inspection requests for modules; `leave_inspection` takes it back."""
    leave_inspection(kernel)
    before = kernel.do_inspect

    def do_inspect(code: str, cursor_pos: int, *rest: Any, **how: Any) -> Any:
        try:
            told = at_cursor(code, cursor_pos, magics)
        except Exception:  # whatever it is, the kernel's own answer is there
            told = ""
        if not told:
            return before(code, min(cursor_pos, len(code)), *rest, **how)
        return {"status": "ok", "found": True, "metadata": {}, "data": {"text/plain": told}}

    do_inspect.nnsight_magic = True  # pyright: ignore[reportFunctionMemberAccess]
    kernel.do_inspect = do_inspect


def leave_inspection(kernel: Any) -> None:
    """The kernel answers alone again."""
    if hasattr(kernel.__dict__.get("do_inspect"), "nnsight_magic"):
        del kernel.do_inspect


def at_cursor(code: str, position: int, magics: Any) -> str:
    """What `?` shows of the name at a position of a cell; "" for none.

    Args:
        code: of the cell.
        position: in characters; one beyond the end, which JupyterLab sends, is the end.
        magics: the registered set.
    """
    from nnsight_magic.lab.written import explained  # with the engine: not at `%load_ext`

    before = code[: max(position, 0)].split("\n")
    found = explained(code, len(before), len(before[-1]), magics)
    return found[1] if found is not None else ""
