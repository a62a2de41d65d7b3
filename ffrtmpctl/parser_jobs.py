"""The shape of the commands that see and steer jobs."""

from __future__ import annotations

import argparse

from ffrtmp.errors import Exit, FarmError

from .parser_parts import CLASSIFICATIONS, PRIORITIES, QUEUES, WAIT_HELP, Commands, add_command
from .values import between, job, since

STATE_HELP = "a state, or pending, processing, waiting, open, ended"


def add(jobs: Commands) -> None:
    """All commands below `jobs` but the submitting ones."""
    _add_list(jobs)
    _add_status(jobs)
    _add_logs(jobs)
    _add_many(jobs, "cancel", "end jobs at once and clear what they made", "ffrtmpctl jobs cancel --queue batch --yes")
    _add_many(jobs, "retry", "submit ended jobs again, as new jobs", "ffrtmpctl jobs retry --state failed")
    _add_ids(jobs, "stop", "end live jobs in the planned way (they come with live scenarios, not in this version)")
    _add_ids(jobs, "pause", "let jobs stand still; they keep their memory and give back their CPU")
    _add_ids(jobs, "resume", "let paused jobs go on, as soon as there is room")
    _add_id(jobs, "why", "jobs:why", "tell why a job waits, failed, or runs where it does")
    _add_id(jobs, "history", "jobs:history", "list every change of a job")
    _add_update(jobs)
    sla = add_command(
        jobs, "sla", "jobs:sla", "tell how many production jobs met their times", "ffrtmpctl jobs sla --since 24h"
    )
    sla.add_argument("--since", type=since, metavar="TIME", help="24h, or 2026-01-31")


def add_short(commands: Commands) -> None:
    """`list`, `status` and `logs` at the top."""
    _add_list(commands)
    _add_status(commands)
    _add_logs(commands)


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Which jobs; all filters hold together."""
    group = parser.add_argument_group("filters")
    group.add_argument("--state", metavar="STATE", help=STATE_HELP)
    group.add_argument("--queue", choices=QUEUES)
    group.add_argument("--priority", choices=PRIORITIES)
    group.add_argument("--node", metavar="NODE", help="the node that has it, or had it last")
    group.add_argument("--scenario", metavar="NAME")
    group.add_argument("--classification", choices=CLASSIFICATIONS)


def filters_of(args: argparse.Namespace) -> dict[str, str]:
    """The filters that were given."""
    names = ("state", "queue", "priority", "node", "scenario", "classification")
    return {name: value for name in names if (value := getattr(args, name))}


def _add_list(commands: Commands) -> None:
    parser = add_command(
        commands,
        "list",
        "jobs:list_jobs",
        "list jobs, the newest first",
        "ffrtmpctl jobs list --state open --queue live",
        "ffrtmpctl jobs list --state failed --all --json",
    )
    add_filters(parser)
    parser.add_argument("--limit", type=between(1, 1000), metavar="N", default=50, help="a page (default 50)")
    parser.add_argument("--after", metavar="KEY", help="the page that follows; the key stands under the page before")
    parser.add_argument("--all", action="store_true", help="all pages")
    parser.add_argument("--order", choices=("newest", "oldest"), help="which come first (default newest)")


def _add_status(commands: Commands) -> None:
    parser = _add_id(commands, "status", "jobs:status", "tell how a job is doing", "ffrtmpctl jobs status 42 --follow")
    parser.add_argument(
        "--wait",
        "--follow",
        dest="wait",
        action="store_true",
        help=WAIT_HELP,
    )


def _add_logs(commands: Commands) -> None:
    parser = _add_id(
        commands,
        "logs",
        "logs:logs",
        "show what the engine said",
        "ffrtmpctl jobs logs 42 --follow",
        "ffrtmpctl jobs logs 42 --attempt 1 --tail 20",
    )
    parser.add_argument("--follow", action="store_true", help="go on as it is written, over retries, until the end")
    parser.add_argument("--attempt", type=between(1, 1 << 30), metavar="N", help="by default the newest one")
    parser.add_argument("--tail", type=between(0, 1 << 30), metavar="N", help="the last N lines")


def _add_id(commands: Commands, name: str, run: str, summary: str, *lines: str) -> argparse.ArgumentParser:
    parser = add_command(commands, name, run, summary, *(lines or (f"ffrtmpctl jobs {name} 42",)))
    parser.add_argument("job", type=job, metavar="JOB", help="its number or UUID")
    return parser


def _add_ids(commands: Commands, name: str, summary: str) -> None:
    parser = add_command(commands, name, "jobs:order", summary, f"ffrtmpctl jobs {name} 42 43")
    parser.add_argument("jobs", nargs="+", type=job, metavar="JOB", help="number or UUID")
    parser.set_defaults(verb=name)


def _add_many(commands: Commands, name: str, summary: str, example: str) -> None:
    parser = add_command(commands, name, "many:many", summary, f"ffrtmpctl jobs {name} 42 43", example)
    parser.add_argument("jobs", nargs="*", type=job, metavar="JOB", help="number or UUID; or filters instead")
    add_filters(parser)
    parser.add_argument("--limit", type=between(1, 10_000), metavar="N", default=1000, help="by filter, at most N")
    parser.add_argument("--yes", action="store_true", help="by filter, do not ask")
    parser.set_defaults(verb=name)


def _add_update(commands: Commands) -> None:
    parser = add_command(
        commands,
        "update",
        "jobs:update",
        "give jobs that wait another queue or priority",
        "ffrtmpctl jobs update 42 --priority high",
    )
    parser.add_argument("jobs", nargs="+", type=job, metavar="JOB", help="number or UUID")
    parser.add_argument("--queue", choices=QUEUES)
    parser.add_argument("--priority", choices=PRIORITIES)


def needs_choice(args: argparse.Namespace) -> dict[str, str]:
    """The filters of `cancel` and `retry` where no job was named; raises FarmError unless exactly one way was taken."""
    chosen = filters_of(args)
    if bool(chosen) == bool(args.jobs):
        raise FarmError(
            "name either jobs or filters, not both" if chosen else "which jobs? name them, or give a filter",
            hint=f"ffrtmpctl jobs {args.verb} 42, or ffrtmpctl jobs {args.verb} --queue batch",
            code=Exit.USAGE,
        )
    return chosen
