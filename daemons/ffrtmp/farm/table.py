"""Tables of frozen records whose writes can be taken back.

Why: every event must be undoable alone (its rule may raise) and every turn as a whole (its commit may fail). Each write puts
(table, key, old value) on one list; undoing is walking it backwards. The same list says what a turn has changed, so
nothing else has to remember what must be written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

Undo = list[tuple["Table[Any, Any]", Any, Any]]


class Table(Generic[K, V]):
    """A dict of frozen records whose writes are put on an undo list and told to one listener."""

    __slots__ = ("_listener", "_rows", "_undo")

    def __init__(self, undo: Undo, listener: Callable[[K, V | None, V | None], None] | None = None) -> None:
        """`listener(key, old, new)` is called at each write and at each undo of one; None stands for no row."""
        self._rows: dict[K, V] = {}
        self._undo = undo
        self._listener = listener

    def get(self, key: K) -> V | None:
        """The row, or None."""
        return self._rows.get(key)

    def __getitem__(self, key: K) -> V:
        return self._rows[key]

    def __contains__(self, key: K) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[K]:
        return iter(self._rows)

    def rows(self) -> list[V]:
        """All rows, as a list that stays as it is while the table changes."""
        return list(self._rows.values())

    def put(self, key: K, row: V | None) -> None:
        """Write a row; None takes it away."""
        self._undo.append((self, key, self._rows.get(key)))
        self.restore(key, row)

    def restore(self, key: K, row: V | None) -> None:
        """Write without a way back: for undoing and loading."""
        old = self._rows.get(key)
        if row is None:
            self._rows.pop(key, None)
        else:
            self._rows[key] = row
        if self._listener is not None:
            self._listener(key, old, row)
