"""Fails when docs/parity.md claims what no test shows: a delivered row names tests, and each of them exists.

A row of its tables ends with a cell of test names in backquotes, one of which is enough to be delivered; a row that is
not delivered says `later` with the theme it belongs to, and nothing else.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
TABLE = HERE / "docs" / "parity.md"
NAME = re.compile(r"`(test_\w+)`")
LATER = re.compile(r"later: \w[\w ,-]*")


def main() -> int:
    """0 when all is well, else 1 with a line for each fault."""
    faults = list(found(TABLE.read_text(), tests_in(HERE / "tests")))
    for fault in faults:
        print(f"check_parity: {fault}", file=sys.stderr)
    if not faults:
        delivered, later = counts(TABLE.read_text())
        print(f"check_parity: {delivered} rows delivered, each with its tests; {later} for later")
    return 1 if faults else 0


def found(table: str, tests: set[str]) -> Iterator[str]:
    """Each fault of the table, as a sentence."""
    for number, feature, proof in rows(table):
        names = NAME.findall(proof)
        if not names and not LATER.fullmatch(proof):
            yield f'line {number}, "{feature}": the last cell names a test in backquotes, or says "later: THEME"'
        for name in names:
            if name not in tests:
                yield f'line {number}, "{feature}": there is no {name} in tests/'


def counts(table: str) -> tuple[int, int]:
    """How many rows are delivered, and how many are not yet."""
    proofs = [bool(NAME.search(proof)) for _, _, proof in rows(table)]
    return proofs.count(True), proofs.count(False)


def rows(table: str) -> Iterator[tuple[int, str, str]]:
    """(line number, first cell, last cell) of each row under a table's head."""
    for number, line in enumerate(table.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        is_row = line.startswith("|") and len(cells) > 1
        if is_row and cells[-1] != "test" and not set(cells[0]) <= set("-: "):
            yield number, cells[0], cells[-1]


def tests_in(folder: Path) -> set[str]:
    """The names of all test functions under a folder."""
    names: set[str] = set()
    for file in folder.rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                names.add(node.name)
    return names


if __name__ == "__main__":
    sys.exit(main())
