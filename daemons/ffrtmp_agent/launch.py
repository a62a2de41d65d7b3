"""From a process that the plain runner has just started to the guard, confined: `python -I -S launch.py OPTIONS -- ARGV`.

Everything that has to be given up before the guard exists, because neither it nor its engine could be trusted to give
it up: this program does so, and then becomes ARGV. Under systemd the unit does the same, and this is not used.

    --memory BYTES     RLIMIT_DATA: what one process may allocate; its threads get smaller stacks, which count too
    --cpus 0,2         the cores it may use; ffmpeg starts as many threads as it sees cores
    --program PATH     may be read and executed     } Landlock; any of these four switches it on,
    --read PATH        may be read                  } and what is not named is out of reach
    --write PATH       may be written; must exist   }
    --device PATH      may be read, written, told   }
    --no-tcp           no TCP connections (with Landlock)

What goes wrong is one line on standard error and exit code 70; the guard does not run then.
"""

from __future__ import annotations

import os
import resource
import signal
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120

from ffrtmp_agent import landlock

PR_SET_CHILD_SUBREAPER = 36
PR_CAPBSET_DROP = 24
CAPABILITIES = 64
KEPT_CAPABILITIES = (1, 2)  # DAC_OVERRIDE, DAC_READ_SEARCH: a root's media may belong to anybody; Landlock says which
THREAD_STACK_BYTES = 2 << 20
CANNOT = 70  # sysexits' EX_SOFTWARE
RIGHTS = {
    "--program": landlock.PROGRAM,
    "--read": landlock.READ,
    "--write": landlock.WRITE,
    "--device": landlock.DEVICE,
}


def main(arguments: list[str]) -> None:
    """Give up what the options say and become the command after `--`. Does not return."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))  # until the guard can hear it
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    landlock.prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the engine fall to the guard, who clears them
    _drop_capabilities()
    landlock.no_new_privileges()
    rules: list[tuple[str, int]] = []
    tcp = True
    words = iter(arguments)
    for option in words:
        if option == "--":
            break
        if option == "--no-tcp":
            tcp = False
        elif option == "--memory":
            _limit_memory(int(next(words)))
        elif option == "--cpus":
            os.sched_setaffinity(0, {int(core) for core in next(words).split(",")})
        else:
            rules.append((next(words), RIGHTS[option]))
    if rules:
        _check_writable(rules)
        landlock.restrict(rules, tcp=tcp)
    command = list(words)
    os.execv(command[0], command)


def _drop_capabilities() -> None:
    """Where the agent is root its jobs are too, but with hardly any of a root's powers: some of them pass Landlock by
    (CAP_PERFMON reads the environment of any process, seen on Linux 6.18). Others have no powers to lose."""
    for number in range(CAPABILITIES):
        if number not in KEPT_CAPABILITIES:
            try:
                landlock.prctl(PR_CAPBSET_DROP, number)
            except OSError:  # the last one that the kernel knows is behind us, or we are not root
                return


def _limit_memory(size_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (size_bytes, size_bytes))
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    resource.setrlimit(resource.RLIMIT_STACK, (THREAD_STACK_BYTES, hard))


def _check_writable(rules: list[tuple[str, int]]) -> None:
    """A folder that an engine is to write to must be there: Landlock cannot allow what does not exist yet."""
    for path, rights in rules:
        if rights == landlock.WRITE and not os.path.isdir(path):  # noqa: PTH112
            raise FileNotFoundError(f"no folder {path}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError, KeyError, StopIteration) as error:
        sys.stderr.write(f"launch: {error!r}\n")
        sys.exit(CANNOT)
