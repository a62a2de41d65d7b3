"""The guard: the small process of ours around every attempt. Run as `python -I -S -B guard.py ATTEMPT_DIR`.

Why this file is so short
-------------------------
There is one guard for each running job, and a job's engine waits for it. So the guard has a budget: at most 15 ms from
its start to the engine's exec, and 12 MB of memory (bench/guard.py measures both). A bare interpreter takes about 6 ms
of that. What costs is importing (`signal` 3 ms, `json` 3 ms, `subprocess` 8 ms) and compiling: a script that is run is
compiled anew each time, a module that is imported comes from its cache. Hence the order of things:

1. this script, a few lines, with `os` alone;
2. the engine is started;
3. only now the rest is imported, while the engine is already at work, and `job.json` is read.

`-I -S` keeps out `site`, the user's folder and PYTHON* variables; the path of our own package is put last, so that
nothing in it can stand in for a part of the standard library. `-B` because the guard may run under a file size limit,
and a compiled module that was cut short by one would break every guard after it (tried). Whatever is imported here must
not import anything that is not in the standard library.

SIGTERM between 2 and the end of 3 is held back by the signal mask that the plain runner's `launch.py` sets; under
systemd the whole control group gets it, and the attempt is then one without an outcome, which the agent understands.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Guard the attempt in the folder named by the only argument. Returns the exit code: 0 when an outcome stands."""
    directory = sys.argv[1]
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 (cost 4 ms)
    os.chdir(directory)
    from ffrtmp_agent.guarding import child, files

    files.write_pid()
    streams = child.Streams()
    engine = child.start(child.ENGINE, streams)
    from ffrtmp_agent.guarding.loop import Guard

    return Guard(engine, streams).run()


if __name__ == "__main__":
    sys.exit(main())
