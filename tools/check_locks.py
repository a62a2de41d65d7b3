"""Fails when a lock file is not what may be committed: every pin with a hash, no host, no path, nothing missing.

It compares requirements/*.txt with their *.in and with pyproject.toml; whether newer versions exist is not its concern.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent.parent
FOLDER = HERE / "requirements"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)")
STRANGE = re.compile(r"://|(^|\s)(/|~|\.\./)\S|--(extra-)?index-url|--find-links|--trusted-host|@ ")


def main() -> int:
    """0 when all is well, else 1 with a line for each fault."""
    faults = list(found())
    for fault in faults:
        print(f"check_locks: {fault}", file=sys.stderr)
    if not faults:
        print("check_locks: the lock files are complete and name no host and no path")
    return 1 if faults else 0


def found() -> Iterator[str]:
    """Each fault, as a sentence."""
    for lock in sorted(FOLDER.glob("*.txt")):
        content = lock.read_text()
        yield from _strange_lines(lock.name, content)
        pinned = pins(content)
        for name in sorted(wanted(lock.with_suffix(".in")) - set(pinned)):
            yield f"{lock.name} does not pin {name}: lock again, see CONTRIBUTING.md"
    project = tomllib.loads((HERE / "pyproject.toml").read_text())
    yield from _against(project["project"]["dependencies"], "run")
    for group in project["dependency-groups"].values():
        yield from _against(group, "dev")


def pins(content: str) -> dict[str, str]:
    """Version by name of a lock file."""
    matches = (PIN.match(line) for line in content.splitlines())
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


def wanted(listing: Path) -> set[str]:
    """Names that an .in file asks for, those of the files that it includes among them."""
    names: set[str] = set()
    for line in (raw.split("#")[0].strip() for raw in listing.read_text().splitlines()):
        if line.startswith("-r "):
            names |= wanted(listing.parent / line.removeprefix("-r "))
        elif line:
            names.add(canonicalize_name(Requirement(line).name))
    return names


def _strange_lines(name: str, content: str) -> Iterator[str]:
    for number, line in enumerate(content.splitlines(), 1):
        if STRANGE.search(line):
            yield f"{name}:{number} names a place: {line.strip()}"
    for block in re.split(r"\n(?=[A-Za-z0-9])", content):
        if PIN.match(block) and "--hash=sha256:" not in block:
            yield f"{name}: {block.splitlines()[0]} has no hash"


def _against(requirements: list[str], lock: str) -> Iterator[str]:
    pinned = pins((FOLDER / f"{lock}.txt").read_text())
    for requirement in map(Requirement, requirements):
        version = pinned.get(canonicalize_name(requirement.name))
        if version is None:
            yield f"{lock}.txt does not pin {requirement.name}, which pyproject.toml asks for"
        elif version not in requirement.specifier:
            yield f"{lock}.txt pins {requirement.name} {version}, pyproject.toml asks for {requirement.specifier}"


if __name__ == "__main__":
    sys.exit(main())
