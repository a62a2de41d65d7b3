"""The system calls at which programs are killed, by kind, and a seccomp filter that stops a program at each of them.

strace could stop them too, but it counts for each thread and each call apart: its "third fsync" is whichever thread
makes its own third one first, and a thread that makes fewer is never met at its last. The kernel's user notification
(seccomp_unotify(2)) gives all calls of a program, its threads and its children in one order to one listener.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

KINDS: dict[str, tuple[str, ...]] = {
    "fsync": ("fsync", "fdatasync"),
    "rename": ("rename", "renameat", "renameat2", "link", "linkat"),
    "send": ("sendto", "sendmsg", "sendmmsg"),
    "exec": ("execve", "execveat", "fork", "vfork", "clone", "clone3"),
    "commit": ("pwrite64",),
    "remove": ("unlink", "unlinkat", "rmdir"),
}
_NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "pwrite64": 18,
        "sendto": 44,
        "sendmsg": 46,
        "clone": 56,
        "fork": 57,
        "vfork": 58,
        "execve": 59,
        "fsync": 74,
        "fdatasync": 75,
        "rename": 82,
        "rmdir": 84,
        "link": 86,
        "unlink": 87,
        "unlinkat": 263,
        "renameat": 264,
        "linkat": 265,
        "sendmmsg": 307,
        "renameat2": 316,
        "execveat": 322,
        "clone3": 435,
    },
    "aarch64": {
        "unlinkat": 35,
        "linkat": 37,
        "renameat": 38,
        "pwrite64": 68,
        "fsync": 82,
        "fdatasync": 83,
        "sendto": 206,
        "sendmsg": 211,
        "clone": 220,
        "execve": 221,
        "sendmmsg": 269,
        "renameat2": 276,
        "execveat": 281,
        "clone3": 435,
    },
}
NAMES = {number: name for name, number in _NUMBERS[platform.machine()].items()}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}

_SECCOMP = {"x86_64": 317, "aarch64": 277}[platform.machine()]
_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_NEW_LISTENER, _WAIT_KILLABLE_RECV = 1 << 3, 1 << 5
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_TELL, _ALLOW = 0x7FC00000, 0x7FFF0000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def install() -> int:
    """Stop this thread and all that comes of it at each of the calls; gives the listener's descriptor.

    Raises OSError where the kernel cannot do it (before Linux 5.5, or forbidden by an outer filter).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    code = _filter()
    text = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(text))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE_RECV, _NEW_LISTENER):  # the first since Linux 5.19
        descriptor = int(libc.syscall(_SECCOMP, _SET_MODE_FILTER, flags, ctypes.byref(program)))
        if descriptor >= 0:
            return descriptor
    number = ctypes.get_errno()
    raise OSError(number, f"seccomp: {os.strerror(number)}")


def _filter() -> bytes:
    """Load the call's number; one comparison a call, each of which jumps to the last instruction."""
    numbers = sorted(NAMES)
    lines = [(_LOAD, 0, 0, 0)]
    lines += [(_JUMP_IF_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _TELL)]
    return b"".join(struct.pack("HBBI", *line) for line in lines)
