"""SIGHUP: what a reload takes over is in force, and what it cannot take over it says."""

from __future__ import annotations

import signal
from pathlib import Path

from daemons import Farm, until
from ffrtmp.config_master import MasterConfig
from ffrtmp_master.main import AT_START


def test_a_reload_says_what_takes_a_restart_and_changes_the_rest(tmp_path: Path) -> None:
    settings = tmp_path / "master.toml"
    settings.write_text("max_retries = 3\nbatch_max = 10\n")
    with Farm(tmp_path) as farm:
        master = farm.start_master("--config", str(settings))
        settings.write_text("max_retries = 7\nbatch_max = 20\n")
        master.signal(signal.SIGHUP)
        until("the word", lambda: "changed only by a restart: batch_max" in master.log.read_text())
        assert "reloaded; changed: max_retries" in master.log.read_text()
    assert set(MasterConfig.__struct_fields__) >= AT_START
