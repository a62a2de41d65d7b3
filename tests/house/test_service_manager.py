"""What a daemon says to systemd and to the journal, heard at real sockets by real receivers."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffrtmp import journal
from ffrtmp.service import Notifier

HEARD_S = 5.0


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    """A datagram socket in the place of the manager's or the journal's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "ear"))
        receiver.settimeout(HEARD_S)
        yield receiver


def heard(ear: socket.socket) -> dict[str, str]:
    """One datagram of NAME=VALUE lines."""
    return dict(line.split("=", 1) for line in ear.recv(65536).decode().splitlines())


def silent(ear: socket.socket) -> bool:
    ear.setblocking(False)
    try:
        ear.recv(65536)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        ear.settimeout(HEARD_S)


@pytest.fixture
def notify_socket(ear: socket.socket, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    monkeypatch.setenv("NOTIFY_SOCKET", ear.getsockname())
    return ear


def test_readiness_status_reload_and_stop_reach_the_manager(notify_socket: socket.socket):
    notifier = Notifier({})
    notifier.ready("3 live, 12 queued\n4 nodes – größer")
    assert heard(notify_socket) == {"READY": "1", "STATUS": "3 live, 12 queued 4 nodes – größer"}
    notifier.status("3 live, 12 queued 4 nodes – größer")
    assert silent(notify_socket)
    notifier.status("idle")
    assert heard(notify_socket) == {"STATUS": "idle"}
    notifier.reloading()
    told = heard(notify_socket)
    assert told["RELOADING"] == "1"
    assert int(told["MONOTONIC_USEC"]) > 0
    notifier.stopping("ending")
    assert heard(notify_socket) == {"STOPPING": "1", "STATUS": "ending"}
    notifier.close()


def test_the_watchdog_is_fed_only_when_asked_for_and_only_by_the_loop(notify_socket: socket.socket):
    now = [100.0]
    quiet = Notifier({}, clock_s=lambda: now[0])
    quiet.beat()
    assert silent(notify_socket)
    other = Notifier({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, pid=77, clock_s=lambda: now[0])
    other.beat()
    assert silent(notify_socket)
    fed = Notifier({"WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "77"}, pid=77, clock_s=lambda: now[0])
    assert silent(notify_socket)
    fed.beat()
    assert heard(notify_socket) == {"WATCHDOG": "1"}
    now[0] += 2.9
    fed.beat()
    assert silent(notify_socket)
    now[0] += 0.2
    fed.beat()
    assert heard(notify_socket) == {"WATCHDOG": "1"}
    for notifier in (quiet, other, fed):
        notifier.close()


def test_without_a_manager_all_of_it_is_quiet(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier({"WATCHDOG_USEC": "1"})
    notifier.ready("x")
    notifier.beat()
    notifier.close()


TAKER = """
import json, os, subprocess, sys
from ffrtmp.service import take_sockets
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[1]))
taken = take_sockets(os.environ)
names = {name: sock.getsockname() for name, sock in taken.items()}
child = subprocess.run(["/bin/ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False).stdout
print(json.dumps([names, "LISTEN_FDS" in os.environ, "socket:" in child]))
"""


def take(tmp_path: Path, other_pid: int) -> list[object]:
    """Runs a process with two listening sockets at 3 and 4, as systemd does."""
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        for number, listener in enumerate((one, two)):
            listener.bind(str(tmp_path / f"s{number}"))
            listener.listen()
        first, second = (fcntl.fcntl(listener, fcntl.F_DUPFD, 60) for listener in (one, two))
        shell = f'exec "$0" "$@" 3<&{first} 4<&{second} {first}<&- {second}<&-'
        try:
            done = subprocess.run(
                ["/bin/bash", "-c", shell, sys.executable, "-c", TAKER, str(other_pid)],
                pass_fds=(first, second),
                env={**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "api:api"},
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            )
        finally:
            os.close(first)
            os.close(second)
    return json.loads(done.stdout)


def test_the_sockets_of_socket_activation_are_taken_once_and_not_handed_to_children(tmp_path: Path):
    names, still_told, inherited = take(tmp_path, 0)
    assert names == {"api": str(tmp_path / "s0"), "api.1": str(tmp_path / "s1")}
    assert not still_told
    assert not inherited


def test_sockets_that_are_meant_for_another_process_are_left_alone(tmp_path: Path):
    assert take(tmp_path, 1)[0] == {}


def entry(datagram: bytes) -> dict[str, str]:
    """An entry of the journal's native protocol."""
    found: dict[str, str] = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[9 + length :]
        found[name.decode()] = value.decode()
        datagram = rest
    return found


def record(level: int, text: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("ffrtmp_master.turn", level, __file__, 7, text, (), None, "work")
    made.__dict__.update(extra)
    return made


def test_the_journal_gets_the_fields_of_a_line(ear: socket.socket):
    handler = journal.JournalHandler("ffrtmp-master", Path(ear.getsockname()))
    assert ear.recv(10) == b""
    fields = {"FFRTMP_JOB": 42, "FFRTMP_NODE": "a", **journal.Event.NODE_LOST.field}
    handler.emit(record(logging.WARNING, "lost a\nfor 15 s", **fields))
    got = entry(ear.recv(65536))
    assert got["MESSAGE"] == "lost a\nfor 15 s"
    assert (got["PRIORITY"], got["SYSLOG_IDENTIFIER"], got["LOGGER"]) == ("4", "ffrtmp-master", "ffrtmp_master.turn")
    assert (got["FFRTMP_JOB"], got["FFRTMP_NODE"]) == ("42", "a")
    assert got["MESSAGE_ID"] == journal.Event.NODE_LOST.value
    assert "FFRTMP_ATTEMPT" not in got
    handler.close()


def test_an_entry_that_is_too_long_for_a_datagram_arrives_as_a_sealed_file(ear: socket.socket):
    handler = journal.JournalHandler("ffrtmp-master", Path(ear.getsockname()))
    ear.recv(10)
    handler.emit(record(logging.INFO, "x" * 3_000_000))
    data, fds, _, _ = socket.recv_fds(ear, 10, 1)
    assert data == b""
    with os.fdopen(fds[0], "rb") as file:
        assert fcntl.fcntl(file, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
        file.seek(0)
        assert entry(file.read())["MESSAGE"] == "x" * 3_000_000
    assert handler.dropped == 0
    handler.close()


def test_a_journal_that_takes_nothing_neither_blocks_nor_raises_and_the_loss_is_told(ear: socket.socket):
    handler = journal.JournalHandler("ffrtmp-master", Path(ear.getsockname()))
    for _ in range(5000):
        handler.emit(record(logging.INFO, "y" * 1000))
        if handler.dropped > 3:
            break
    lost = handler.dropped
    assert lost
    ear.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            ear.recv(65536)
    handler.emit(record(logging.INFO, "again"))
    assert entry(ear.recv(65536))["MESSAGE"] == f"{lost} lines were not taken by the journal"
    assert entry(ear.recv(65536))["MESSAGE"] == "again"
    handler.close()


def test_away_from_the_journal_lines_are_readable_and_carry_their_fields():
    stream = io.StringIO()
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        handler = journal.set_up("ffrtmp-agent", "info", {}, stream)
        again = journal.set_up("ffrtmp-agent", "warning", {}, stream)
        log = logging.getLogger("ffrtmp_agent.session")
        log.info("not at this level")
        log.warning("refused: %s", 409, extra={"FFRTMP_NODE": "a", **journal.Event.NODE_REFUSED.field})
        try:
            raise ValueError("inside")
        except ValueError:
            log.exception("outside")
    finally:
        root.setLevel(level)
        root.handlers = handlers
    assert again is not handler
    first, *rest = stream.getvalue().splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z warning ffrtmp_agent.session: refused: 409 \[node=a\]", first
    )
    assert "outside" in rest[0]
    assert rest[-1] == "ValueError: inside"


def test_the_journal_is_recognised_by_device_and_inode(tmp_path: Path):
    with (tmp_path / "stream").open("w") as stream:
        there = os.fstat(stream.fileno())
        assert journal.is_journal(stream, {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"})
        assert not journal.is_journal(stream, {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino + 1}"})
        assert not journal.is_journal(stream, {})
    assert not journal.is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


def test_each_event_of_the_journal_is_logged_somewhere():
    daemons = Path(journal.__file__).parent.parent
    sources = [path.read_text() for path in daemons.rglob("*.py") if path.name != "journal.py"]
    silent = [event.name for event in journal.Event if not any(f"Event.{event.name}.field" in text for text in sources)]
    assert silent == []


def test_no_two_events_share_a_message_id():
    identifiers = [event.value for event in journal.Event]
    assert len(set(identifiers)) == len(identifiers)
    assert all(re.fullmatch(r"[0-9a-f]{32}", identifier) for identifier in identifiers)
