"""Who is calling: the frame of the user's own code, past all frames of this package."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType

PACKAGE = str(Path(__file__).absolute().parents[2]) + os.sep


def user_frame() -> FrameType | None:
    """The innermost frame that runs the user's own code."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return frame


def user_line() -> int | None:
    """The line of the user's code that is running now."""
    frame = user_frame()
    return frame.f_lineno if frame is not None else None
