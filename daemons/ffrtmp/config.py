"""Configuration: typed frozen structs, filled from files, drop-ins, the environment and flags, in that order.

A program's settings are a subclass of `Config` (see config_master.py, config_agent.py). Each field is declared once
(see setting.py) and can be given as

* a key of the TOML file, `lost_after = "15s"`,
* the same in a drop-in, `FILE.d/*.toml`, read in the order of their names,
* an environment variable, `FFRTMP_MASTER_LOST_AFTER=15s`,
* a flag, `--lost-after 15s`,

where the later wins. A word that nobody knows is an error with the nearest known one as hint: a setting that is
misspelt must not be passed over. Whatever is wrong, `Source.load` raises and gives nothing, so that a reload either
has a whole new configuration or keeps the old one.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
from msgspec import Struct

from ffrtmp.errors import Exit, FarmError
from ffrtmp.setting import Setting, nearest


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all configurations have in common."""

    ENV_PREFIX: ClassVar[str] = "FFRTMP_"
    DEFAULT_FILES: ClassVar[tuple[Path, ...]] = ()

    def problem(self) -> str | None:
        """What is wrong between the settings, in words, or None."""
        return None


C = TypeVar("C", bound=Config)


@dataclass(frozen=True, slots=True)
class Layer:
    """Values as one place gives them; `place` says where a key stands, for people."""

    values: Mapping[str, Any]
    place: Callable[[str], str]
    code: Exit = Exit.CONFIG


@dataclass(frozen=True, slots=True)
class Source(Generic[C]):
    """Where a configuration comes from; `load` again to reload it."""

    config: type[C]
    flags: Mapping[str, Any]
    environ: Mapping[str, str]
    default_files: tuple[Path, ...] = ()

    def load(self) -> C:
        """A whole configuration; raises FarmError (78 for files and environment, 2 for flags) and changes nothing."""
        return _combine(self.config, list(self._layers()))

    def _layers(self) -> Iterator[Layer]:
        wanted = self.flags.get("config") or self.environ.get(f"{self.config.ENV_PREFIX}CONFIG")
        files = [Path(wanted)] if wanted else [file for file in self.default_files if file.exists()]
        for file in files:
            yield _file_layer(file)
        for file in files or self.default_files:
            for dropin in sorted(Path(f"{file}.d").glob("*.toml")):
                yield _file_layer(dropin)
        yield _environment_layer(self.config, self.environ)
        given = {name: self.flags[name] for name in settings(self.config) if name in self.flags}
        yield Layer(given, lambda name: flag_of(name, settings(self.config)[name]), Exit.USAGE)


def load(
    config: type[C], argv: Sequence[str], environ: Mapping[str, str], default_files: Sequence[Path] | None = None
) -> C:
    """The configuration of a program that has no flags but its settings.

    Unknown flags end the program with status 2, as argparse does; everything else that is wrong is a FarmError.
    """
    flags = vars(build_parser(config, "ffrtmp").parse_args(list(argv)))
    return source(config, flags, environ, default_files).load()


def source(
    config: type[C], flags: Mapping[str, Any], environ: Mapping[str, str], default_files: Sequence[Path] | None = None
) -> Source[C]:
    """For programs with flags of their own: `flags` is vars() of what `build_parser`'s parser gave."""
    files = config.DEFAULT_FILES if default_files is None else default_files
    return Source(config, dict(flags), dict(environ), tuple(files))


def settings(config: type[Config]) -> dict[str, Setting]:
    """The settings of a configuration by field name, in order."""
    found = {}
    for info in msgspec.structs.fields(config):
        for meta in getattr(info.type, "__metadata__", ()):
            if isinstance(meta, msgspec.Meta) and meta.extra:
                found[info.name] = meta.extra["setting"]
    return found


def defaults(config: type[Config]) -> dict[str, Any]:
    """The default of each setting by field name."""
    whole = config()
    return {name: getattr(whole, name) for name in settings(config)}


def differences(old: C, new: C) -> tuple[str, ...]:
    """The names of the settings that differ, to be logged after a reload."""
    return tuple(name for name in settings(type(old)) if getattr(old, name) != getattr(new, name))


