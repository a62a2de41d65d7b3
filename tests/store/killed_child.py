"""Run as a process that a test kills: commits one job a turn, and tells each turn after its commit."""

from __future__ import annotations

import sys
from pathlib import Path

from book import Book, open_store

from ffrtmp.farm.job import State

folder = Path(sys.argv[1])
store = open_store(folder)
loaded = store.load(0.0)
book = Book(loaded.turn, loaded.next_job)
print("open", flush=True)
while True:
    job = book.submit(output=f"root:{book.next_job}")
    store.append_log(job, 1, 0, b"line\n" * 200)
    if job % 2:
        book.run(job)
    print(book.commit(store), job, flush=True)
    if job % 2:
        book.end(job, State.COMPLETED)
