"""ffrtmp-master: the program."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import os
import pwd
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ffrtmp import __version__, journal, scenario, wire
from ffrtmp.config import Source, build_parser, differences, source
from ffrtmp.config_master import MasterConfig
from ffrtmp.errors import Exit, FarmError
from ffrtmp.farm.farm import Farm
from ffrtmp.farm.rules import Rules
from ffrtmp.host.disk import DiskGuard, disk_reason
from ffrtmp.keys import load_or_make_keys
from ffrtmp.service import Notifier, take_sockets
from ffrtmp.spec import Recipe

from . import offline
from .api.access import UnixPolicy
from .api.call import Bounds, Service
from .api.listening import unix_socket
from .api.server import Server
from .api.watch import Watchers
from .callers import Callers
from .cycle import Clocks, Cycle
from .desk import Desk
from .doorway import Doorway
from .garbage import Garbage, share_fairly
from .hub import Hub
from .live import LiveFarm, Told
from .master import Master
from .rows import StoreBroken, StoreRefused
from .store.reader import Reader
from .store.store import Store
from .switchboard import Switchboard
from .tickets import Tickets
from .turn import Turns

log = logging.getLogger(__name__)
# What is taken over when the master starts, and by no reload.
AT_START = frozenset(
    {
        *("state_dir", "db", "socket", "socket_group", "hub", "log_max", "events_per_turn", "sessions_max"),
        *("body_max", "batch_max", "labels_max"),
    }
)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = build_parser(MasterConfig, "ffrtmp-master", "accepts jobs, orders them, hands them to agents")
    parser.add_argument("--restore", type=Path, metavar="FILE", help="put the database back to this backup, and end")
    parser.add_argument("--check", action="store_true", help="check the database against its history, and end")
    parser.add_argument("--version", action="version", version=f"ffrtmp-master {__version__}")
    flags = vars(parser.parse_args(sys.argv[1:] if argv is None else argv))
    restore, check = flags.pop("restore"), flags.pop("check")
    debug = bool(flags.get("debug"))
    try:
        settings = source(MasterConfig, flags, os.environ)
        config = settings.load()
        debug = config.debug
        journal.set_up("ffrtmp-master", "debug" if config.debug else config.log_level, os.environ)
        if restore is not None:
            return offline.restore(restore, config.database)
        if check:
            return offline.check(config.database)
        return asyncio.run(serve(settings, config))
    except FarmError as error:
        if debug:
            raise
        print(f"ffrtmp-master: {error.what}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.code
    except (StoreBroken, StoreRefused) as error:
        log.critical("the store is of no use: %s; the next start begins with what is on disk", error)
        return Exit.FAILED


async def serve(settings: Source[MasterConfig], config: MasterConfig) -> int:
    """Open the store, listen, and make turns until SIGTERM or SIGINT."""
    notifier = Notifier(os.environ)
    share_fairly()
    config.state_dir.mkdir(parents=True, exist_ok=True)
    clocks = Clocks(lambda: time.clock_gettime(time.CLOCK_BOOTTIME), time.time)
    logs = offline.logs_path(config.database)
    with Store.open(config.database, logs, log_max_bytes=config.log_max) as store, store.reader() as reader:
        running = _Running(settings, config, store, reader, clocks, notifier)
        try:
            return await running.run()
        finally:
            notifier.close()


class _Running:
    """The parts of a master that serves, put together."""

    def __init__(
        self,
        settings: Source[MasterConfig],
        config: MasterConfig,
        store: Store,
        reader: Reader,
        clocks: Clocks,
        notifier: Notifier,
    ) -> None:
        self.settings = settings
        self.config = config
        self.notifier = notifier
        loaded = store.load(clocks.wall_s() - clocks.farm_s())
        farm = Farm(rules_of(config), lineage=loaded.lineage, now_s=clocks.farm_s())
        loaded.put_into(farm)
        turns = Turns(farm, loaded.turn)
        self.master = Master(clocks, notifier, Garbage(), retention_s=config.retention)
        live, watchers, callers = LiveFarm(farm, turns.told), Watchers(), Callers()
        self.cycle = Cycle(
            store,
            reader,
            turns,
            clocks,
            self.master,
            callers,
            live,
            watchers,
            events_per_turn=config.events_per_turn,
        )
        live.told.update(told_before(reader))
        keys = load_or_make_keys(config.state_dir / "hub.key")
        self.desk = Desk(
            store=store,
            reader=reader,
            turns=turns,
            live=live,
            watchers=watchers,
            tickets=Tickets(loaded.tickets),
            keys=keys,
            doorway=Doorway(config.hub, config.state_dir),
            post=self.cycle.post,
            room=self._room,
            wall_s=clocks.wall_s,
            recipes=recipes_of(config),
            max_retries=config.max_retries,
            backup_folders=(config.state_dir / "backups", config.state_dir),
            callers=callers,
        )
        self.board = Switchboard(
            turns=turns,
            reader=reader,
            live=live,
            watchers=watchers,
            timing=timing_of(config),
            max_retries=config.max_retries,
            post=self.cycle.post,
            enroll=self.desk.enroll_by_ticket,
            labels_max=config.labels_max,
        )
        self.master.cycle, self.master.desk, self.cycle.board = self.cycle, self.desk, self.board
        self.board.know_nodes()

    def _room(self) -> str:
        """Why nothing more is taken: the disk of the database is too full; empty: there is room."""
        guard = DiskGuard(self.config.disk_free_percent, self.config.disk_free)
        return disk_reason(self.config.database.parent, guard) or ""

    async def run(self) -> int:
        """Listen, serve, stop in order."""
        config = self.config
        hub = Hub(
            self.desk.doorway.endpoint,
            self.desk.keys,
            self.board.admits,
            self.board.hear,
            invited=lambda key: self.desk.tickets.admits(key, time.time()),
            connections_max=config.sessions_max,
        )
        self.desk.hub = self.board.hub = hub
        service = Service(self.desk, Bounds(config.body_max, config.batch_max, config.labels_max))
        server = Server(service, UnixPolicy(os.getuid(), gid_of(config.socket_group), uid_of("ffrtmp-agent")))
        try:
            with listening(config) as sockets:
                await server.start(sockets)
                self._on_signals()
                log.info("listening for agents at %s, for people at %s", hub.endpoint, config.socket)
                await self.master.run()
                return Exit.DONE
        except StoreBroken:
            self.desk.callers.cut()  # or the stop below would wait for answers that nobody will give
            raise
        finally:
            self.notifier.stopping("stopping")
            await server.stop()
            hub.close()

    def _on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.master.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        """Take over a changed configuration and changed scenarios; a bad one changes nothing."""
        self.notifier.reloading()
        try:
            config = self.settings.load()
            recipes = recipes_of(config)
        except FarmError as error:
            log.error("not reloaded: %s (%s)", error.what, error.hint, extra=journal.Event.CONFIG_REFUSED.field)
        else:
            changed = differences(self.config, config)
            self.config = config
            self.desk.recipes = recipes
            self.desk.max_retries = self.board.max_retries = config.max_retries
            self.board.timing = timing_of(config)
            self.cycle.turns.farm.world.rules = rules_of(config)
            self.master.retention_s = config.retention
            logging.getLogger().setLevel(("debug" if config.debug else config.log_level).upper())
            what = ", ".join(name for name in changed if name not in AT_START) or "nothing but perhaps scenarios"
            log.info("reloaded; changed: %s", what, extra=journal.Event.CONFIG_RELOADED.field)
            if later := ", ".join(name for name in changed if name in AT_START):
                log.warning("changed only by a restart: %s", later, extra=journal.Event.CONFIG_RELOADED.field)
        self.notifier.ready()


def told_before(reader: Reader) -> Iterator[tuple[str, Told]]:
    """What the nodes had said of themselves before this start."""
    for name, row in reader.nodes().items():
        if row.info is not None:
            with contextlib.suppress(msgspec.DecodeError):
                yield name, msgspec.msgpack.decode(row.info, type=Told)


# ---- from the configuration --------------------------------------------------------------------------------------


def rules_of(config: MasterConfig) -> Rules:
    """The times and bounds of the rules."""
    return Rules(
        heartbeat_s=config.heartbeat,
        lost_after_s=config.lost_after,
        lost_after_live_s=config.lost_after_live,
        away_after_s=max(60.0, config.lost_after),
        self_doubt_s=config.self_doubt,
        reconnect_grace_s=config.reconnect_grace,
        accept_timeout_s=config.accept_timeout,
        grant_ttl_s=config.grant_ttl,
        ageing_interval_s=config.ageing_interval,
        reserve_after_s=config.reserve_after,
        doubt_patience_s=config.doubt_patience,
        backoff_first_s=config.backoff,
        backoff_max_s=config.backoff_max,
        poison_losses=config.poison_losses,
        waiting_max=config.waiting_max,
        lanes_max=config.lanes_max,
    )


def timing_of(config: MasterConfig) -> wire.Timing:
    """The times that agents are told."""
    return wire.Timing(
        heartbeat_s=config.heartbeat,
        heartbeat_live_s=config.heartbeat_live,
        lost_after_s=config.lost_after,
        grant_ttl_s=config.grant_ttl,
        log_max_bytes=config.log_max,
        stall_after_s=config.stall_after,
        stall_after_file_s=config.stall_after_file,
        stable_after_s=config.stable_after,
        lost_after_live_s=config.lost_after_live,
    )


def recipes_of(config: MasterConfig) -> dict[str, Recipe]:
    """The scenarios: the packaged ones, then the configured folders."""
    return scenario.load((scenario.PACKAGED, *config.scenarios))


def gid_of(group: str) -> int | None:
    """A group's number; None where there is no such group."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def uid_of(user: str) -> int | None:
    """A user's number; None where there is no such user."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


@contextlib.contextmanager
def listening(config: MasterConfig) -> Iterator[list[socket.socket]]:
    """The API's socket: the service manager's, or one of our own, which is removed at the end."""
    given = list(take_sockets(os.environ).values())
    if given:
        yield given
        return
    config.socket.parent.mkdir(parents=True, exist_ok=True)
    own = unix_socket(config.socket, gid_of(config.socket_group))
    try:
        yield [own]
    finally:
        config.socket.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
