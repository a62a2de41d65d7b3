"""The settings of ffrtmp-master. Times are seconds, sizes bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from ffrtmp.config import Config
from ffrtmp.setting import choice, count, duration, number, path, paths, size, switch, text

_TIMES = "times"
_BOUNDS = "bounds"
_DISK = "disk guard"
LOG_LEVELS = ("debug", "info", "warning", "error")


def endpoint(value: str) -> str:
    """A ZeroMQ endpoint to listen on, tcp://HOST:PORT; raises ValueError for anything else."""
    host, colon, port = value.removeprefix("tcp://").rpartition(":")
    if not (value.startswith("tcp://") and host and colon and port.isdigit() and int(port) < 65_536):
        raise ValueError(f'"{value}" is not of the form tcp://HOST:PORT')
    return value


class MasterConfig(Config, frozen=True, kw_only=True):
    """What ffrtmp-master can be told."""

    ENV_PREFIX: ClassVar[str] = "FFRTMP_MASTER_"
    DEFAULT_FILES: ClassVar[tuple[Path, ...]] = (Path("/etc/ffrtmp/master.toml"),)

    state_dir: Annotated[Path, path("the folder of the database and the master's key", metavar="DIR")] = Path(
        "/var/lib/ffrtmp"
    )
    db: Annotated[Path | None, path("the database; by default farm.db in the state folder")] = None
    socket: Annotated[Path, path("the Unix socket of the API")] = Path("/run/ffrtmp/master.sock")
    socket_group: Annotated[
        str,
        text("the group that may use the socket; where there is no such group, only the master's own user may"),
    ] = "ffrtmp"
    hub: Annotated[
        str, text("where agents connect, tcp://HOST:PORT; port 0 takes any free one", metavar="URL", check=endpoint)
    ] = "tcp://127.0.0.1:8081"
    scenarios: Annotated[
        tuple[Path, ...],
        paths("a folder of scenarios, read after the packaged ones; the later overrides", flag="scenario-dir"),
    ] = (Path("/usr/share/ffrtmp/scenarios"), Path("/etc/ffrtmp/scenarios"))
    max_retries: Annotated[int, count("how often a failed job is tried again, unless it says so itself", most=100)] = 3
    log_level: Annotated[str, choice("how much is logged", LOG_LEVELS)] = "info"
    debug: Annotated[bool, switch("show the trace of an error, and log at level debug")] = False

    heartbeat: Annotated[float, duration("how often an agent speaks", least=0.05, most=60, group=_TIMES)] = 2.0
    heartbeat_live: Annotated[
        float, duration("how often an agent with a live job speaks", least=0.05, most=60, group=_TIMES)
    ] = 1.0
    lost_after: Annotated[
        float, duration("the silence after which a node is lost", least=0.2, most=86_400, group=_TIMES)
    ] = 15.0
    lost_after_live: Annotated[
        float, duration("the same for a node with a live job", least=0.2, most=86_400, group=_TIMES)
    ] = 5.0
    self_doubt: Annotated[
        float, duration("how long the master waits when most nodes fall silent together", group=_TIMES)
    ] = 10.0
    reconnect_grace: Annotated[
        float, duration("how long a started master waits for agents before it calls any lost", group=_TIMES)
    ] = 20.0
    grant_ttl: Annotated[
        float, duration("how long an attempt may use its right to publish", least=0.2, most=3600, group=_TIMES)
    ] = 10.0
    accept_timeout: Annotated[
        float, duration("how long an agent may take to accept an attempt", least=0.1, most=3600, group=_TIMES)
    ] = 5.0
    stable_after: Annotated[
        float, duration("the progress after which the restarts of a live engine are forgotten", group=_TIMES)
    ] = 60.0
    stall_after: Annotated[
        float, duration("a live engine without progress for so long is restarted", least=0.5, group=_TIMES)
    ] = 15.0
    stall_after_file: Annotated[
        float, duration("a file job without progress for so long is a failed attempt", least=0.5, group=_TIMES)
    ] = 1800.0
    ageing_interval: Annotated[
        float, duration("a waiting job rises one step after each of these; 0 switches it off", group=_TIMES)
    ] = 21_600.0
    reserve_after: Annotated[float, duration("a starved wide job gets a node reserved after so long", group=_TIMES)] = (
        900.0
    )
    doubt_patience: Annotated[
        float, duration("how long a job that has no try left waits for an attempt on a lost node", group=_TIMES)
    ] = 900.0
    backoff: Annotated[
        float, duration("the wait before the first retry; it doubles with each", least=0.05, most=86_400, group=_TIMES)
    ] = 5.0
    backoff_max: Annotated[
        float, duration("the longest wait before a retry", least=0.05, most=86_400, group=_TIMES)
    ] = 300.0
    retention: Annotated[float, duration("how long ended jobs and their logs are kept", group=_TIMES)] = 604_800.0

    poison_losses: Annotated[
        int, count("a job that was running on so many lost nodes is failed", least=1, most=1000, group=_BOUNDS)
    ] = 3
    log_max: Annotated[int, size("the log of one attempt; its head and tail are kept", least=4096, group=_BOUNDS)] = (
        16 << 20
    )
    waiting_max: Annotated[int, count("waiting jobs", least=1, group=_BOUNDS)] = 1_000_000
    lanes_max: Annotated[int, count("kinds of jobs that are queued apart", least=9, group=_BOUNDS)] = 256
    events_per_turn: Annotated[int, count("events that one turn takes", least=1, group=_BOUNDS)] = 1000
    sessions_max: Annotated[int, count("agents in contact", least=1, group=_BOUNDS)] = 1000
    body_max: Annotated[int, size("the body of one call", least=4096, most=1 << 30, group=_BOUNDS)] = 8 << 20
    batch_max: Annotated[int, count("jobs of one submission", least=1, group=_BOUNDS)] = 10_000
    labels_max: Annotated[int, count("labels of a node or a job", group=_BOUNDS)] = 32

    disk_free_percent: Annotated[
        float, number("no submission when less than this is free beside the database", least=0, most=99, group=_DISK)
    ] = 5.0
    disk_free: Annotated[int, size("the same as a size; both must be free", group=_DISK)] = 2 << 30

    @property
    def database(self) -> Path:
        """The database's path."""
        return self.db or self.state_dir / "farm.db"

    def problem(self) -> str | None:
        """Times that only make sense in an order."""
        if self.lost_after <= self.heartbeat:
            return "lost_after must be longer than heartbeat, or every node is lost between two heartbeats"
        if self.lost_after_live <= self.heartbeat_live:
            return "lost_after_live must be longer than heartbeat_live"
        if self.backoff_max < self.backoff:
            return "backoff_max must not be shorter than backoff"
        if self.reconnect_grace < self.grant_ttl:
            return "reconnect_grace must not be shorter than grant_ttl, or a grant of before the start is still used"
        return None
