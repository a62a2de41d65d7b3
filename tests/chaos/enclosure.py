"""A place of its own for a run, which the kernel clears away whatever becomes of the run.

The program starts itself again in new mount, process and network namespaces. What it makes there - network namespaces,
mounts, a tmpfs over /run for all its files and one over /dev/shm for what libfaketime keeps there - belongs to them, and
its first process ends only when the run has ended; with that process everything else in there ends. So nothing is left,
also after kill -9 of any part of it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1
NAMESPACES = ("--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child", "--mount-proc")
AS_ROOT_INSIDE = ("--user", "--map-root-user", *NAMESPACES)  # where one is not root, or root may do nothing of this
INSIDE = "FFRTMP_CHAOS_INSIDE"
HOME = Path("/run/farm")  # short: a Unix socket's path may have 107 bytes


def lacking(namespaces: tuple[str, ...]) -> str:
    """Why no such place can be had here; empty where it can."""
    for program in ("unshare", "nsenter", "mount", "umount", "mkfs.ext4", "strace", "ffmpeg"):
        if shutil.which(program) is None:
            return f"make chaos needs the program {program}"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "make chaos needs /dev/net/tun, which is not to be had here; as root it may be: sudo make chaos"
    if why := _refused(namespaces):
        return f"make chaos needs namespaces, and none are to be had here; as root they may be: sudo make chaos\n{why}"
    return ""


def _refused(namespaces: tuple[str, ...]) -> str:
    """What the kernel says against such namespaces; empty where it gives them."""
    tried = subprocess.run(["unshare", *namespaces, "true"], capture_output=True, text=True, check=False)
    return tried.stderr if tried.returncode else ""


def run_enclosed(work: Callable[[], int]) -> int:
    """Do the work in a place of its own and give its exit status; says what is lacking and gives 2 where there is none."""
    if os.environ.get(INSIDE):
        return _first_process(work)
    namespaces = AS_ROOT_INSIDE if os.geteuid() or _refused(NAMESPACES) else NAMESPACES
    if found := lacking(namespaces):
        print(found, file=sys.stderr)
        return 2
    again = [sys.executable, *sys.orig_argv[1:]]
    environment = {**os.environ, INSIDE: "1"}
    inside = subprocess.Popen(["unshare", *namespaces, *again], env=environment, preexec_fn=_end_with_parent)  # noqa: PLW1509  # no threads yet
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: inside.kill())
    while True:
        try:
            return inside.wait()
        except KeyboardInterrupt:  # the run has it too, and ends by itself
            continue


def _end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _first_process(work: Callable[[], int]) -> int:
    """Be the namespace's init: gather what is orphaned, so that ended jobs do not stay as zombies, until the work ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = os.fork()
    if worker == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _exit_with(work)
    while True:
        ended, status = os.wait()
        if ended == worker:
            return os.waitstatus_to_exitcode(status)


def _exit_with(work: Callable[[], int]) -> None:
    status = 1
    try:
        for folder, mode in (("/run", "755"), ("/dev/shm", "1777")):
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", folder], check=True)
        status = work()
    except KeyboardInterrupt:
        print("chaos: interrupted", file=sys.stderr)
        status = 130
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
