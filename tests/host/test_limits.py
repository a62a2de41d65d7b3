"""What a host offers, what its owner is advised to write, the disk guard, and energy."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest

from ffrtmp.config import load
from ffrtmp.config_agent import AgentConfig
from ffrtmp.errors import Exit, FarmError
from ffrtmp.host.disk import DiskGuard, Space, disk_reason, read_space, too_full
from ffrtmp.host.energy import Counter, EnergyMeter, energy_j, read_counters
from ffrtmp.host.facts import Usable
from ffrtmp.host.limits import capacity, reserve_bytes
from ffrtmp.host.recommend import ENV_PREFIX, FORMATS, recommend, render
from ffrtmp.wire import Facts

GIB = 1 << 30
MIB = 1 << 20


def test_p6_by_default_all_cores_are_offered_and_memory_less_a_reserve():
    offered = capacity(Usable(cpu_milli=4000, memory_bytes=16 * GIB))
    assert (offered.cpu_milli, offered.slots) == (4000, 4)
    assert offered.memory_bytes == 16 * GIB - 16 * GIB // 10


def test_p6_the_owners_word_goes_before_the_measure():
    offered = capacity(Usable(4000, 16 * GIB), cpu=1.5, memory_bytes=2 * GIB, max_concurrent_jobs=7)
    assert (offered.cpu_milli, offered.memory_bytes, offered.slots) == (1500, 2 * GIB, 7)


def test_half_a_core_still_gives_a_slot():
    assert capacity(Usable(500, GIB)).slots == 1


def test_more_memory_than_there_is_cannot_be_offered():
    with pytest.raises(FarmError) as refused:
        capacity(Usable(4000, 4 * GIB), memory_bytes=5 * GIB)
    assert refused.value.code is Exit.CONFIG
    assert "5.0 GiB" in refused.value.what
    assert refused.value.hint


@pytest.mark.parametrize("owner", [{"cpu": -1.0}, {"memory_bytes": -1}, {"max_concurrent_jobs": -1}])
def test_less_than_nothing_cannot_be_offered(owner: dict[str, int]):
    with pytest.raises(FarmError):
        capacity(Usable(4000, 4 * GIB), **owner)


@pytest.mark.parametrize(
    ("memory_bytes", "kept"), [(256 * MIB, 128 * MIB), (GIB, 256 * MIB), (20 * GIB, 2 * GIB), (512 * GIB, 4 * GIB)]
)
def test_the_reserve_is_a_tenth_within_bounds(memory_bytes: int, kept: int):
    assert reserve_bytes(memory_bytes) == kept


def host(hardware: str, cores: int = 8, memory_bytes: int = 16 * GIB) -> Facts:
    return Facts(hostname="h", cpu_model="Some CPU", cpu_count=cores, memory_bytes=memory_bytes, hardware=hardware)


def advised(facts: Facts) -> dict[str, int | float | str]:
    return {item.name: item.value for item in recommend(facts).settings}


def test_config_recommend_gives_a_server_to_the_farm_and_leaves_something_to_people():
    assert advised(host("server")) == {"cpu": 8, "memory": "14720MiB", "max_concurrent_jobs": 8}
    assert advised(host("desktop")) == {"cpu": 6, "memory": "12GiB", "max_concurrent_jobs": 6}
    assert advised(host("laptop")) == {"cpu": 4, "memory": "8GiB", "max_concurrent_jobs": 4}


def test_config_recommend_never_gives_more_jobs_than_memory_holds():
    assert advised(host("server", cores=64, memory_bytes=4 * GIB))["max_concurrent_jobs"] == 7
    assert advised(host("laptop", cores=1, memory_bytes=256 * MIB)) == {
        "cpu": 1,
        "memory": "128MiB",
        "max_concurrent_jobs": 1,
    }


@pytest.mark.parametrize("hardware", ["server", "desktop", "laptop", ""])
@pytest.mark.parametrize("cores", [1, 2, 3, 128])
@pytest.mark.parametrize("memory_bytes", [200 * MIB, GIB, 700 * GIB])
def test_config_recommend_never_advises_what_the_agent_would_refuse(hardware: str, cores: int, memory_bytes: int):
    toml = tomllib.loads(render(recommend(host(hardware, cores, memory_bytes)), "toml"))
    config = load(AgentConfig, (), {f"{ENV_PREFIX}{name.upper()}": str(value) for name, value in toml.items()}, ())
    offered = capacity(
        Usable(cores * 1000, memory_bytes),
        cpu=config.cpu,
        memory_bytes=config.memory,
        max_concurrent_jobs=config.max_concurrent_jobs,
    )
    assert 1000 <= offered.cpu_milli <= cores * 1000
    assert 0 < offered.memory_bytes <= memory_bytes
    assert offered.slots >= 1


def test_config_recommend_can_be_used_as_it_is_in_each_form(tmp_path: Path):
    advice = recommend(host("desktop"))
    file = tmp_path / "agent.toml"
    file.write_text(render(advice, "toml"))
    from_file = load(AgentConfig, (), {}, (file,))
    environment = dict(line.split("=", 1) for line in render(advice, "env").splitlines())
    from_environment = load(AgentConfig, (), environment, ())
    for config in (from_file, from_environment):
        assert (config.cpu, config.memory, config.max_concurrent_jobs) == (6.0, 12 * GIB, 6)
    listed = json.loads(render(advice, "json"))
    assert {item["name"]: item["value"] for item in listed["settings"]} == advised(host("desktop"))
    assert listed["facts"]["hardware"] == "desktop"
    assert set(FORMATS) == {"text", "json", "toml", "env"}


def test_config_recommend_says_why():
    text = render(recommend(host("laptop")), "text")
    assert "h: laptop, 8 cores (Some CPU), 16.0 GiB of memory" in text
    assert "for heat and for the person who uses it" in text
    assert "/etc/ffrtmp/agent.toml" in text


def test_the_disk_guard_wants_both_a_share_and_an_amount():
    guard = DiskGuard()
    assert too_full(Space(100 * GIB, 1000 * GIB), guard) is None
    assert too_full(Space(49 * GIB, 1000 * GIB), guard) == "4.9 % would be free; 5 % must stay free"
    assert too_full(Space(GIB, 10 * GIB), guard) == "1.0 GiB would be free; 2.0 GiB must stay free"
    assert too_full(Space(0, 0), guard) is None
    small = DiskGuard(0.0, 16 << 20)
    assert too_full(Space(3 << 20, GIB), small) == "3.0 MiB would be free; 16.0 MiB must stay free"
    assert too_full(Space(512, GIB), small) == "512 B would be free; 16.0 MiB must stay free"


def test_the_disk_guard_counts_what_the_job_would_add():
    reason = too_full(Space(10 * GIB, 100 * GIB), DiskGuard(), wanted_bytes=9 * GIB)
    assert reason == "1.0 GiB would be free after 9.0 GiB for the job; 2.0 GiB must stay free"


def test_the_disk_guard_sees_the_real_disk(tmp_path: Path):
    space = read_space(tmp_path)
    assert 0 < space.free_bytes <= space.total_bytes
    assert disk_reason(tmp_path, DiskGuard(0.0, 0)) is None
    reason = disk_reason(tmp_path, DiskGuard(0.0, space.total_bytes + 1))
    assert reason is not None
    assert reason.startswith(f"{tmp_path}: ")
    assert disk_reason(tmp_path / "gone", DiskGuard()) == f"{tmp_path / 'gone'}: No such file or directory"


def rapl(root: Path, name: str, value_uj: int, range_uj: int = 262_143_328_850) -> None:
    folder = root / "sys/class/powercap" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{value_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")


def test_energy_is_added_up_over_packages_and_over_the_counters_wrap(tmp_path: Path):
    rapl(tmp_path, "intel-rapl:0", 262_143_000_000)
    rapl(tmp_path, "intel-rapl:1", 1_000_000)
    rapl(tmp_path, "intel-rapl:0:0", 5)  # a part of the first package
    meter = EnergyMeter(tmp_path)
    rapl(tmp_path, "intel-rapl:0", 671_150)
    rapl(tmp_path, "intel-rapl:1", 3_000_000)
    assert meter.sample() == pytest.approx(1.0 + 2.0)
    rapl(tmp_path, "intel-rapl:1", 4_500_000)
    assert meter.sample() == pytest.approx(1.0 + 3.5)


def test_no_energy_is_told_where_it_cannot_be_read(tmp_path: Path):
    assert EnergyMeter(tmp_path).sample() is None
    assert energy_j({"a": Counter(1, 9)}, {"b": Counter(2, 9)}) is None
    rapl(tmp_path, "intel-rapl:0", 1)
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("")
    assert read_counters(tmp_path) == {}


def test_energy_of_this_host_is_a_figure_or_honestly_none():
    used = EnergyMeter().sample()
    readable = [p for p in Path("/sys/class/powercap").glob("intel-rapl:?/energy_uj") if os.access(p, os.R_OK)]
    assert (used is None) == (not readable)
