"""A real master, and a node that announces a media root over the real wire but has no room for a job: all jobs wait."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from ctl.conftest import PROGRAM

from ffrtmp import wire
from ffrtmp.errors import FarmError
from ffrtmp_agent.enrol import enrol_beside
from ffrtmp_agent.link import Link
from ffrtmp_agent.state import StateFolder
from ffrtmpctl.address import Address
from ffrtmpctl.client import Master

MASTER = PROGRAM.with_name("ffrtmp-master")
DEADLINE_S = 15.0


class RunningMaster:
    """ffrtmp-master as a process on a folder; it can be killed and started again on the same one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "master.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it serves."""
        words = ["--state-dir", self.folder, "--socket", self.socket, "--hub", "tcp://127.0.0.1:0"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([MASTER, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        ends = time.monotonic() + DEADLINE_S
        while not self._serves():
            assert self._process.poll() is None and time.monotonic() < ends, (self.folder / "log").read_text()
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """As a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """In order; killed when it does not end."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(DEADLINE_S)
        finally:
            self.kill()

    def _serves(self) -> bool:
        try:
            Master(Address.parse(str(self.socket)), timeout_s=2.0).call("GET", "/v1/ready", repeatable=False)
        except FarmError:
            return False
        return True


class QuietNode:
    """Speaks as an agent does: enrols, says Hello, sends heartbeats. Its capacity has no slot."""

    def __init__(self, master: RunningMaster, name: str, media: Path) -> None:
        state = StateFolder(master.folder / f"state-{name}")
        self._state = state
        identity = enrol_beside(master.socket, state, name, "127.0.0.1")
        self._link = Link(identity.hub, identity.server_key, state.keys())
        root = wire.RootFact("media", "5b4ab6a0-9a0f-4c5c-8f4c-0d7c7d1a5f11", str(media), free_bytes=1 << 30)
        self._hello = wire.Hello(
            protocol=wire.PROTOCOL,
            boot_id="boot",
            incarnation=state.next_incarnation(),
            address="127.0.0.1",
            name=name,
            facts=wire.Facts(hostname=name),
            capacity=wire.Capacity(8000, 8 << 30, slots=0, encoders=("libx264", "aac"), roots=(root,)),
        )
        self.welcomed = threading.Event()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._talk)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self.welcomed.wait(DEADLINE_S), self._link.troubles()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        self._thread.join()
        self._link.close()
        self._state.close()

    def _talk(self) -> None:
        session, number, due_s = 0, 0, 0.0
        while not self._leaving.wait(0.02):
            for message in self._link.receive():
                if isinstance(message, wire.Welcome):
                    session = message.session
                    self.welcomed.set()
            if self._link.connection and time.monotonic() >= due_s:
                number += 1
                self._link.send(wire.Heartbeat(session, number) if session else self._hello)
                due_s = time.monotonic() + 0.5


@contextmanager
def a_master(folder: Path) -> Iterator[RunningMaster]:
    master = RunningMaster(folder)
    try:
        master.start()
        yield master
    finally:
        master.stop()


@contextmanager
def a_farm(folder: Path) -> Iterator[RunningMaster]:
    """A master and a node "one" that has the media root `media`."""
    with a_master(folder) as master, QuietNode(master, "one", folder / "media"):
        yield master
