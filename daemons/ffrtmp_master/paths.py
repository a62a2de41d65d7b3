"""From what a user writes as a path to a media root's identity and a path inside it.

Three ways of writing are taken: `ROOT:relative`, `ROOT@NODE:relative` where nodes use one name for different storages, and
an absolute path, which means what the nodes' announcements make of it. The identity of a root, not its name and not its
folder, says which storage it is; so one text may have several meanings, and then nobody guesses: the answer is 409 with
the choices, each in a form that has one meaning.

Everything here is lexical. A symbolic link inside a root is the node's to judge, when it opens the path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from ffrtmp.spec import MediaPath
from ffrtmp.wire import RootFact

from .refusal import Refusal

TEXT_MAX_BYTES = 4096
RELATIVE_MAX_BYTES = 3072  # leaves room for the root's own folder below the kernel's 4096
NAME_MAX_BYTES = 255
CHOICES_MAX = 20
OWN_FOLDER = ".ffrtmp"
_ROOT_PATH = re.compile(r"(?P<root>[A-Za-z0-9][A-Za-z0-9_.-]*)(?:@(?P<node>[^:/@]+))?:(?P<relative>.*)", re.DOTALL)

Roots = Mapping[str, tuple[RootFact, ...]]  # node -> the roots that it announces


@dataclass(frozen=True, slots=True)
class Meaning:
    """One thing that a text can mean."""

    node: str
    root: RootFact
    relative: str

    @property
    def path(self) -> MediaPath:
        """As a specification has it."""
        return MediaPath(root=self.root.name, root_id=self.root.identity, relative=self.relative)

    @property
    def text(self) -> str:
        """In the form that has one meaning only."""
        return f"{self.root.name}@{self.node}:{self.relative}"


def resolve(text: str, roots: Roots, what: str) -> MediaPath:
    """The media path that `text` means; `what` is "input" or "output", for the messages.

    Raises Refusal: 409 where nobody announces a root or where there are several meanings, 422 for all else.
    """
    _check_text(text, what)
    if not any(roots.values()):
        raise no_roots(roots)
    if text.startswith("/"):
        return _one(list(_absolute(text, roots, what)), text, what, roots)
    found = _ROOT_PATH.fullmatch(text)
    if found is None:
        raise Refusal(
            422,
            f'{what} "{text}" is no path that the farm knows',
            hint=f"write ROOT:path, or an absolute path; {_known(roots)}",
        )
    relative = normalise(found["relative"], what)
    if found["node"] is not None and found["node"] not in roots:
        raise Refusal(422, f'there is no node "{found["node"]}"', hint="`ffrtmpctl nodes list` shows the nodes")
    meanings = [
        Meaning(node, root, relative)
        for node, announced in sorted(roots.items())
        for root in announced
        if root.name == found["root"] and found["node"] in (None, node)
    ]
    return replace(_one(meanings, text, what, roots), node=found["node"] or "")


def normalise(relative: str, what: str) -> str:
    """A relative path without empty parts and "."; raises Refusal for what is not inside the root, or is the farm's own."""
    parts = [part for part in relative.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refusal(422, f'{what} has ".." in its path', hint="write the path without it")
    if OWN_FOLDER in parts:
        raise Refusal(422, f"{what} is in {OWN_FOLDER}, which is the farm's own folder", hint="choose another path")
    if not parts:
        raise Refusal(422, f"{what} is the media root itself", hint="add the path of a file inside it")
    if any(len(part.encode()) > NAME_MAX_BYTES for part in parts):
        raise Refusal(422, f"{what} has a name of more than {NAME_MAX_BYTES} bytes")
    path = "/".join(parts)
    if len(path.encode()) > RELATIVE_MAX_BYTES:
        raise Refusal(422, f"{what} is longer than {RELATIVE_MAX_BYTES} bytes")
    return path


def no_roots(roots: Roots) -> Refusal:
    """Nothing can be read or written anywhere: the nodes offer nothing, or none has ever been in contact."""
    if roots:
        hint = "start an agent that has one (`--media-root NAME=FOLDER`), and see `ffrtmpctl nodes list`"
        return Refusal(409, "no node announces a media root", hint=hint)
    what = "no node has been in contact yet, so there is no media root that the farm knows"
    return Refusal(409, what, hint="wait until one is ready: `ffrtmpctl nodes list --wait`")


def writable(roots: Roots) -> dict[str, Meaning]:
    """The roots that may be written, by identity, each by the first node that announces it."""
    found: dict[str, Meaning] = {}
    for node, announced in roots.items():
        for root in announced:
            if root.writable and (root.identity not in found or node < found[root.identity].node):
                found[root.identity] = Meaning(node, root, "")
    return dict(sorted(found.items(), key=lambda item: (item[1].node, item[1].root.name)))


def _check_text(text: str, what: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Refusal(422, f"{what} is not valid UTF-8") from None
    if size > TEXT_MAX_BYTES:
        raise Refusal(422, f"{what} is longer than {TEXT_MAX_BYTES} bytes")
    if any(ord(each) < 0x20 or ord(each) == 0x7F for each in text):
        raise Refusal(422, f"{what} has a control character in it", hint="rename the file")


def _absolute(text: str, roots: Roots, what: str) -> Iterator[Meaning]:
    """What an absolute path means on each node: the root that reaches deepest has it."""
    parts = normalise(text, what).split("/")
    for node, announced in sorted(roots.items()):
        deepest = -1
        here: list[Meaning] = []
        for root in announced:
            folder = [part for part in root.path.split("/") if part not in ("", ".")]
            if parts[: len(folder)] != folder or len(folder) == len(parts):
                continue
            if len(folder) > deepest:
                deepest, here = len(folder), []
            if len(folder) == deepest:
                here.append(Meaning(node, root, "/".join(parts[len(folder) :])))
        yield from here


def _one(meanings: list[Meaning], text: str, what: str, roots: Roots) -> MediaPath:
    by_identity: dict[tuple[str, str], Meaning] = {}
    for each in meanings:
        by_identity.setdefault((each.root.identity, each.relative), each)
    if not by_identity:
        raise Refusal(422, f'{what} "{text}" is in no media root that a node announces', hint=_known(roots))
    if len(by_identity) > 1:
        raise Refusal(
            409,
            f'{what} "{text}" has {len(by_identity)} meanings: nodes keep different storages there',
            hint="name the node: ROOT@NODE:path",
            choices=tuple(each.text for each in by_identity.values())[:CHOICES_MAX],
        )
    return next(iter(by_identity.values())).path


def _known(roots: Roots) -> str:
    """The media roots, for a hint: with their nodes, and how that is written, where a name has several meanings."""
    storages: dict[str, dict[str, Meaning]] = {}
    for node, announced in sorted(roots.items()):
        for root in announced:
            storages.setdefault(root.name, {}).setdefault(root.identity, Meaning(node, root, ""))
    if not storages:
        return "no node announces a media root"
    shared = {name for name, found in storages.items() if len(found) > 1}
    names = [
        f"{name}@{each.node} ({each.root.path})" if name in shared else f"{name} ({each.root.path})"
        for name, found in sorted(storages.items())
        for each in found.values()
    ]
    syntax = "; nodes use one name for different storages: write ROOT@NODE:path" if shared else ""
    return "known media roots: " + ", ".join(names[:CHOICES_MAX]) + syntax
