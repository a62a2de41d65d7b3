"""What an engine of the plain runner may see: the environment it gets and the folders it may open.

It is told to `launch.py` as options. What is not named here is out of an engine's reach where the kernel has Landlock.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import ffrtmp
from ffrtmp_agent.jobfile import JobFile

SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin")
SETTINGS = (
    *(
        "alternatives",
        "ca-certificates",
        "fonts",
        "gai.conf",
        "group",
        "host.conf",
        "hosts",
        "ld.so.cache",
        "ld.so.conf",
    ),
    *("ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "passwd", "pki", "protocols", "resolv.conf"),
    *("services", "ssl", "timezone"),
)
READABLE = ("/proc", "/sys/devices/system", "/run/systemd/resolve", "/var/cache/fontconfig")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
HARDWARE = ("nvenc", "qsv", "vaapi", "v4l2m2m")
KEPT = ("LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "http_proxy", "https_proxy", "no_proxy")
PATH = "/usr/local/bin:/usr/bin:/bin"


def environment(agents: Mapping[str, str], scratch: str, mark: str) -> dict[str, str]:
    """The environment of guard and engine: a few of the agent's variables, and the mark of the attempt."""
    kept = {name: agents[name] for name in KEPT if name in agents}
    path = agents.get("PATH", PATH)
    return {**kept, "PATH": path, "HOME": "/nonexistent", "TMPDIR": scratch, "FFRTMP_ATTEMPT": mark}


def options(attempt: Path, job: JobFile) -> list[str]:
    """The options of launch.py for this attempt."""
    paths = [("--program", path) for path in (*SYSTEM, *_programs())]
    paths += [("--read", path) for path in (*READABLE, *(f"/etc/{name}" for name in SETTINGS), *_media(job))]
    paths += [("--write", path) for path in (str(attempt), job.paths.staging) if path]
    paths += [("--device", path) for path in (*DEVICES, *_hardware(job))]
    words = [word for pair in paths for word in pair]
    return words if job.spec.source.url or job.spec.output_urls else [*words, "--no-tcp"]


def _programs() -> list[str]:
    """Where this Python, our own code, and ffmpeg are, as far as they are not in the system's folders."""
    found = {sys.prefix, sys.base_prefix}
    found |= {str(Path(str(module.__file__)).resolve().parents[1]) for module in (ffrtmp, sys.modules[__name__])}
    for program in ("ffmpeg", "ffprobe"):
        if path := shutil.which(program):
            found.add(str(Path(path).resolve().parent))
    return sorted(path for path in found if not path.startswith(SYSTEM))


def _media(job: JobFile) -> list[str]:
    return [] if job.spec.source.path is None else [job.paths.input]


def _hardware(job: JobFile) -> list[str]:
    """The devices of hardware encoders, where the job uses one."""
    video = job.spec.recipe.video
    if video is None or not video.encoder.endswith(HARDWARE):
        return []
    return [*map(str, Path("/dev").glob("nvidia*")), "/dev/dri", "/sys/devices", "/sys/class/drm", "/sys/dev"]
