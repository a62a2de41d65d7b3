"""Logging: to journald with fields where standard error is the journal, else readable lines on standard error.

Modules log as the standard library has it, with the fields of DESIGN.md section 11 as extras:

    log = logging.getLogger(__name__)
    log.info("attempt %d.%d started", 42, 1, extra={"FFRTMP_JOB": 42, "FFRTMP_ATTEMPT": "42.1", **Event.STARTED.field})

The journal's own protocol is a datagram of NAME=VALUE lines, small enough to be written here; the kept bindings want a
compiler and libsystemd's headers on every host. Nothing here blocks or raises: a daemon must not stand still because
the journal does. Lines that could not be handed over are counted, and the count is logged with the next one that can.
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import socket
import struct
import sys
import time
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TextIO

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
FIELDS = ("FFRTMP_JOB", "FFRTMP_ATTEMPT", "FFRTMP_NODE", "FFRTMP_PEER", "TRACE_ID", "SPAN_ID", "MESSAGE_ID")
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


class Event(Enum):
    """What happens often enough to be looked for: the journal's MESSAGE_ID of each, never changed once released."""

    MASTER_READY = "0b84fded51cb483cbc4c52559c5cb8ee"
    MASTER_RESTORED = "c92db649856149b8ad4978a63ffb5c5c"
    CONFIG_RELOADED = "c9be79531e6c4355af51ff20dc38e69b"
    CONFIG_REFUSED = "da1267cd2b064cbaac1342c600123539"
    STORE_REFUSED = "264fbd2618104e9795bc0558f4391b5c"
    EVENT_UNDONE = "39841eb341c146c3b951057362e4af77"
    NODE_ENROLLED = "7a7885bbba814a478cccba600cb864d5"
    NODE_READY = "ebdd1027499f42c696ffc66dee9b7d82"
    NODE_LOST = "e163229893444bc18673030099bf180c"
    NODE_REFUSED = "0841c3e50269407796edbe0f6b4237ed"
    JOB_SUBMITTED = "0af2468df64245caadc7c956910e8ee3"
    JOB_ENDED = "1c3525d58c4f4045aca375816686b3e4"
    ATTEMPT_STARTED = "0a06be5e305346a585e64e005bb5e5b8"
    ATTEMPT_ENDED = "8000ddf54c364989957b0ec81e89f41f"
    ATTEMPT_FOUND = "e1104735295e4d67b1a35c4cb2c4fcb8"
    OUTPUT_PUBLISHED = "0d12578c36104616b3a69c8d61625ff5"
    DISK_GUARD = "6937a5c18cc745d2b02844d25ed9bc72"

    @property
    def field(self) -> dict[str, str]:
        """The extra that marks a line as this event."""
        return {"MESSAGE_ID": self.value}


class LineFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z info  ffrtmp_master.hub: words [job=42 node=a]`, the time in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the trace below it where there is one."""
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"
        given = [
            f"{name.removeprefix('FFRTMP_').lower()}={value}"
            for name, value in fields_of(record).items()
            if name != "MESSAGE_ID"
        ]
        tail = f" [{' '.join(given)}]" if given else ""
        return f"{stamp} {record.levelname.lower():7} {record.name}: {_message(record)}{tail}"


class LineHandler(logging.StreamHandler[TextIO]):
    """Readable lines on a stream."""

    def __init__(self, stream: TextIO) -> None:
        """`stream` stays open when the handler is closed."""
        super().__init__(stream)
        self.setFormatter(LineFormatter())


class JournalHandler(logging.Handler):
    """Hands records to journald with their fields. `identifier` is what `journalctl -t` asks for."""

    def __init__(self, identifier: str, path: Path = JOURNAL_SOCKET) -> None:
        """Raises OSError where no journal listens at `path`."""
        super().__init__()
        self._identifier = identifier
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self.dropped = 0
        try:
            self._socket.sendto(b"", self._path)
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks, never raises."""
        try:
            if self.dropped:
                self._send(encode({"MESSAGE": f"{self.dropped} lines were not taken by the journal", "PRIORITY": 4}))
                self.dropped = 0
            self._send(encode(self._entry(record)))
        except OSError:
            self.dropped += 1
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Free the socket."""
        self._socket.close()
        super().close()

    def _entry(self, record: logging.LogRecord) -> dict[str, object]:
        return {
            "MESSAGE": _message(record),
            "PRIORITY": next((priority for level, priority in _PRIORITIES if record.levelno >= level), 7),
            "SYSLOG_IDENTIFIER": self._identifier,
            "SYSLOG_PID": record.process,
            "LOGGER": record.name,
            "CODE_FILE": record.pathname,
            "CODE_LINE": record.lineno,
            "CODE_FUNC": record.funcName,
            **fields_of(record),
        }

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.sendto(datagram, self._path)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:  # what is too long for a datagram goes as a sealed file
                raise
            self._send_file(datagram)

    def _send_file(self, datagram: bytes) -> None:
        file = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(file, datagram)
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            rights = array.array("i", [file])
            self._socket.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], 0, self._path)
        finally:
            os.close(file)


def set_up(identifier: str, level: str, environ: Mapping[str, str], stream: TextIO | None = None) -> logging.Handler:
    """Send the logs of the whole program to the journal or to `stream` (standard error); returns the handler.

    `level` is debug, info, warning or error. Calling it again replaces the handler of before, for a reload.
    """
    stream = stream or sys.stderr
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, JournalHandler | LineHandler)]:
        root.removeHandler(old)
        old.close()
    handler = _handler(identifier, environ, stream)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for chatty in ("asyncio", "aiohttp.access", "pyroute2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return handler


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `stream` is the one that systemd connected to the journal ($JOURNAL_STREAM: device and inode)."""
    try:
        there = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """The structured fields that were given as extras."""
    return {name: record.__dict__[name] for name in FIELDS if record.__dict__.get(name) not in (None, "")}


def encode(entry: Mapping[str, object]) -> bytes:
    """The datagram of an entry: NAME=VALUE lines, and the length-counted form for values of several lines."""
    parts = []
    for name, value in entry.items():
        content = str(value).encode(errors="replace")
        if b"\n" in content:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(content)) + content + b"\n")
        else:
            parts.append(name.encode() + b"=" + content + b"\n")
    return b"".join(parts)


def _handler(identifier: str, environ: Mapping[str, str], stream: TextIO) -> logging.Handler:
    if is_journal(stream, environ):
        try:
            return JournalHandler(identifier)
        except OSError:
            pass  # the stream itself still reaches the journal, only without fields
    return LineHandler(stream)


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
    return text
