"""Steps of Python at which a trace function must not raise."""

from __future__ import annotations

import dis
from types import FrameType


def hands_over(frame: FrameType) -> bool:
    """Whether the step begins or ends the handling of an exception.

    Python itself raises nothing there. What a trace function raises would leave the thread with an
    exception that is handled for ever, in whose context all later ones stand.
    """
    return dis.opname[frame.f_code.co_code[frame.f_lasti]] in ("PUSH_EXC_INFO", "POP_EXCEPT")
