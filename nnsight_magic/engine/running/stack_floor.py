"""A floor under a coroutine's stack: whoever walks the stack from above comes to an end there.

A greenlet's stack is a copy of a part of the thread's. Paused and resumed, it lies on other
callers than those it began on, and the return address at its base leads nowhere. Python never
returns through it. But each error of torch, on being made, asks the C library who called whom
(`backtrace`), and that walk goes on past the base, through whatever lies there: the process dies
of an index out of range, even of one that the model catches itself.

So a coroutine does not call its function directly. It calls a few machine instructions, and these
call the function. Two ways of walking a stack are in use, and both end at such a caller:

- by tables: compilers write down for each piece of code how to find its caller (DWARF's frame
  descriptions). For a page of memory that no compiler made there is none, and that is how the end
  of a stack is told (`_Unwind_Backtrace` gives `_URC_END_OF_STACK`). glibc walks so.
- by frame pointers: each function stores the frame pointer of its caller, 0 marks the outermost
  one. The instructions set it to 0. macOS walks so, and profilers do.

An error of C++ that is thrown is caught by torch where it meets Python, above the floor: it never
comes here. Nothing in torch, in the C library or in Python is changed, and a forward's errors
keep their C++ stack trace (`TORCH_SHOW_CPP_STACKTRACES=1`) as far as it is the forward's.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from collections.abc import Callable
from typing import Any

# result = floor(callable, function): call `function(callable)` and give what it gives. The two
# arguments and the result stand where C functions have them on Linux and macOS (the System V and
# the AAPCS64 calling convention); what a function must leave as it was is put back.
_INSTRUCTIONS = {
    # arguments in rdi and rsi, result in rax, frame pointer rbp
    "x86_64": """
        55        # push rbp        save the caller's frame pointer; the stack is aligned to 16 now
        31 ed     # xor ebp, ebp    frame pointer 0: nobody has called us
        ff d6     # call rsi        function(callable): rdi holds `callable` still
        5d        # pop rbp         the caller's frame pointer again
        c3        # ret             rax holds what the function gave
    """,
    # arguments in x0 and x1, result in x0, frame pointer x29, return address x30
    "aarch64": """
        fd 7b bf a9  # stp x29, x30, [sp, #-16]!  save frame pointer and return address
        1d 00 80 d2  # mov x29, #0                frame pointer 0: nobody has called us
        20 00 3f d6  # blr x1                     function(callable): x0 holds `callable` still
        fd 7b c1 a8  # ldp x29, x30, [sp], #16    both as they were
        c0 03 5f d6  # ret                        x0 holds what the function gave
    """,
}
_SAME_MACHINE = {"arm64": "aarch64", "AMD64": "x86_64"}  # as macOS and others spell them

Floor = Callable[[Callable[[], Any]], Any]


class NoFloor(Exception):
    """There can be none here; the text says why."""


def make_floor() -> Floor:
    """A function that calls another one with a floor under it; what that gives or raises.

    >>> floor = make_floor()
    >>> floor(lambda: 7)
    7

    Raises:
        NoFloor: the instructions of this machine are not known here, or the system lets no program
            make instructions of its own.
    """
    machine = _SAME_MACHINE.get(platform.machine(), platform.machine())
    if sys.platform not in ("linux", "darwin"):
        raise NoFloor(f"its calling convention is not known on {sys.platform}")
    if machine not in _INSTRUCTIONS or sys.maxsize < 2**32:
        raise NoFloor(f"its instructions are not known for {machine}")
    address = _executable(instructions(machine))
    # Called with the interpreter's lock held; an exception that is set afterwards is raised.
    prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_void_p)
    code = prototype(address)
    call = ctypes.cast(ctypes.pythonapi.PyObject_CallNoArgs, ctypes.c_void_p)

    def floor(function: Callable[[], Any]) -> Any:
        return code(function, call)

    return floor


def instructions(machine: str) -> bytes:
    """The machine code for a kind of processor, as `platform.machine()` spells it on Linux."""
    lines = _INSTRUCTIONS[machine].splitlines()
    return bytes.fromhex("".join(line.partition("#")[0] for line in lines))


def _executable(code: bytes) -> int:
    """The address of a page that holds `code`, and that stays to the end of the process.

    It is written first and made executable afterwards: a page that is both at once is refused by
    many systems. `munmap` is never called, since a coroutine may still be on it at the exit.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    size, kind = mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANON
    address = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, kind, -1, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise NoFloor("the system gave no memory for it")
    ctypes.memmove(address, code, len(code))
    if libc.mprotect(address, size, mmap.PROT_READ | mmap.PROT_EXEC) != 0:
        raise NoFloor("the system lets no program make instructions of its own")
    # A processor that has read these addresses before must read them anew. Linux sees to that when
    # it makes a page executable; macOS leaves it to the program.
    if sys.platform == "darwin":
        libc.sys_icache_invalidate(ctypes.c_void_p(address), ctypes.c_size_t(len(code)))
    return address
