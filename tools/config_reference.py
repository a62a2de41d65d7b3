"""Writes docs/configuration.md from the declarations of the settings; `--check` says whether it is as they are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ffrtmp.config import Config, defaults, flag_of, settings, shown_default
from ffrtmp.config_agent import AgentConfig
from ffrtmp.config_master import MasterConfig

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
HEAD = """# Configuration

This page is made from the code: `python tools/config_reference.py`.

A setting can stand in the TOML file, in a drop-in `FILE.d/*.toml` (read in the order of their names), in the
environment, or be a flag; the later in this list wins. In a table such as `media_roots` a later place adds names, a
list is replaced as a whole. Times are written as `15s`, `10min`, `6h`, `7d` or a number of seconds; sizes as `16MiB`,
`2G` (both binary), `2GB` (decimal) or a number of bytes. An unknown name is an error, in all four places: a setting
that is misspelt is not passed over. `--config FILE` (or the variable `..._CONFIG`) names another file.
"""
PROGRAMS: tuple[tuple[str, type[Config]], ...] = (("ffrtmp-master", MasterConfig), ("ffrtmp-agent", AgentConfig))


def main(argv: list[str]) -> int:
    """Write the page, or with --check compare; returns the exit status."""
    content = page()
    if argv == ["--check"]:
        current = PAGE.exists() and PAGE.read_text() == content
        print("docs/configuration.md is " + ("as the code" if current else "old: python tools/config_reference.py"))
        return 0 if current else 1
    PAGE.write_text(content)
    return 0


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for program, config in PROGRAMS:
        files = ", ".join(f"`{file}`" for file in config.DEFAULT_FILES)
        parts += [f"## {program}", f"File: {files}. Environment: `{config.ENV_PREFIX}` and the name in capitals.\n"]
        parts += ["| name | flag | default | what it is |", "|---|---|---|---|", *rows(config), ""]
    return "\n".join(parts)


def rows(config: type[Config]) -> Iterator[str]:
    """A row of the table for each setting."""
    standing = defaults(config)
    for name, setting in settings(config).items():
        shown = shown_default(setting, standing[name])
        word = "" if setting.form == "switch" else f" {setting.metavar}".replace("|", "\\|")
        default = f"`{shown}`" if shown else ""
        yield f"| `{name}` | `{flag_of(name, setting)}{word}` | {default} | {setting.help} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
