"""The database put back to a backup by all ways there are, by hand too; the story is in tests/whole/test_restore.py (P1)."""

from __future__ import annotations

from pathlib import Path

import pytest
from whole.test_restore import WAYS, put_back


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [way for way in WAYS if way != "ffrtmpctl"])
def test_p1_a_farm_goes_on_after_its_database_was_put_back(tmp_path: Path, way: str) -> None:
    put_back(tmp_path, way)
