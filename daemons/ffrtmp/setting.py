"""What one setting is: how its value is read, bounded and explained.

A configuration class is a frozen msgspec struct whose fields carry a `Setting` as annotation. That one declaration
gives the flag, the environment variable and the TOML key, the help text and the row in docs/configuration.md.
The functions below make the annotations: `lost_after: Annotated[float, duration("...")] = 15.0`.

A `read` function takes text (a flag, the environment) or what TOML gave, and raises ValueError in words.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from ffrtmp.quantity import format_duration, format_size, parse_duration_s, parse_size_bytes

Form = Literal["one", "many", "table", "switch"]
N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Setting:
    """How one field of a configuration is given. `form` says how flags and layers add up.

    one: the last word counts; switch: the same, as --name and --no-name; many: a list, replaced as a whole by a later
    layer; table: names with values, where a later layer adds to or replaces the names that it gives.
    """

    help: str
    read: Callable[[object], Any]
    show: Callable[[Any], str]
    metavar: str
    form: Form = "one"
    group: str = ""
    flag: str = ""  # the flag's name where it is not the field's
    choices: tuple[str, ...] = ()


def duration(help: str, *, least: float = 0.0, most: float = 10 * 365 * 86_400.0, group: str = "") -> msgspec.Meta:
    """Seconds as a float; written as "15s", "6h" or a number of seconds."""

    def read(value: object) -> float:
        seconds = parse_duration_s(value) if isinstance(value, str) else _number(value)
        return _bounded(seconds, least, most, format_duration)

    return _meta(Setting(help, read, format_duration, "TIME", group=group))


def size(help: str, *, least: int = 0, most: int = 1 << 50, group: str = "") -> msgspec.Meta:
    """Bytes as an int; written as "16MiB" or a number of bytes."""

    def read(value: object) -> int:
        return _bounded(parse_size_bytes(value) if isinstance(value, str) else _whole(value), least, most, format_size)

    return _meta(Setting(help, read, format_size, "SIZE", group=group))


def count(help: str, *, least: int = 0, most: int = 1 << 31, group: str = "") -> msgspec.Meta:
    """A whole number."""

    def read(value: object) -> int:
        return _bounded(_whole(value), least, most, str)

    return _meta(Setting(help, read, str, "N", group=group))


def number(help: str, *, least: float, most: float, group: str = "") -> msgspec.Meta:
    """A number that may have a fraction; a trailing % is read over."""

    def read(value: object) -> float:
        return _bounded(_number(value.rstrip(" %") if isinstance(value, str) else value), least, most, "{:g}".format)

    return _meta(Setting(help, read, "{:g}".format, "N", group=group))


def text(help: str, *, metavar: str = "TEXT", group: str = "", check: Callable[[str], str] = str) -> msgspec.Meta:
    """Words. `check` returns the text to keep or raises ValueError."""

    def read(value: object) -> str:
        return check(_text(value))

    return _meta(Setting(help, read, str, metavar, group=group))


def choice(help: str, choices: tuple[str, ...], *, group: str = "") -> msgspec.Meta:
    """One of a few words."""

    def read(value: object) -> str:
        word = _text(value)
        if word not in choices:
            raise ValueError(f'"{word}" is none of {", ".join(choices)}{nearest(word, choices)}')
        return word

    return _meta(Setting(help, read, str, "|".join(choices), group=group, choices=choices))


def path(help: str, *, metavar: str = "PATH", group: str = "") -> msgspec.Meta:
    """A path; a relative one is taken from the working directory."""
    return _meta(Setting(help, _path, str, metavar, group=group))


def paths(help: str, *, metavar: str = "DIR", flag: str = "", group: str = "") -> msgspec.Meta:
    """Several paths: a TOML array, a repeated flag, or separated by ":" in the environment."""

    def read(value: object) -> tuple[Path, ...]:
        return tuple(_path(item) for item in _listed(value, ":"))

    def show(value: tuple[Path, ...]) -> str:
        return ":".join(map(str, value))

    return _meta(Setting(help, read, show, metavar, form="many", group=group, flag=flag))


def words(help: str, *, metavar: str = "WORD", flag: str = "", group: str = "") -> msgspec.Meta:
    """Several words: a TOML array, a repeated flag, or separated by commas."""

    def read(value: object) -> tuple[str, ...]:
        parts = [part.strip() for item in _listed(value, ",") for part in _text(item).split(",")]
        return tuple(dict.fromkeys(part for part in parts if part))

    return _meta(Setting(help, read, ",".join, metavar, form="many", group=group, flag=flag))


def switch(help: str, *, group: str = "") -> msgspec.Meta:
    """On or off: --name or --no-name, true or false."""

    def read(value: object) -> bool:
        if isinstance(value, bool):
            return value
        word = _text(value).lower()
        if word in ("1", "true", "yes", "on"):
            return True
        if word in ("0", "false", "no", "off"):
            return False
        raise ValueError(f'"{word}" is neither yes nor no')

    return _meta(Setting(help, read, lambda value: "yes" if value else "no", "yes|no", form="switch", group=group))


def table(
    help: str,
    item: Callable[[str, object], Any],
    show_item: Callable[[Any], str],
    *,
    metavar: str,
    flag: str = "",
    group: str = "",
) -> msgspec.Meta:
    """Names with values: a TOML table, a repeated flag NAME=VALUE, or those separated by commas.

    `item` makes the value of a name from text or from what TOML gave.
    """

    def read(value: object) -> dict[str, Any]:
        pairs = value if isinstance(value, Mapping) else dict(_pair(part) for part in _listed(value, ","))
        return {str(name): item(str(name), given) for name, given in pairs.items()}

    def show(value: Mapping[str, Any]) -> str:
        return ",".join(f"{name}={show_item(given)}" for name, given in value.items())

    return _meta(Setting(help, read, show, metavar, form="table", group=group, flag=flag))


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence, `; did you mean "..."?`, or nothing where no known word is near."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{found[0]}"?' if found else ""


def _meta(setting: Setting) -> msgspec.Meta:
    return msgspec.Meta(extra={"setting": setting})


def _bounded(value: N, least: float, most: float, show: Callable[[Any], str]) -> N:
    if not least <= value <= most:
        raise ValueError(f"{show(value)} is out of bounds, {show(least)} to {show(most)} are possible")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("a number is wanted")
    try:
        return float(value)
    except ValueError:
        raise ValueError(f'"{value}" is not a number') from None
    except OverflowError:  # TOML has numbers of any length
        raise ValueError("a number beyond all bounds") from None


def _whole(value: object) -> int:
    found = _number(value)
    if not found.is_integer():
        raise ValueError(f'"{value}" is not a whole number')
    return int(found)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("text is wanted, in quotation marks")
    return value


def _path(value: object) -> Path:
    if not _text(value):
        raise ValueError("a path is wanted")
    return Path(_text(value)).expanduser().absolute()


def _listed(value: object, separator: str) -> list[object]:
    if isinstance(value, str):
        return [part for part in value.split(separator) if part]
    if isinstance(value, list | tuple):
        return list(value)
    raise ValueError("a list is wanted")


def _pair(value: object) -> tuple[str, str]:
    name, equals, rest = _text(value).partition("=")
    if not (name and equals and rest):
        raise ValueError(f'"{value}" is not of the form NAME=VALUE')
    return name.strip(), rest.strip()
