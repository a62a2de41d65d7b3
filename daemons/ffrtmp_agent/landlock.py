"""Landlock: a process gives up, for itself and all its children, whatever files it does not need.

Three system calls that the C library has no functions for, so they go through ctypes by number (the same on every
architecture). A ruleset names the rights that are *handled*, hence refused by default, and rules give some back below
a path. Later kernels know more rights; a ruleset may name only those that the running one knows, so its ABI is asked
first. Looking a path up is never refused, only opening, reading, writing, making and removing.

Standard library only: `launch.py` runs without anything else.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_DIR, _MAKE_REG = 1 << 7, 1 << 8
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FIRST_RIGHTS = (1 << 13) - 1
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_TCP_BIND_AND_CONNECT = 3
_ABSTRACT_SOCKETS_AND_SIGNALS = 3

READ = _READ_FILE | _READ_DIR
PROGRAM = READ | _EXECUTE
# No links, sockets, pipes or devices: nobody who reads a job's folder later can be led elsewhere by what is in it.
WRITE = READ | _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER
DEVICE = READ | _WRITE_FILE | _IOCTL_DEV


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def supported() -> int:
    """The kernel's Landlock ABI, 1 and up; 0 where there is none, or where it is switched off."""
    try:
        return _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    except OSError:
        return 0


def restrict(rules: Iterable[tuple[str, int]], *, tcp: bool) -> None:
    """Keep this process and its children to `rules`, (path, rights) pairs; what is not there is passed over.

    Without `tcp` no TCP connection can be made or waited for (kernel ABI 4). From ABI 6 on processes outside can no
    longer be signalled from inside, nor reached through abstract sockets. Sets no_new_privs. Raises OSError.
    """
    abi = supported()
    ruleset = _create(abi, tcp=tcp)
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & _handled(abi))
        no_new_privileges()
        _syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def no_new_privileges() -> None:
    """Nothing that is executed from now on gains rights (setuid, file capabilities). Raises OSError."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument; raises OSError."""
    zero = ctypes.c_ulong(0)
    if _libc().prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _handled(abi: int) -> int:
    rights = _FIRST_RIGHTS
    rights |= _REFER if abi >= 2 else 0
    rights |= _TRUNCATE if abi >= 3 else 0
    return rights | (_IOCTL_DEV if abi >= 5 else 0)


def _create(abi: int, *, tcp: bool) -> int:
    attr = _RulesetAttr(handled_access_fs=_handled(abi))
    size = 8
    if abi >= 4:
        attr.handled_access_net = 0 if tcp else _TCP_BIND_AND_CONNECT
        size = 16
    if abi >= 6:
        attr.scoped = _ABSTRACT_SOCKETS_AND_SIGNALS
        size = 24
    return _syscall(_CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(size), ctypes.c_uint32(0))


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        attr = _PathBeneathAttr(allowed_access=rights, parent_fd=descriptor)
        arguments = (ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.byref(attr), ctypes.c_uint32(0))
        _syscall(_ADD_RULE, *arguments)
    finally:
        os.close(descriptor)


def _syscall(number: int, *arguments: object) -> int:
    result: int = _libc().syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
