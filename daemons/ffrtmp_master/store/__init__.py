"""The master's store on SQLite (apsw). Its interface is small enough for another one to stand beside it.

`Store` commits turns, `Reader` answers questions, `restore` and `examine` work on files that no master has open.
"""

from .backup import BackupMade, Restored, restore
from .database import RowsRejected
from .history import BrokenHistory, examine, replay
from .logs import LogAppend, Piece
from .reader import Reader, heading
from .records import AttemptRow, AuditRecord, EventRow, JobPage, JobRow, NodeRow, SlaCounts
from .store import Store

__all__ = [
    "AttemptRow",
    "AuditRecord",
    "BackupMade",
    "BrokenHistory",
    "EventRow",
    "JobPage",
    "JobRow",
    "LogAppend",
    "NodeRow",
    "Piece",
    "Reader",
    "Restored",
    "RowsRejected",
    "SlaCounts",
    "Store",
    "examine",
    "heading",
    "replay",
    "restore",
]
