"""The store of a master: "commit this turn", and what is needed round it. Questions are `Reader`'s.

Two SQLite files. The database holds what the promises rest on; the logs are bulk, and are written in small transactions
of their own, so that a log that arrives never lengthens a turn. Everything here may be called from any thread; writes wait
for one another. All of it raises `StoreRefused` (nothing was written, try again) or `StoreBroken` (end the process).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from ..rows import Loaded, StoreBroken, StoreRefused, TurnRows
from . import history, loading, logs, retention, schema, turns
from .backup import BackupMade, backup
from .database import Database, RowsRejected, exclusive, rows
from .high_water import BLOCK, NumbersFile
from .logs import LogAppend
from .reader import Reader

log = logging.getLogger(__name__)

LOG_MAX_BYTES = 16 << 20
NUMBERS_MAX = 1 << 53  # what JSON's readers can tell apart


class Store:
    """An open store, held by this process alone."""

    def __init__(
        self,
        database: Database,
        log_database: Database,
        numbers: NumbersFile,
        *,
        restored: bool,
        log_max_bytes: int,
        release: Callable[[], None],
    ) -> None:
        """Use `Store.open`."""
        self.path = database.path
        self.logs_path = log_database.path
        self.restored = restored
        self._database = database
        self._logs = log_database
        self._numbers = numbers
        self._log_max_bytes = log_max_bytes
        self._release = release
        self._lineage = str(rows(database.connection, "SELECT lineage FROM meta")[0][0])

    @classmethod
    def open(
        cls,
        path: Path,
        logs_path: Path,
        *,
        log_max_bytes: int = LOG_MAX_BYTES,
        numbers_block: int = BLOCK,
        fresh_lineage: str = "",
    ) -> Store:
        """Open the store, or make a new one; migrates, and looks for damage after an unclean stop.

        `log_max_bytes` bounds each attempt's log; `numbers_block` numbers of jobs are reserved at a time; `fresh_lineage`
        names the history of a new or restored store (empty: from the system's randomness). Raises FarmError: in use, damaged,
        of a newer ffrtmp, no room; StoreRefused or StoreBroken where the disk fails meanwhile.
        """
        with ExitStack() as stack:
            stack.enter_context(exclusive(path))
            database = Database.open(path, schema.APPLICATION_ID, schema.MIGRATIONS)
            stack.callback(database.close)
            log_database = Database.open(logs_path, schema.LOGS_APPLICATION_ID, schema.LOGS_MIGRATIONS)
            stack.callback(log_database.close)
            loading.check_after_crash(database, log_database)
            numbers = NumbersFile(path, numbers_block)
            stack.callback(numbers.close)
            restored = loading.begin(database, numbers, fresh_lineage or secrets.token_hex(8))
            if restored:
                log.warning("an older database was put back: a new lineage begins, numbers were raised")
            return cls(
                database,
                log_database,
                numbers,
                restored=restored,
                log_max_bytes=log_max_bytes,
                release=stack.pop_all().close,
            )

    def load(self, offset_s: float) -> Loaded:
        """All that is open, on this life's clock: farm time = wall time - `offset_s`."""
        with self._database.lock:
            return loading.load(self._database.connection, offset_s, self.restored, self._numbers.restores)

    def commit(self, turn: TurnRows) -> None:
        """Write a turn; when this returns it is on disk. RowsRejected (a StoreRefused) where its rows make no sense."""
        if turn.next_job > NUMBERS_MAX:
            raise RowsRejected(f"{turn.next_job} is no job number")
        self._numbers.reserve(turn.next_job)
        try:
            with self._database.transaction() as connection:
                turns.write(connection, turn)
        except (ValueError, OverflowError, TypeError) as error:
            # A text that is no Unicode, a number beyond 64 bits: nothing that a disk could ever hold.
            raise RowsRejected(f"the turn holds what cannot be stored: {error}") from error
        if turn.lineage is not None:
            self._lineage = turn.lineage.lineage
        self._numbers.note(self._lineage, turn.turn)

    def append_log(self, job: int, attempt: int, offset: int, data: bytes) -> None:
        """Put bytes of an attempt's log at their place; what is there already is passed over."""
        self.append_logs((LogAppend(job, attempt, offset, data),))

    def append_logs(self, chunks: Sequence[LogAppend]) -> tuple[bool, ...]:
        """Put many chunks in one transaction, on disk when this returns; says which were taken (see logs.append).

        RowsRejected for a place that no log has.
        """
        try:
            with self._logs.transaction() as connection:
                return logs.append(connection, chunks, self._log_max_bytes)
        except (ValueError, OverflowError) as error:
            raise RowsRejected(f"a log cannot be kept: {error}") from error

    def retire(self, before_s: float, limit: int = 1000) -> int:
        """Forget jobs that ended before `before_s`, about `limit` rows; returns how many, 0: nothing is left."""
        return retention.retire(self._database, self._logs, before_s, limit)

    def backup(self, path: Path) -> BackupMade:
        """Copy the store to `path` and `path`.logs while it works. Takes its time: call it on a thread of its own."""
        return backup(self.path, self.logs_path, path)

    def reader(self) -> Reader:
        """A reader for the calling thread; to be closed before the store."""
        return Reader(self.path, self.logs_path)

    def verify_history(self) -> list[str]:
        """What is wrong between history, jobs and counters (P10), in sentences; empty when all is well."""
        with self._database.lock:
            return history.problems(self._database.connection)

    def close(self) -> None:
        """Mark a clean stop and let go of the files. After StoreBroken no mark is set, and the next start looks."""
        if not self._database.broken and not self._logs.broken:
            with suppress(StoreRefused, StoreBroken), self._database.transaction() as connection:
                connection.execute("UPDATE meta SET clean = 1")
        self._release()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()
