"""ffrtmp-agent: the program, and `ffrtmp-agent join TICKET`."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from ffrtmp import __version__, journal, wire
from ffrtmp.config import Source, build_parser, source
from ffrtmp.config_agent import AgentConfig
from ffrtmp.errors import Exit, FarmError
from ffrtmp.host import network
from ffrtmp.host.address import node_address
from ffrtmp.host.disk import DiskGuard
from ffrtmp.host.survey import Survey, Surveyor, survey
from ffrtmp.keys import Ticket
from ffrtmp.service import Notifier

from .about import Roots, address_of, cache_of, capacity_of, facts_of, find_roots
from .agent import Agent, Refused
from .enrol import enrol_beside, join
from .guarding.files import boot_id
from .link import Link
from .local import About
from .outbox import Outbox
from .plain import PlainRunner
from .runner import Runner
from .session import Session
from .staging import farm_of
from .state import NodeIdentity, StateFolder
from .workshop import Workshop, clock_s

log = logging.getLogger(__name__)
MASTER_WAIT_S = 30.0  # for a master beside this agent that is being started at the same time
MASTER_LOOK_S = 2.0
ROOTS_EVERY_S = 60.0


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    words = sys.argv[1:] if argv is None else argv
    joining = bool(words) and words[0] == "join"
    parser = parser_of_join() if joining else parser_of_agent()
    flags = vars(parser.parse_args(words[1:] if joining else words))
    debug = bool(flags.get("debug"))
    try:
        if joining:
            return run_join(flags)
        settings = source(AgentConfig, flags, os.environ)
        config = settings.load()
        debug = config.debug
        journal.set_up("ffrtmp-agent", "debug" if config.debug else config.log_level, os.environ)
        return run_agent(settings, config)
    except FarmError as error:
        if debug:
            raise
        if isinstance(error, Refused):  # by now there is a log, and what stands in it need not be said again
            log.error("%s; %s", error.what, error.hint, extra=journal.Event.NODE_REFUSED.field)
            return error.code
        print(f"ffrtmp-agent: {error.what}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.code


def parser_of_agent() -> argparse.ArgumentParser:
    """The flags of the daemon."""
    parser = build_parser(AgentConfig, "ffrtmp-agent", "starts and watches ffmpeg jobs on this host for ffrtmp-master")
    parser.add_argument("--version", action="version", version=f"ffrtmp-agent {__version__}")
    parser.epilog = "ffrtmp-agent join TICKET enrols this host with a ticket; see ffrtmp-agent join --help"
    return parser


def parser_of_join() -> argparse.ArgumentParser:
    """The flags of `join`."""
    parser = argparse.ArgumentParser(
        prog="ffrtmp-agent join",
        description="Enrol this host at a master, with a ticket that `ffrtmpctl nodes invite` printed there.",
    )
    parser.add_argument("ticket", metavar="TICKET", help="the line that was printed; - reads it from standard input")
    given = argparse.SUPPRESS
    parser.add_argument("--config", default=given, metavar="FILE", help="the TOML file that the agent is started with")
    parser.add_argument(
        "--state-dir", default=given, metavar="DIR", help="the folder of the agent's key, as at its start"
    )
    parser.add_argument("--name", default=given, help="the node's name; by default the ticket's, or this host's")
    parser.add_argument(
        "--address", default=given, metavar="HOST", help="the node's address from now on, where it is not the route's"
    )
    parser.add_argument(
        "--replace", default="", metavar="NODE", help="take the place of this node (a reinstalled host)"
    )
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    return parser


def run_join(flags: dict[str, object]) -> int:
    """Enrol by ticket, as the agent that is started by the same --config and --state-dir."""
    config = source(AgentConfig, flags, os.environ).load()
    text = str(flags["ticket"])
    ticket = Ticket.parse(sys.stdin.readline() if text == "-" else text, time.time())
    name = str(flags.get("name") or ticket.name or flags["replace"] or config.name or socket.gethostname())
    address = node_address(config.address) if config.address else ""
    with StateFolder(config.state_dir) as state:
        identity = join(ticket, state, name, address, str(flags["replace"]))
    print(f"this host is node {identity.name} of the master at {identity.hub}")
    for line in how_to_start(flags, has_roots=bool(config.media_roots)):
        print(line)
    return Exit.DONE


def how_to_start(flags: Mapping[str, object], *, has_roots: bool) -> list[str]:
    """What starts the agent that was enrolled with these flags; the last line ends with a command to be pasted.

    `has_roots`: whether its configuration names media roots. An agent without one gets no job that reads or writes a file.
    """
    words = ["ffrtmp-agent"]
    for name in ("config", "state_dir"):
        if name in flags:
            words += [f"--{name.replace('_', '-')}", str(Path(str(flags[name])).absolute())]
    lines = []
    if words == ["ffrtmp-agent"]:
        first = "" if has_roots else f"name its media_roots in {AgentConfig.DEFAULT_FILES[0]}, then "
        lines.append(f"where it is installed as a service: {first}systemctl start ffrtmp-agent")
    if not has_roots:
        lines.append("no media root is configured yet: put a name and a folder of videos into the command")
        words += ["--media-root", "NAME=/path/to/videos"]
    return [*lines, f"start the agent: {shlex.join(words)}"]


def run_agent(settings: Source[AgentConfig], config: AgentConfig) -> int:
    """Run the daemon until SIGTERM or SIGINT."""
    notifier = Notifier(os.environ)
    with StateFolder(config.state_dir) as state:
        identity = enrolled(config, state)
        runner = runner_of(config)
        roots = find_roots(config.media_roots, uuid4())
        notifier.status("looking what this host's ffmpeg can do")
        found = survey(now_s=time.time(), cache=cache_of(config.state_dir))
        if found.abilities.problem:
            log.error("ffmpeg is of no use here: %s", found.abilities.problem)
        route = network.route_to(identity.hub)
        about = About(
            identity.name,
            address_of(config, identity.address, route),
            boot_id(),
            state.next_incarnation(),
            facts_of(found, runner, route),
            capacity_of(config, found, roots),
        )
        session = Session(about, state.seen(), clock_s())
        workshop = workshop_of(config, identity, roots, runner)
        outbox = Outbox(config.state_dir / "outbox")
        with Link(identity.hub, identity.server_key, state.keys(), clock=clock_s) as link:
            agent = Agent(state, session, link, runner, workshop, outbox, notifier)
            agent.watching.interface = route.interface
            keeper = _Keeper(settings, config, identity, agent, roots, found.due_s())
            agent.chores.append(keeper.look)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: agent.stop())
            signal.signal(signal.SIGHUP, lambda *_: keeper.ask_reload())
            try:
                agent.run()
            finally:
                notifier.stopping("stopping; jobs go on")
                notifier.close()
                keeper.close()
    return Exit.DONE


class _Measuring(threading.Thread):
    """Measures this host on a thread of its own: a name server that is down or a storage that hangs may take for ever."""

    def __init__(
        self, config: AgentConfig, identity: NodeIdentity, survey: Survey, runner: Runner, roots: Roots
    ) -> None:
        super().__init__(name="measure", daemon=True)
        self._asked = (config, identity, survey, runner, roots)
        self.route: network.Route | None = None
        self.address = ""
        self.facts: wire.Facts | None = None
        self.capacity: wire.Capacity | None = None
        self.problem = "it went wrong"

    def run(self) -> None:
        """Fill in what was measured, or the problem."""
        config, identity, found, runner, roots = self._asked
        try:
            self.route = network.route_to(identity.hub)
            self.address = address_of(config, identity.address, self.route)
            self.facts = facts_of(found, runner, self.route)
            self.capacity = capacity_of(config, found, roots)
        except FarmError as error:
            self.problem = error.what
        except OSError as error:
            self.problem = str(error)


class _Reloading(threading.Thread):
    """Reads the configuration anew, on a thread of its own: a media root that hangs stops neither heartbeats nor jobs."""

    def __init__(self, settings: Source[AgentConfig], identity: NodeIdentity, survey: Survey, runner: Runner) -> None:
        super().__init__(name="reload", daemon=True)
        self._asked = (settings, identity, survey, runner)
        self.found: tuple[AgentConfig, Roots, Workshop] | None = None
        self.problem = "it went wrong"

    def run(self) -> None:
        """Fill in what was found, or the problem."""
        settings, identity, found, runner = self._asked
        try:
            config = settings.load()
            roots = find_roots(config.media_roots, uuid4())
            capacity_of(config, found, roots)
            self.found = (config, roots, workshop_of(config, identity, roots, runner))
        except FarmError as error:
            self.problem = f"{error.what} ({error.hint})"
        except OSError as error:
            self.problem = str(error)


class _Keeper:
    """Keeps what the agent says of its host true: address, roots, encoders, and the configuration on SIGHUP."""

    def __init__(
        self,
        settings: Source[AgentConfig],
        config: AgentConfig,
        identity: NodeIdentity,
        agent: Agent,
        roots: Roots,
        survey_due_s: float,
    ) -> None:
        self.settings = settings
        self.config = config
        self.identity = identity
        self.agent = agent
        self.roots = roots
        self.watcher = network.Watcher()
        self._surveyor: Surveyor | None = None
        self._survey_due_s = survey_due_s
        self._survey = survey(now_s=time.time(), cache=cache_of(config.state_dir))
        self._roots_s = 0.0
        self._measuring: _Measuring | None = None
        self._reloading: _Reloading | None = None
        self._reload = False

    def close(self) -> None:
        """Let go of the network's news and of trials that run."""
        self.watcher.close()
        if self._surveyor is not None:
            self._surveyor.close()

    def ask_reload(self) -> None:
        """SIGHUP has come."""
        self._reload = True

    def look(self, now_s: float) -> None:
        """About once a second: measure again what may have changed."""
        if self._reload:
            # Also while an earlier one hangs: that may be why it was asked for, and what was read since counts for more.
            self._reload = False
            self.agent.notifier.reloading()
            self._reloading = _Reloading(self.settings, self.identity, self._survey, self.agent.runner)
            self._reloading.start()
        if self._reloading is not None and not self._reloading.is_alive():
            self._take_reload(self._reloading)
            self._reloading = None
        changed = bool(self.watcher.changed()) | self._look_at_encoders()
        if changed:
            self._roots_s = 0.0
        if self._measuring is not None and not self._measuring.is_alive():
            self._take(self._measuring)
            self._measuring = None
        if self._measuring is None and now_s >= self._roots_s:
            self._roots_s = now_s + ROOTS_EVERY_S
            self._measuring = _Measuring(self.config, self.identity, self._survey, self.agent.runner, self.roots)
            self._measuring.start()

    def _look_at_encoders(self) -> bool:
        if self._surveyor is None and time.time() >= self._survey_due_s:
            self._surveyor = Surveyor(now_s=time.time(), cache=cache_of(self.config.state_dir))
        if self._surveyor is None or not self._surveyor.step():
            return False
        found = self._surveyor.result
        self._surveyor.close()
        self._surveyor = None
        assert found is not None
        self._survey, self._survey_due_s = found, max(found.due_s(), time.time() + 60.0)
        return True

    def _take(self, measured: _Measuring) -> None:
        session = self.agent.session
        if measured.route is None or measured.capacity is None or measured.facts is None:
            log.warning("this host cannot be measured just now: %s", measured.problem)
            return
        if measured.address != session.about.address:
            log.warning("this host's address is now %s, it was %s", measured.address, session.about.address)
            session.say_hello_again()
        self.agent.watching.interface = measured.route.interface
        session.about = replace(
            session.about, address=measured.address, facts=measured.facts, capacity=measured.capacity
        )

    def _take_reload(self, reloading: _Reloading) -> None:
        if reloading.found is None:
            log.error("not reloaded: %s", reloading.problem, extra=journal.Event.CONFIG_REFUSED.field)
        else:
            self.config, self.roots, self.agent.workshop = reloading.found
            self._roots_s, self._measuring = 0.0, None  # what is being measured is what was configured before
            log.info("reloaded", extra=journal.Event.CONFIG_RELOADED.field)
        self.agent.notifier.ready()


