"""The farm of a chaos run: a master and four agents, each on a host of its own, with disks and clocks that can be spoilt.

Host m has the master, whose state is on an ext4 in a file (it can be shut down under it), or on a tmpfs where the machine
has no loop device to be had. Hosts a to d have an agent each. All see one shared folder, bind-mounted, as the media root
`media`; each has a root of its own beside it, `disk-a` and so on. The state of d and the own root of b are small disks.
Hosts m and c have a clock that can be set. What is mounted stays so until the enclosure ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections import Counter
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from chaos.net import Net
from clips import generated

from daemons import Daemon, Farm, until

AGENTS = ("a", "b", "c", "d")
HOSTS = ("m", *AGENTS)
HUB_PORT = 8081
FILMS_S = (4, 10)
EXT4_SHUTDOWN, WITHOUT_THE_LOG = 0x8004587D, 2  # what was not synced is lost, as at a power cut
CLOCKS = ("m", "c")


class Site(Farm):
    """A farm on a network; `Farm` does the rest."""

    def __init__(self, folder: Path, seed: int, **times: str) -> None:
        folder.mkdir()
        super().__init__(folder, **times)
        self.net = Net(HOSTS, seed)
        self.wanted: set[str] = set()  # what is to be alive
        self.restarts: Counter[str] = Counter()  # of what had ended by itself
        self.no_ext4 = ""  # why the master's disk is none, so that it cannot be broken

    def __enter__(self) -> Self:
        try:
            self.net.__enter__()
            self._disks()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        super().__exit__(kind, error, at)
        self.net.__exit__(kind, error, at)

    # ---- disks and clocks ----------------------------------------------------------------------------------------

    @property
    def image(self) -> Path:
        """The file that is the master's disk."""
        return self.folder / "master.img"

    def _disks(self) -> None:
        self._masters_disk()
        _tmpfs(self.folder / "agent-d", "24m")
        for name in AGENTS:
            _tmpfs(self.own_media(name), "48m" if name == "b" else "256m")
            shared = self.folder / "hosts" / name / "shared"
            shared.mkdir(parents=True)
            _mount("--bind", self.media, shared)
        for length_s in FILMS_S:
            film = generated(length_s, 160, 90, 10.0, name="clip.mkv")
            for folder in (self.media, *map(self.own_media, AGENTS)):
                shutil.copyfile(film, folder / f"film{length_s}.mkv")
        for host in CLOCKS:
            self.set_clock(host, 0)

    def own_media(self, name: str) -> Path:
        """The media root that only this host has."""
        return self.folder / "hosts" / name / "own"

    def _masters_disk(self) -> None:
        with self.image.open("wb") as file:
            file.truncate(96 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)
        disk = self.folder / "master"
        disk.mkdir()
        try:
            _mount("-o", "loop", self.image, disk)
        except subprocess.CalledProcessError as error:
            self.no_ext4 = error.stderr.decode(errors="replace").partition("\n")[0]
            _tmpfs(disk, "96m")

    def break_masters_disk(self) -> None:
        """From now on all that the master writes is an I/O error, and what it has not synced is gone."""
        disk = os.open(self.folder / "master", os.O_RDONLY)
        try:
            fcntl.ioctl(disk, EXT4_SHUTDOWN, struct.pack("I", WITHOUT_THE_LOG))
        finally:
            os.close(disk)

    def mend_masters_disk(self) -> None:
        """Take the broken disk out and put it in again; nobody may have a file open on it."""
        disk = self.folder / "master"
        until(
            "the master's disk to be free",
            lambda: subprocess.run(["umount", disk], check=False, capture_output=True).returncode == 0,
        )
        _mount("-o", "loop", self.image, disk)

    def set_clock(self, host: str, step_s: int) -> None:
        """Set a host's wall clock, by the difference to the right one."""
        fresh = self._clock(host).with_suffix(".new")
        fresh.write_text(f"{step_s:+d}\n")
        fresh.rename(self._clock(host))

    def _clock(self, host: str) -> Path:
        return self.folder / f"clock-{host}"

    def _on(self, host: str) -> list[str]:
        """What a program is started by, to be on this host, with its clock."""
        words = self.net.inside(host)
        if host not in CLOCKS:
            return words
        settings = {
            "LD_PRELOAD": str(faketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock(host)),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
        }
        return [*words, "env", *(f"{name}={value}" for name, value in settings.items())]

    # ---- programs ------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Start them all, and wait until the master has every agent."""
        self.master_up()
        for name in AGENTS:
            self.agent_up(name, wait=False)
        until("all agents", self.all_ready)

    def all_ready(self) -> bool:
        """Whether the master answers and has every agent."""
        try:
            return [node["state"] for node in self.nodes()] == ["ready"] * len(AGENTS)
        except (OSError, HTTPException, AssertionError):
            return False

    def master_up(self, *, wait: bool = True) -> Daemon:
        """Start the master on its host."""
        self.wanted.add("m")
        hub = f"tcp://{self.net.addresses['m']}:{HUB_PORT}"
        return self.start_master("--hub", hub, wait=wait, under=self._on("m"))

    def agent_up(self, name: str, *, wait: bool = True) -> Daemon:
        """Start the agent of a host."""
        self.wanted.add(name)
        return self.start_agent(
            name,
            "--allow-run",
            "--media-root",
            f"disk-{name}={self.own_media(name)}",
            address=self.net.addresses[name],
            media=self.folder / "hosts" / name / "shared",
            under=self._on(name),
            wait=wait,
        )

    def daemon(self, host: str) -> Daemon:
        """The daemon of a host, alive or not."""
        found = self.master if host == "m" else self.agents[host]
        assert found is not None
        return found

    def tend(self) -> None:
        """Start again what should be alive and is not, as a service manager does."""
        for host in sorted(self.wanted):
            if not self.daemon(host).alive:
                self.restarts[host] += 1
                self.start(host)

    def start(self, host: str) -> None:
        """Start the daemon of a host, and do not wait for it."""
        if host == "m":
            self.master_up(wait=False)
        else:
            self.agent_up(host, wait=False)

    def engines(self, host: str) -> list[psutil.Process]:
        """The engines that work on a host."""
        found = []
        for process in self.host_processes(host):
            with contextlib.suppress(psutil.Error):
                if process.name() == "ffmpeg":
                    found.append(process)
        return found


def _tmpfs(folder: Path, size: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", folder)


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


def faketime() -> Path:
    """Where Debian has the library that shows programs another time; FileNotFoundError where it is not installed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise FileNotFoundError("libfaketime is not installed (Debian's package faketime)")
    return found[0]
