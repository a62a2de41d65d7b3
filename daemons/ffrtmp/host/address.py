"""Addresses as people and configurations write them: of nodes and of masters."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from ffrtmp.errors import Exit, FarmError

Number = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})?(\.[a-z0-9_]([a-z0-9_-]{0,62})?)*\.?", re.IGNORECASE)


def node_address(text: str) -> str:
    """The host part of what was given as --address, in the one form in which addresses are compared.

    A port is left away, since an address belongs to one node whatever its port; IPv6 stands bare or in brackets. Raises
    FarmError for what is no host, or is one that nobody can be reached at (0.0.0.0, multicast).
    """
    hint = "give an IPv4 or IPv6 address or a host name, such as 192.0.2.7, 2001:db8::7 or encoder7.example.org"
    if "/" in text:
        raise FarmError(f'"{text}" is not the address of a host', hint=hint, code=Exit.USAGE)
    host = _host_part(text.strip())
    number = as_number(host)
    if number is not None and (number.is_unspecified or number.is_multicast):
        raise FarmError(f"{host} is no address at which a host can be reached", hint=hint, code=Exit.USAGE)
    if number is not None:
        return plain(number)
    # What has only digits and dots and is no address is a slip of the keyboard, not a name.
    if not _NAME.fullmatch(host) or re.fullmatch(r"[\d.]+", host):
        raise FarmError(f'"{text}" is not the address of a host', hint=hint, code=Exit.USAGE)
    return host.rstrip(".").lower()


def master_host(master: str) -> str:
    """The host in a master's address: https://HOST:PORT, tcp://HOST:PORT, HOST:PORT, HOST; unix:PATH is this host.

    Raises FarmError where there is none.
    """
    if master.startswith(("unix:", "/")):
        return "127.0.0.1"
    try:
        host = urlsplit(master).hostname or "" if "://" in master else _host_part(master.strip())
    except ValueError:
        host = ""
    if as_number(host) is None and not _NAME.fullmatch(host):
        hint = "write it as https://HOST:8080 or unix:/run/ffrtmp/master.sock"
        raise FarmError(f'"{master}" is not the address of a master', hint=hint, code=Exit.USAGE)
    return host


def as_number(text: str) -> Number | None:
    """The address that a text is, or None."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def plain(number: Number) -> str:
    """Without scope, which means something on one host only, and IPv4 as such when it stands inside IPv6."""
    if isinstance(number, ipaddress.IPv6Address) and number.ipv4_mapped:
        return str(number.ipv4_mapped)
    return str(number).partition("%")[0]


def _host_part(text: str) -> str:
    """HOST of "HOST", "HOST:PORT", "[V6]", "[V6]:PORT" or a bare "V6"; empty for others."""
    if as_number(text) is not None:
        return text
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(\d{1,5}))?", text)
    if bracketed:
        return bracketed[1] if ":" in bracketed[1] and as_number(bracketed[1]) is not None else ""
    unadorned = re.fullmatch(r"([^:]*)(?::(\d{1,5}))?", text)
    return unadorned[1] if unadorned else ""
