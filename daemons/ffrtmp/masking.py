"""Secrets in URLs: what of a URL may be shown.

A URL carries secrets in four places: user and password before the host, values in the query (signatures, tokens,
passphrases), the fragment, and, with RTMP, the last part of the path, which is the stream's key. What is not known to be
harmless is masked, so that a parameter nobody here has heard of stays secret too.

Lines that a program printed are masked without changing their length in bytes, so that offsets into a log stay true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MASK = "***"
# Query parameters of the protocols whose values say nothing secret.
HARMLESS = frozenset({"mode", "latency", "transport", "pkt_size", "timeout", "listen", "format"})
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s\"'<>]+")
_PARTS = re.compile(
    r"""(?P<scheme>[^:]+)://
        (?:(?P<user>[^/?\#]*)@)?
        (?P<host>[^/?\#]*)
        (?P<path>[^?\#]*)
        (?:\?(?P<query>[^\#]*))?
        (?:\#(?P<fragment>.*))?""",
    re.VERBOSE | re.DOTALL,
)
_PARAMETER = re.compile(r"(?:(?P<name>[^=&]*)=)?(?P<value>[^&]+)")


def mask_url(text: str) -> str:
    """`text`, a URL or any text with URLs in it, with every secret of them replaced by `***`."""
    if "://" not in text:
        return text
    out, at = [], 0
    for start, end in _secrets(text):
        out += [text[at:start], MASK]
        at = end
    return "".join((*out, text[at:]))


def mask_log(lines: bytes) -> bytes:
    """A piece of a log with each byte of a secret starred: its length stays. To be given whole lines."""
    if b"://" not in lines:
        return lines
    out = bytearray(lines)
    for start, end in _secrets(lines.decode("latin-1")):  # one character a byte, so that places are offsets
        out[start:end] = b"*" * (end - start)
    return bytes(out)


def _secrets(text: str) -> Iterator[tuple[int, int]]:
    """Where in the text secrets stand, from left to right, as (start, end)."""
    for url in _URL.finditer(text):
        parts = _PARTS.match(text, url.start(), url.end())
        if parts is None:
            continue
        if parts["user"]:
            yield parts.span("user")
        if parts["scheme"].lower().startswith("rtmp"):
            yield from _stream_key(parts)
        if parts["query"]:
            yield from _values(text, *parts.span("query"))
        if parts["fragment"]:
            yield parts.span("fragment")


def _stream_key(parts: re.Match[str]) -> Iterator[tuple[int, int]]:
    """rtmp://host/application/KEY; a path of one part is an application."""
    application, slash, key = parts["path"].rpartition("/")
    if application and slash and key:
        yield parts.end("path") - len(key), parts.end("path")


def _values(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for parameter in _PARAMETER.finditer(text, start, end):
        if (parameter["name"] or "").lower() not in HARMLESS:
            yield parameter.span("value")
