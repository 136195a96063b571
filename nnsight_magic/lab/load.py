"""What `%load_ext nnsight_magic` does for JupyterLab's panel, where there is a kernel."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

_lines: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def load(shell: Any) -> None:
    """Lets the panel ask about this shell's session. A shell without a kernel is left alone."""
    unload(shell)
    manager = getattr(getattr(shell, "kernel", None), "comm_manager", None)
    magics = shell.magics_manager.registry.get("NNsightMagic")
    if manager is None or magics is None:
        return
    try:
        from ipykernel.comm import Comm
    except ImportError:  # a kernel of another kind, whose comms are its own
        return
    from nnsight_magic.lab.comms import TARGET, Lines
    from nnsight_magic.lab.inspected import answer_inspection

    lines = _lines[shell] = Lines(magics, Comm)
    answer_inspection(shell.kernel, magics)
    manager.register_target(TARGET, lines.opened)
    shell.events.register("post_run_cell", lines.tell)


def unload(shell: Any) -> None:
    """Takes that back."""
    lines = _lines.pop(shell, None)
    if lines is None:
        return
    from nnsight_magic.lab.comms import TARGET
    from nnsight_magic.lab.inspected import leave_inspection

    lines.close()
    leave_inspection(shell.kernel)
    shell.kernel.comm_manager.unregister_target(TARGET, lines.opened)
    shell.events.unregister("post_run_cell", lines.tell)
