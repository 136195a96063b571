"""How much memory a process takes: Linux only, which lets one set its own high-water mark back."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident(field: str) -> float:
    """`VmRSS` (now) or `VmHWM` (the highest since it was set back), in MB."""
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found.group(1)) / 1e3


def growth(run: Callable[[], object]) -> float:
    """MB by which the process grows while `run` runs, at most."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark, back to now
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before
