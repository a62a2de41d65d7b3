"""Schemas: every way up leads to the same tables."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from store.book import Book, open_store

from ffrtmp_master.store import examine, schema
from ffrtmp_master.store.database import Database, migrate, rows, version_of


def _tables(connection: apsw.Connection) -> list[tuple[object, ...]]:
    return rows(connection, "SELECT type, name, sql FROM sqlite_schema ORDER BY name")


@pytest.mark.parametrize(
    ("kind", "steps"),
    [(schema.APPLICATION_ID, schema.MIGRATIONS), (schema.LOGS_APPLICATION_ID, schema.LOGS_MIGRATIONS)],
)
def test_a_database_of_any_older_version_becomes_what_a_new_one_is(tmp_path: Path, kind: int, steps: tuple[str, ...]):
    fresh = Database.open(tmp_path / "fresh.db", kind, steps)
    for version in range(1, len(steps) + 1):
        path = tmp_path / f"{version}.db"
        Database.open(path, kind, steps[:version]).close()
        lifted = Database.open(path, kind, steps)
        assert _tables(lifted.connection) == _tables(fresh.connection)
        lifted.close()
    fresh.close()


def test_a_store_with_jobs_in_it_is_brought_up_and_keeps_them(tmp_path: Path):
    with open_store(tmp_path) as store:
        book = Book()
        number = book.submit()
        book.commit(store)
    coming = (*schema.MIGRATIONS, "ALTER TABLE jobs ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'")
    lifted = Database.open(tmp_path / "farm.db", schema.APPLICATION_ID, coming)
    assert rows(lifted.connection, "SELECT number, colour FROM jobs") == [(number, "grey")]
    assert version_of(lifted.connection) == len(coming)
    lifted.close()


def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path):
    with open_store(tmp_path):
        pass
    coming = (*schema.MIGRATIONS, "CREATE TABLE halfway (x) STRICT; SELECT * FROM nowhere")
    connection = apsw.Connection(str(tmp_path / "farm.db"))
    with pytest.raises(apsw.SQLError):
        migrate(connection, tmp_path / "farm.db", schema.APPLICATION_ID, coming)
    assert version_of(connection) == len(schema.MIGRATIONS)
    assert rows(connection, "SELECT 1 FROM sqlite_schema WHERE name = 'halfway'") == []
    connection.close()
    assert examine(tmp_path / "farm.db") == []


def test_every_table_is_strict_and_free_pages_can_be_given_back(tmp_path: Path):
    with open_store(tmp_path):
        for name in ("farm.db", "logs.db"):
            connection = apsw.Connection(str(tmp_path / name))
            loose = rows(connection, "SELECT name FROM pragma_table_list WHERE NOT strict AND name NOT LIKE 'sqlite_%'")
            assert loose == []
            assert rows(connection, "PRAGMA auto_vacuum") == [(2,)]
            assert rows(connection, "PRAGMA journal_mode") == [("wal",)]
            connection.close()
