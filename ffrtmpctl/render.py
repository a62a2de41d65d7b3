"""What people read: tables, sentences, times, sizes. No colours, no library: a list must be there at once.

Everything that comes from elsewhere passes `clean`, so that a file name can not steer anybody's terminal.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TextIO

GAP = "  "


def clean(text: str) -> str:
    """One line without control characters; what would not print stands as an escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def local_time(text: str) -> str:
    """A moment of the API in this host's time zone, to the second; "-" where there is none."""
    if not text:
        return "-"
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return clean(text)


def duration(seconds: float | None) -> str:
    """0.4 s, 12 s, 3 min 5 s, 2 h 10 min, 4 d 3 h; "-" where it is not known."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    for length, name, small, small_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= length:
            rest = whole % length // small
            return f"{whole // length} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{whole} s"


def size(count_bytes: float | None) -> str:
    """512 B, 3.4 MiB; "-" where it is not known."""
    if count_bytes is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count_bytes) < 1024:
            return f"{count_bytes:.0f} {unit}" if unit == "B" or count_bytes >= 100 else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1024
    return f"{count_bytes:.1f} TiB"


def rate(count_bps: float | None) -> str:
    """10 Mbit/s, 128 kbit/s; "-" where it is not known."""
    if count_bps is None:
        return "-"
    for factor, unit in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")):
        if count_bps >= factor:
            return f"{count_bps / factor:.3g} {unit}"
    return f"{count_bps:.0f} bit/s"


def cores(milli: int) -> str:
    """2, 0.5"""
    return f"{milli / 1000:g}"


def table(out: TextIO, head: Sequence[str], rows: Iterable[Sequence[str]], *, head_shown: bool = True) -> None:
    """Write aligned columns. On a terminal lines are cut at its edge; elsewhere nothing is."""
    lines = [[clean(cell) or "-" for cell in row] for row in rows]
    shown = ([list(head)] if head_shown else []) + lines
    if not shown:
        return
    widths = [max(_width(line[column]) for line in shown) for column in range(len(head))]
    edge = terminal_width(out)
    for line in shown:
        text = GAP.join(_pad(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip()
        out.write((_cut(text, edge) if edge else text) + "\n")


def details(out: TextIO, rows: Iterable[tuple[str, str]], *, indent: str = "  ") -> None:
    """Write names and values below each other, leaving out what is empty."""
    kept = [(name, value) for name, value in rows if value not in ("", "-")]
    width = max((_width(name) for name, _ in kept), default=0)
    for name, value in kept:
        out.write(f"{indent}{_pad(name, width)}  {clean(value)}\n")


def terminal_width(out: TextIO) -> int:
    """The columns of the terminal that `out` is, 0 when it is none."""
    try:
        return os.get_terminal_size(out.fileno()).columns if out.isatty() else 0
    except (OSError, ValueError):
        return 0


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    kept, used = [], 1  # one column for the sign of the cut
    for char in text:
        used += _columns(char)
        if used > width:
            break
        kept.append(char)
    return "".join(kept) + "…"
