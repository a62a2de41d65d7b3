"""What worlds reach of the code has a bound, and falls under it when a branch is not reached any more."""

from __future__ import annotations

from typing import Any

from simulation.covered import DAEMONS, GUARDS, Area, Reached, reached

RULES = Area("the rules", ("ffrtmp/farm/*",), 100.0)


def part(**fields: Any) -> dict[str, Any]:
    return {"executed_lines": [], "missing_lines": [], "executed_branches": [], "missing_branches": [], **fields}


def look(area: Area, file: str, **functions: dict[str, Any]) -> Reached:
    return reached(area, {f"daemons/{file}": {"functions": functions}})


def test_a_branch_of_the_rules_that_no_world_took_is_told_by_its_line() -> None:
    rank = part(executed_lines=[80, 81, 82, 83], executed_branches=[[83, 84]], missing_branches=[[83, 86]])
    found = look(RULES, "ffrtmp/farm/queue.py", rank=rank)
    assert not found.enough
    assert found.percent == 100.0 * 5 / 6
    assert [line.partition(": ")[0] for line in found.missing] == ["queue.py:83 -> 86"]


def test_nine_tenths_are_enough_where_that_is_asked_for() -> None:
    area = Area("turn.py", ("ffrtmp_master/turn.py",), 90.0)
    tenth = part(executed_lines=list(range(1, 10)), missing_lines=[10])
    assert look(area, "ffrtmp_master/turn.py", decide=tenth).enough
    assert not look(area, "ffrtmp_master/turn.py", decide=tenth | {"missing_lines": [10, 11]}).enough


def test_what_is_never_seen_is_not_enough() -> None:
    assert not reached(RULES, {}).enough


def test_functions_that_are_not_of_the_commit_path_count_for_nothing() -> None:
    area = Area("commits", ("ffrtmp_master/store/database.py",), 90.0, {"database.py": ("Database.transaction",)})
    transaction, other = part(executed_lines=[1]), part(missing_lines=[2, 3])
    found = reached(
        area,
        {"daemons/ffrtmp_master/store/database.py": {"functions": {"Database.transaction": transaction, "x": other}}},
    )
    assert found.enough
    assert found.there == 1


def test_each_guard_that_is_excused_still_stands_in_the_code() -> None:
    sources = {path.name: path.read_text() for path in (DAEMONS / "ffrtmp" / "farm").glob("*.py")}
    for place, lines in GUARDS.items():
        file, _, function = place.partition(":")
        assert f"def {function.rpartition('.')[2]}(" in sources[file], place
        for line in lines:
            assert line in sources[file], f"{place}: {line}"
