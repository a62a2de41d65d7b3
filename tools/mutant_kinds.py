"""Mutants that live and are known to mean the same, by kind, each with the reason: tools/equivalent_mutants.toml.

An entry names a module, a function ("" outside of functions), a piece of its text and what the mutant makes of it. It goes by the
text, so that it outlives changes elsewhere; one whose text is not there any more, or whose mutant was noticed, is reported.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "daemons" / "ffrtmp" / "farm"
TABLE = Path(__file__).with_name("equivalent_mutants.toml")

Result = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """A change that nothing can notice. Blanks do not count in `before` and `after`."""

    kind: str
    module: str
    function: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.module} {self.function}: {self.before} -> {self.after}"

    def is_of(self, result: Result) -> bool:
        """Whether that is this change."""
        if (Path(result["module"]).name, result["function"]) != (self.module, self.function):
            return False
        old, new = (_bare("".join(_lines(result["diff"], sign))) for sign in "-+")
        before, after = _bare(self.before), _bare(self.after)
        places = (place for place in range(len(old)) if old.startswith(before, place))
        return any(old[:place] + after + old[place + len(before) :] == new for place in places)


def known() -> list[Known]:
    """The table."""
    kinds = tomllib.loads(TABLE.read_text())["kind"]
    return [Known(kind["name"], *words) for kind in kinds for words in kind["mutants"]]


def gone(entries: list[Known]) -> Iterator[Known]:
    """Entries whose text is not in their function any more."""
    texts: dict[tuple[str, str], str] = {}
    for path in sorted(RULES.glob("*.py")):
        text = path.read_text()
        texts[(path.name, "")] = _bare(text)
        for node in ast.parse(text).body:
            for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
                if isinstance(inner, ast.FunctionDef):
                    name = f"{node.name}.{inner.name}" if isinstance(node, ast.ClassDef) else inner.name
                    texts[(path.name, name)] = _bare(ast.get_source_segment(text, inner) or "")
    for entry in entries:
        if _bare(entry.before) not in texts.get((entry.module, entry.function), ""):
            yield entry


def _lines(diff: str, sign: str) -> list[str]:
    return [line[1:] for line in diff.splitlines() if line[:1] == sign]


def _bare(text: str) -> str:
    return "".join(text.split())
