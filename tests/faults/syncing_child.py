"""Run under strace, which makes one of its syncs fail: commits turns and says what became of each."""

from __future__ import annotations

import sys
from pathlib import Path

from store.book import Book, open_store

from ffrtmp.errors import FarmError
from ffrtmp_master.rows import StoreBroken, StoreRefused

folder, turns = Path(sys.argv[1]), int(sys.argv[2])
try:
    with open_store(folder) as store:
        book = Book()
        for _ in range(turns):
            job = book.submit()
            turn = book.commit(store)
            print("told", turn, flush=True)
            store.append_log(job, 1, 0, b"line\n")
            print("logged", job, flush=True)
except StoreRefused as error:
    print("refused", error, flush=True)
except StoreBroken as error:
    print("broken", error, flush=True)
except FarmError as error:
    print("unusable", error, flush=True)
else:
    print("done", flush=True)
