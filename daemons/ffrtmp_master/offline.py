"""What is done to a database while no master runs: putting a backup back, and looking for damage."""

from __future__ import annotations

import logging
import secrets
import sys
from pathlib import Path

from ffrtmp.errors import Exit, FarmError

from .store import history
from .store.backup import restore as put_back

log = logging.getLogger(__name__)
WHERE = "name the master's folder or its database, as the daemon is told them: --state-dir DIR or --db PATH"


def logs_path(database: Path) -> Path:
    """The log store beside a database."""
    return database.with_name(f"{database.name}.logs")


def restore(backup: Path, database: Path) -> int:
    """Put the database back to a backup; what was there is kept beside it. Raises FarmError.

    There may be no database yet (a new disk), but there must be its folder: a wrong place is not made.
    """
    if not database.parent.is_dir():
        raise FarmError(f"there is no folder {database.parent} for the database", hint=WHERE, code=Exit.NOT_FOUND)
    done = put_back(backup, database, logs_path(database), secrets.token_hex(8))
    for kept in done.kept:
        print(f"kept what was there as {kept}")
    print(f"{database} is as it was at turn {done.turn}; the next start opens a new lineage and adopts what runs")
    return Exit.DONE


def check(database: Path) -> int:
    """Replay the history and compare it with the tables (P10). Raises FarmError."""
    if not database.is_file():
        raise FarmError(f"there is no database {database}", hint=WHERE, code=Exit.NOT_FOUND)
    problems = history.examine(database)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{database}: the history gives the state")
    return Exit.FAILED if problems else Exit.DONE
