"""What holds for every file of the project."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(HERE / "tools"))
import check_locks  # noqa: E402
import check_parity  # noqa: E402
import mutant_kinds  # noqa: E402

CODE = ("daemons", "ffrtmpctl", "tools", "bench")
LONGEST_MODULE = 600
LONGEST_FUNCTION = 70


def files() -> list[Path]:
    """What is committed, or would be."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={HERE}", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=HERE,
        check=True,
        capture_output=True,
    )
    paths = (HERE / name.decode() for name in listed.stdout.split(b"\0") if name)
    return [path for path in paths if path.is_file()]


def code() -> Iterator[tuple[Path, str]]:
    for path in files():
        if path.suffix == ".py" and path.relative_to(HERE).parts[0] in CODE:
            yield path, path.read_text()


def test_no_private_key_stands_in_the_tree():
    pattern = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE" + rb" KEY-----")
    assert [path for path in files() if pattern.search(path.read_bytes())] == []


def test_no_media_and_no_binary_is_committed():
    assert [path for path in files() if b"\0" in path.read_bytes()[:8192]] == []


def test_modules_and_functions_stay_readable():
    long = [f"{path}: {text.count(chr(10))} lines" for path, text in code() if text.count("\n") > LONGEST_MODULE]
    for path, text in code():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    long.append(f"{path}:{node.lineno} {node.name}: {length} lines")
    assert long == []


def test_nothing_is_left_for_later_in_the_code():
    left = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b")
    assert [str(path) for path, text in code() if left.search(text)] == []


def test_the_lock_files_are_complete_and_name_no_place():
    assert list(check_locks.found()) == []


def test_the_page_of_settings_is_as_the_code():
    done = subprocess.run(
        [sys.executable, "tools/config_reference.py", "--check"], cwd=HERE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_every_delivered_feature_names_tests_that_exist():
    table = (HERE / "docs" / "parity.md").read_text()
    assert list(check_parity.found(table, check_parity.tests_in(HERE / "tests"))) == []


def test_a_row_without_proof_or_with_a_test_that_is_gone_is_found():
    table = "| feature | bar | test |\n|---|---|---|\n| a | b | `test_is` |\n| c | d | `test_is_not` |\n| e | f | |\n"
    table += "| g | h | later: network |\n| i | j | done |\n"
    assert [fault.partition(":")[0] for fault in check_parity.found(table, {"test_is"})] == [
        'line 4, "c"',
        'line 5, "e"',
        'line 7, "i"',
    ]
    assert check_parity.counts(table) == (2, 3)


def test_every_link_between_pages_leads_somewhere():
    broken = []
    for page in (path for path in files() if path.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(HERE)}: {target}")
    assert broken == []


def test_every_mutant_that_is_explained_is_still_a_line_of_the_rules():
    entries = mutant_kinds.known()
    assert [str(entry) for entry in mutant_kinds.gone(entries)] == []
    assert len({str(entry) for entry in entries}) == len(entries) > 0