def enrolled(config: AgentConfig, state: StateFolder) -> NodeIdentity:
    """Who this node is; with `--register` it enrols at the master beside it, where that has not been done."""
    identity = state.identity()
    if identity is not None and not config.register:
        return identity
    if not config.register:
        raise FarmError(
            "this host is not enrolled at any master",
            hint="ffrtmpctl nodes invite on the master, then here: ffrtmp-agent join TICKET; or --register beside it",
            code=Exit.CONFIG,
        )
    if not config.master.startswith("unix:"):
        hint = "give --master unix:/PATH, or enrol with ffrtmp-agent join TICKET"
        raise FarmError(f"cannot enrol at {config.master}: it is no Unix socket", hint=hint, code=Exit.CONFIG)
    name = config.name or (identity.name if identity is not None else "") or socket.gethostname()
    address = config.address or (identity.address if identity is not None else "")
    path = Path(config.master.removeprefix("unix:"))
    until_s = time.monotonic() + MASTER_WAIT_S
    while True:
        try:
            return enrol_beside(path, state, name, address)
        except FarmError as error:
            if error.code != Exit.NO_MASTER or (identity is None and time.monotonic() > until_s):
                raise
            if identity is not None:
                return identity  # enrolled before: the link finds the master when it is back
            log.info("waiting for the master: %s", error.what)
            time.sleep(MASTER_LOOK_S)


def runner_of(config: AgentConfig) -> PlainRunner:
    """What starts the jobs; raises FarmError for a runner that is not there."""
    if config.runner == "systemd":
        hint = "say --runner plain, or leave it out"
        raise FarmError("this version has no runner for systemd units", hint=hint, code=Exit.CONFIG)
    return PlainRunner()


def workshop_of(config: AgentConfig, identity: NodeIdentity, roots: Roots, runner: Runner) -> Workshop:
    """What the disk's thread works by."""
    return Workshop(
        folder=attempts_folder(config.state_dir),
        roots=roots.by_identity,
        guard=DiskGuard(config.disk_free_percent, config.disk_free),
        protocols=frozenset(config.protocols),
        allow_run=config.allow_run,
        confined=runner.confinement != "none" or config.allow_unconfined,
        farm=farm_of(identity.server_key),
    )


def attempts_folder(state_dir: Path) -> Path:
    """Where attempt directories are made."""
    folder = state_dir / "attempts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