def flag_of(name: str, setting: Setting) -> str:
    """The flag of a setting, with its dashes."""
    return f"--{setting.flag or name.replace('_', '-')}"


def variable_of(config: type[Config], name: str) -> str:
    """The environment variable of a setting."""
    return f"{config.ENV_PREFIX}{name.upper()}"


def shown_default(setting: Setting, value: Any) -> str:
    """A default as a user would write it; empty where there is none."""
    return "" if value is None else setting.show(value)


def build_parser(config: type[Config], prog: str, description: str = "") -> argparse.ArgumentParser:
    """A parser with a flag for each setting, and `--config FILE`; a program adds its own flags to it."""
    parser = argparse.ArgumentParser(prog=prog, description=description, allow_abbrev=False)
    standing = defaults(config)
    groups: dict[str, Any] = {"": parser}
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"the TOML file; drop-ins are in FILE.d/ ({config.ENV_PREFIX}CONFIG)",
    )
    for name, setting in settings(config).items():
        group = groups.setdefault(setting.group, None) or parser.add_argument_group(setting.group)
        groups[setting.group] = group
        _add_flag(group, name, setting, _help(config, name, setting, standing[name]))
    return parser


def _add_flag(group: Any, name: str, setting: Setting, help_text: str) -> None:
    common: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": help_text}
    if setting.form == "switch":
        group.add_argument(flag_of(name, setting), action=argparse.BooleanOptionalAction, **common)
    elif setting.form == "one":
        group.add_argument(flag_of(name, setting), metavar=setting.metavar, **common)
    else:
        group.add_argument(flag_of(name, setting), metavar=setting.metavar, action="append", **common)


def _help(config: type[Config], name: str, setting: Setting, default: Any) -> str:
    shown = shown_default(setting, default)
    return f"{setting.help} ({f'default {shown}; ' if shown else ''}{variable_of(config, name)})".replace("%", "%%")


def _combine(config: type[C], layers: list[Layer]) -> C:
    known = settings(config)
    values: dict[str, Any] = {}
    for layer in layers:
        for name, given in layer.values.items():
            if name not in known:
                raise _unknown(layer, name, known)
            value = _read(layer, name, known[name], given)
            values[name] = {**values.get(name, {}), **value} if known[name].form == "table" else value
    whole = config(**values)
    problem = whole.problem()
    if problem:
        raise FarmError(f"the configuration contradicts itself: {problem}", code=Exit.CONFIG)
    return whole


def _read(layer: Layer, name: str, setting: Setting, given: Any) -> Any:
    try:
        return setting.read(given)
    except ValueError as error:
        raise FarmError(f"{layer.place(name)}: {error}", hint=f"it is {setting.help}", code=layer.code) from None


def _unknown(layer: Layer, name: str, known: Mapping[str, Setting]) -> FarmError:
    near = nearest(name, known).removeprefix("; ")
    hint = near or "docs/configuration.md lists all settings"
    return FarmError(f"{layer.place(name)}: there is no such setting", hint=hint, code=layer.code)


def _file_layer(file: Path) -> Layer:
    try:
        content = file.read_text(encoding="utf-8")
        values = tomllib.loads(content)
    except OSError as error:
        raise FarmError(f"{file} cannot be read: {error.strerror}", code=Exit.CONFIG) from error
    except (ValueError, RecursionError) as error:  # of a number of 5000 digits, of brackets in brackets
        raise FarmError(f"{file} is not TOML: {error}", code=Exit.CONFIG) from error
    return Layer(values, lambda name: f"{file}:{_line_of(content, name)}: {name}")


def _line_of(content: str, key: str) -> int:
    pattern = re.compile(rf"""^\s*\[*\s*["']?{re.escape(key)}["']?\s*[=.\]]""")
    return next((number for number, line in enumerate(content.splitlines(), 1) if pattern.match(line)), 1)


def _environment_layer(config: type[Config], environ: Mapping[str, str]) -> Layer:
    prefix = config.ENV_PREFIX
    own = {key: value for key, value in environ.items() if key.startswith(prefix) and key != f"{prefix}CONFIG"}
    values = {key.removeprefix(prefix).lower(): value for key, value in own.items()}
    return Layer(values, lambda name: f"{prefix}{name.upper()} in the environment")
