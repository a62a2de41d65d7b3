"""The shape of the commands for queues, nodes, scenarios, the host, the database and the version."""

from __future__ import annotations

import argparse

from .parser_parts import QUEUES, Commands, add_command, add_group
from .values import between, duration_s, local_path


def add(commands: Commands) -> None:
    """All groups but `jobs`, and `version`."""
    _add_queues(add_group(commands, "queues", "see, pause and resume queues"))
    _add_nodes(add_group(commands, "nodes", "see and look after nodes"))
    _add_scenarios(add_group(commands, "scenarios", "see the recipes"))
    _add_config(add_group(commands, "config", "work out settings for this host"))
    _add_db(add_group(commands, "db", "back up and restore the master's database"))
    add_command(commands, "version", "version:version", "tell the versions of both ends", "ffrtmpctl version")


def _add_queues(queues: Commands) -> None:
    add_command(queues, "list", "queues:list_queues", "list the queues", "ffrtmpctl queues list")
    for verb, summary in (
        ("pause", "start nothing from a queue; what runs goes on"),
        ("resume", "start from it again"),
    ):
        parser = add_command(queues, verb, "queues:order", summary, f"ffrtmpctl queues {verb} batch")
        parser.add_argument("queue", choices=QUEUES)
        parser.set_defaults(verb=verb)


def _add_nodes(nodes: Commands) -> None:
    _add_list(nodes)
    _named(add_command(nodes, "describe", "nodes:describe", "tell all of a node", "ffrtmpctl nodes describe encoder-1"))
    _add_invite(nodes)
    orders = (
        ("accept", "let a node in whose start counter went back (a reverted snapshot)"),
        ("drain", "give a node no more work; what it runs goes on"),
        ("resume", "give a drained node work again"),
    )
    for verb, summary in orders:
        parser = _named(add_command(nodes, verb, "nodes:order", summary, f"ffrtmpctl nodes {verb} encoder-1"))
        parser.set_defaults(verb=verb)
    remove = _named(
        add_command(
            nodes,
            "remove",
            "nodes:remove",
            "take a node out for good: its attempts are given up and its key is not admitted any more",
            "ffrtmpctl nodes remove encoder-1",
            "ffrtmpctl nodes remove encoder-1 --force --yes",
        )
    )
    remove.add_argument("--force", action="store_true", help="also while it is in contact")
    remove.add_argument("--yes", action="store_true", help="do not ask")
    _add_label(nodes)


def _add_list(nodes: Commands) -> None:
    parser = add_command(
        nodes,
        "list",
        "nodes:list_nodes",
        "list the nodes",
        "ffrtmpctl nodes list",
        "ffrtmpctl nodes list --wait 3 --timeout 2min    # after a start: until three of them are ready",
    )
    parser.add_argument(
        "--wait",
        type=between(1, 10_000),
        nargs="?",
        const=1,
        metavar="N",
        help="first wait until N nodes are ready (default 1), and for the master too; no longer than --timeout",
    )


def _add_invite(nodes: Commands) -> None:
    parser = add_command(
        nodes,
        "invite",
        "nodes:invite",
        "make a one-time ticket with which another host joins the farm",
        "ffrtmpctl nodes invite --name encoder-1 --expires 1h",
        "ffrtmpctl nodes invite --replace encoder-1    # its host was installed anew",
    )
    parser.add_argument("--name", default="", metavar="NAME", help="what the node will be called")
    parser.add_argument("--expires", type=duration_s, default=3600.0, metavar="TIME", help="default 1h")
    parser.add_argument("--address", default="", metavar="HOST", help="the master, as the other host reaches it")
    parser.add_argument("--replace", default="", metavar="NODE", help="the node that the host takes the place of")


def _add_label(nodes: Commands) -> None:
    parser = _named(
        add_command(
            nodes,
            "label",
            "nodes:label",
            "set a node's labels, in place of those that were set before",
            "ffrtmpctl nodes label encoder-1 fast eu",
            "ffrtmpctl nodes label encoder-1 --clear",
        )
    )
    parser.add_argument("labels", nargs="*", metavar="LABEL")
    parser.add_argument("--clear", action="store_true", help="take all of them away")


def _named(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("node", metavar="NODE")
    return parser


def _add_scenarios(scenarios: Commands) -> None:
    add_command(scenarios, "list", "scenarios:list_scenarios", "list the recipes", "ffrtmpctl scenarios list")
    show = add_command(
        scenarios, "show", "scenarios:show", "tell all of a recipe", "ffrtmpctl scenarios show 1080p-h264"
    )
    show.add_argument("scenario", metavar="NAME")


def _add_config(config: Commands) -> None:
    parser = add_command(
        config,
        "recommend",
        "config:recommend",
        "measure this host and tell what its agent should offer; no master is needed",
        "ffrtmpctl config recommend",
        "ffrtmpctl config recommend --format toml | sudo tee /etc/ffrtmp/agent.toml.d/host.toml",
        conflict_handler="resolve",  # for a --format that has more words than elsewhere
    )
    parser.add_argument(
        "--format",
        dest="format",
        choices=("text", "table", "json", "toml", "env"),
        default=argparse.SUPPRESS,
        help="how to answer (default text; table is the same)",
    )


def _add_db(db: Commands) -> None:
    backup = add_command(
        db,
        "backup",
        "db:backup",
        "write a copy of the master's database while it works: PATH, and PATH.logs with the jobs' logs",
        "ffrtmpctl db backup /var/lib/ffrtmp/backups/monday.db",
    )
    backup.add_argument(
        "path",
        type=local_path,
        metavar="PATH",
        help="a new file on the master's host, in the master's state folder or below it (backups/ there is made): "
        "the master writes it with its own rights, for whoever may call, so it writes nowhere else",
    )
    restore = add_command(
        db,
        "restore",
        "db:restore",
        "put a backup in the database's place; the master must be stopped",
        "sudo systemctl stop ffrtmp-master.socket ffrtmp-master.service",
        "sudo ffrtmpctl db restore /var/lib/ffrtmp/backups/monday.db",
        "ffrtmpctl db restore farm/master/backups/monday.db --state-dir farm/master",
    )
    restore.add_argument("path", type=local_path, metavar="PATH", help="the backup; PATH.logs must be beside it")
    restore.add_argument(
        "--state-dir", type=local_path, metavar="DIR", help="the master's state folder, where its daemon is told one"
    )
    restore.add_argument("--db", type=local_path, metavar="PATH", help="the database, where its daemon is told one")
