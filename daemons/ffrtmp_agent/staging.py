"""Staging and publishing: how an output comes to its place whole or not at all, and only by the attempt that may.

How paths inside a root are walked, and why, is told in ffrtmp_agent/folders.py.

Why the staging folder is named again at the rename
----------------------------------------------------
A node that was lost may come back in the middle of publishing: its agent was stopped between the last look at the clock
and the rename. By then another node has settled the grant: it has renamed the old staging folder away (`settle`), and
then looked at the target. So the late rename must fail. It does because its source is looked up by name, `42.1/out.mp4`
below `.ffrtmp`, at the moment of the rename; an open descriptor of the staging folder would still reach it.

Layout: ROOT/.ffrtmp/root-id the identity of the root; ROOT/.ffrtmp/42.1-FARM/ the staging folder of an attempt. Numbers are
one farm's own, and storage may be shared by several, hence FARM (see `farm_of`). A folder that is there is never taken for
a new attempt's: no number is used twice, so it is not ours to clear.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ffrtmp.errors import FarmError
from ffrtmp.spec import Fingerprint
from ffrtmp_agent.attempt import AttemptDir
from ffrtmp_agent.claims import Intent
from ffrtmp_agent.folders import OURS, clear, open_folder, open_ours, plain_tree
from ffrtmp_agent.media.fingerprint import fingerprint
from ffrtmp_agent.rename import EXCHANGE, NOREPLACE, rename

SETTLED = ".settled-"
EXCHANGES_MAX = 10


def farm_of(server_key: str) -> str:
    """The mark of a farm in names on shared storage: from its master's public key."""
    return hashlib.sha256(server_key.encode()).hexdigest()[:8]


class TargetExistsError(FarmError):
    """Something stands at the output path, and the job was not told to overwrite it."""


class NotPublishedError(FarmError):
    """The rename did not and will not happen under this grant: it is over, or the staging folder was taken away."""


class Place:
    """One attempt's staging folder and target, inside one media root.

    `relative` is the output inside the root, normalised; `name` its last part, which is also its name in staging.
    """

    def __init__(self, root: Path, attempt: str, relative: str) -> None:
        """`attempt` is "JOB.ATTEMPT-FARM". Raises FarmError for a path that could lead out of the root, or to our own."""
        parts = relative.split("/")
        if not relative or parts[0] == OURS or any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise FarmError(f"{relative!r} is no path inside a media root")
        self.root = root
        self.attempt = attempt
        self.parents, self.name = parts[:-1], parts[-1]
        self.staging = root / OURS / attempt
        self.staged = self.staging / self.name
        self.target = root / relative

    def make_staging(self) -> None:
        """Make the staging folder, durable by name. Raises FileExistsError where there is one, OSError or FarmError."""
        with open_ours(self.root) as ours:
            os.mkdir(self.attempt, 0o770, dir_fd=ours)
            os.fsync(ours)

    def discard_staging(self) -> None:
        """Remove the staging folder and all in it, if it is there. Raises OSError where it cannot."""
        with suppress(FileNotFoundError), open_ours(self.root) as ours:
            clear(ours, self.attempt)

    def publish(self, directory: AttemptDir, intent: Intent, *, until_s: float, clock: Callable[[], float]) -> None:
        """Put the staged output at its place, under a grant that ends when `clock` passes `until_s`.

        The intent is durable before the rename, the result durable on return. With `intent.overwrite` what stood there
        is exchanged with ours and removed; where nothing stood, or nothing may stand, nothing is ever replaced.
        Raises TargetExistsError, NotPublishedError, FarmError (the output or the target's folder is not what it must
        be), or OSError (the disk; `recover` tells then what became of it).
        """
        self._check_staged()
        with open_ours(self.root) as ours, open_folder(self.root, self.parents, make=True) as folder:
            directory.write_intent(intent)
            if clock() >= until_s:
                directory.clear_intent()
                raise NotPublishedError("the right to publish ended before the output could be put at its place")
            try:
                self._rename(ours, folder, overwrite=intent.overwrite)
            except (TargetExistsError, NotPublishedError):
                directory.clear_intent()
                raise
            os.fsync(folder)
        self.discard_staging()

    def recover(self, directory: AttemptDir) -> Intent | None:
        """After a crash: the intent that was carried out, or None when nothing was published (and no intent is left).

        The target is compared with what was intended, never the staging folder: an exchange leaves the old one there.
        """
        intent = directory.intent()
        if intent is None:
            return None
        if self.look() != intent.fingerprint:
            directory.clear_intent()
            return None
        with open_folder(self.root, self.parents) as folder:
            os.fsync(folder)
        self.discard_staging()
        return intent

    def settle(self) -> Fingerprint | None:
        """Settle the grant of an attempt of another node: take its staging folder away, then look at the target.

        Returns the fingerprint of what stands at the target. The order is the point; see above. Raises OSError.
        """
        with open_ours(self.root) as ours:
            gone = SETTLED + self.attempt
            clear(ours, gone)
            with suppress(FileNotFoundError):
                os.rename(self.attempt, gone, src_dir_fd=ours, dst_dir_fd=ours)
            os.fsync(ours)
            found = self.look()
            clear(ours, gone)
        return found

    @staticmethod
    def sweep_settled(root: Path, farm: str) -> None:
        """Clear what this farm's agents took away in `settle` and then died over; raises OSError or FarmError.

        Any agent that sees the root may: what matters is that the folder has another name, and that it keeps.
        """
        stays: OSError | None = None
        with suppress(FileNotFoundError), open_ours(root) as ours:
            for name in sorted(os.listdir(ours)):  # noqa: PTH208 (by descriptor)
                if name.startswith(SETTLED) and name.endswith(f"-{farm}" if farm else ""):
                    try:
                        clear(ours, name)
                    except OSError as error:  # the others go all the same
                        stays = error
        if stays is not None:
            raise stays

    def look(self) -> Fingerprint | None:
        """The fingerprint of what stands at the target; None for nothing, or nothing that a job could have made."""
        try:
            with open_folder(self.root, self.parents) as folder:
                return fingerprint(self.target) if plain_tree(folder, self.name) else None
        except (OSError, FarmError):
            return None

    def _check_staged(self) -> None:
        with open_folder(self.root, [OURS, self.attempt]) as staging:
            if not plain_tree(staging, self.name):
                raise FarmError(f"{self.staged} is not a plain file or a folder of plain files")

    def _rename(self, ours: int, folder: int, *, overwrite: bool) -> None:
        source = f"{self.attempt}/{self.name}"
        for _ in range(EXCHANGES_MAX):
            try:
                return rename(ours, source, folder, self.name, NOREPLACE)
            except FileNotFoundError as error:
                raise NotPublishedError("the staging folder was taken away") from error
            except FileExistsError as error:
                if not overwrite:
                    hint = "choose another output, or submit with --overwrite"
                    raise TargetExistsError(f"{self.target} is there already", hint=hint) from error
            with suppress(FileNotFoundError):  # gone since: then it is not there to be exchanged, and we begin again
                return rename(ours, source, folder, self.name, EXCHANGE)
        raise FarmError(f"{self.target} comes and goes")
