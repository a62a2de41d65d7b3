"""The settings of ffrtmp-agent. Sizes are bytes, CPU is cores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Struct, field

from ffrtmp.config import Config
from ffrtmp.setting import choice, count, nearest, number, path, size, switch, table, text, words

_OFFER = "what is offered to jobs"
_DISK = "disk guard"
LOG_LEVELS = ("debug", "info", "warning", "error")
_ROOT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class MediaRoot(Struct, frozen=True):
    """A folder that jobs may use, and what they may do there."""

    path: Path
    read: bool = True
    write: bool = True


def media_root(name: str, given: object) -> MediaRoot:
    """The root of "PATH", "PATH:ro", "PATH:wo" or a TOML table; raises ValueError for anything else."""
    if not _ROOT_NAME.fullmatch(name):
        raise ValueError(f'"{name}" cannot name a media root: small letters, digits, - and _, at most 32')
    if isinstance(given, Mapping):
        return _root_of_table(name, given)
    if not isinstance(given, str):
        raise ValueError(f'"{name}" wants a path, or a table with path, read and write')
    folder, mode = given, ""
    if given.endswith((":ro", ":wo", ":rw")):
        folder, mode = given[:-3], given[-2:]
    return _made(name, folder, mode != "wo", mode != "ro")


def _root_of_table(name: str, given: Mapping[str, Any]) -> MediaRoot:
    for key in given:
        if key not in ("path", "read", "write"):
            raise ValueError(f'"{name}" has the unknown key "{key}"{nearest(key, ("path", "read", "write"))}')
    read, write = given.get("read", True), given.get("write", True)
    if not (isinstance(read, bool) and isinstance(write, bool)):
        raise ValueError(f'"{name}": read and write are true or false')
    return _made(name, given.get("path"), read, write)


def _made(name: str, folder: object, read: bool, write: bool) -> MediaRoot:
    if not isinstance(folder, str) or not Path(folder).expanduser().is_absolute():
        raise ValueError(f'"{name}" wants an absolute path')
    return MediaRoot(Path(folder).expanduser(), read, write)


def _show_root(root: MediaRoot) -> str:
    mode = {(True, True): "", (True, False): ":ro", (False, True): ":wo", (False, False): ":"}[root.read, root.write]
    return f"{root.path}{mode}"


class AgentConfig(Config, frozen=True, kw_only=True):
    """What ffrtmp-agent can be told."""

    ENV_PREFIX: ClassVar[str] = "FFRTMP_AGENT_"
    DEFAULT_FILES: ClassVar[tuple[Path, ...]] = (Path("/etc/ffrtmp/agent.toml"),)

    state_dir: Annotated[Path, path("the folder of the agent's key and its attempts", metavar="DIR")] = Path(
        "/var/lib/ffrtmp-agent"
    )
    master: Annotated[str, text("the master to enrol at, unix:/PATH", metavar="URL")] = "unix:/run/ffrtmp/master.sock"
    register: Annotated[bool, switch("enrol at the master first, where that has not been done")] = False
    name: Annotated[str, text("the node's name; by default the host's")] = ""
    address: Annotated[
        str, text("the host part of the node's address; by default that of its route to the master", metavar="HOST")
    ] = ""
    runner: Annotated[
        Literal["auto", "plain", "systemd"],
        choice("what starts the jobs; auto: systemd where it runs", ("auto", "plain", "systemd")),
    ] = "auto"
    log_level: Annotated[str, choice("how much is logged", LOG_LEVELS)] = "info"
    debug: Annotated[bool, switch("show the trace of an error, and log at level debug")] = False

    media_roots: Annotated[
        dict[str, MediaRoot],
        table(
            "a folder that jobs may use; :ro read only, :wo write only",
            media_root,
            _show_root,
            metavar="NAME=PATH[:ro]",
            flag="media-root",
            group=_OFFER,
        ),
    ] = field(default_factory=dict)
    protocols: Annotated[
        tuple[str, ...], words("a URL protocol that inputs may use", flag="protocol", group=_OFFER)
    ] = ("file", "http", "https", "tcp", "tls")
    max_concurrent_jobs: Annotated[int, count("jobs at a time; 0: by measure", most=10_000, group=_OFFER)] = 0
    cpu: Annotated[float, number("cores, as 4 or 1.5; 0: all", least=0, most=10_000, group=_OFFER)] = 0.0
    memory: Annotated[int, size("memory; 0: what there is, less a reserve", group=_OFFER)] = 0
    labels: Annotated[tuple[str, ...], words("a word that jobs can ask for", flag="label", group=_OFFER)] = ()
    allow_run: Annotated[bool, switch("take plain ffmpeg arguments (jobs run)", group=_OFFER)] = False
    allow_unconfined: Annotated[
        bool, switch("take them also where the kernel cannot confine the engine", group=_OFFER)
    ] = False

    disk_free_percent: Annotated[
        float, number("no new job when less than this is free on a media root", least=0, most=99, group=_DISK)
    ] = 5.0
    disk_free: Annotated[int, size("the same as a size; both must be free", group=_DISK)] = 2 << 30

    def problem(self) -> str | None:
        """Two names for one folder would let two jobs meet at one output."""
        seen: dict[Path, str] = {}
        for name, root in self.media_roots.items():
            if root.path in seen:
                return f"the media roots {seen[root.path]} and {name} are the same folder, {root.path}"
            seen[root.path] = name
        return None
