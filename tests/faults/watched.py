"""`python watched.py FILE PROGRAM ARGUMENTS...`: become PROGRAM, stopped at each call of faults/calls.py.

FILE gets the number of the listener's descriptor; a Warden takes it from this process and answers from then on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import calls

listener = calls.install()
Path(sys.argv[1]).write_text(f"{listener}\n")
os.execv(sys.argv[2], sys.argv[2:])  # stops until the Warden is there; the listener is closed by it
