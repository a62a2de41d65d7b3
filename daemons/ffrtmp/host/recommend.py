"""`ffrtmpctl config recommend`: what the owner of this host would write into /etc/ffrtmp/agent.toml, and why.

A server is there for the farm. A desktop has somebody sitting in front of it, and a laptop besides gets hot and runs
on a battery; both keep something for that person. The names are those of the agent's configuration, so that each form
of the answer can be used as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Struct

from ffrtmp.host.disk import size_text
from ffrtmp.host.limits import reserve_bytes
from ffrtmp.quantity import format_size
from ffrtmp.wire import Facts

Format = Literal["text", "json", "toml", "env"]
FORMATS: tuple[Format, ...] = ("text", "json", "toml", "env")
ENV_PREFIX = "FFRTMP_AGENT_"
CONFIG_FILE = "/etc/ffrtmp/agent.toml"
_JOB_MEMORY_BYTES = 512 << 20  # what a job is taken to need that says nothing else
_MEMORY_STEP_BYTES = 128 << 20


class Advice(Struct, frozen=True):
    """One setting of the agent's configuration, and the reason for its value in a sentence."""

    name: str
    value: int | float | str
    why: str


class Recommendation(Struct, frozen=True):
    """What was found and what follows from it."""

    facts: Facts
    settings: tuple[Advice, ...]


def recommend(facts: Facts) -> Recommendation:
    """The settings for a host of these facts; pure."""
    cores, core_reason = _cores(facts)
    memory_bytes, memory_reason = _memory(facts)
    return Recommendation(
        facts=facts,
        settings=(
            Advice("cpu", cores, core_reason),
            Advice("memory", format_size(memory_bytes), memory_reason),
            _jobs(cores, memory_bytes),
        ),
    )


def render(recommendation: Recommendation, form: Format = "text") -> str:
    """The recommendation as lines for people, as JSON, as TOML for agent.toml, or as environment variables."""
    return _FORMS[form](recommendation)


def _cores(facts: Facts) -> tuple[int, str]:
    count = max(1, facts.cpu_count)
    if facts.hardware == "laptop":
        return max(1, count // 2), f"a laptop: half of its {count} cores, for heat and for the person who uses it"
    if facts.hardware == "desktop":
        kept = max(1, count // 4)
        return max(1, count - kept), f"a desktop: {kept} of its {count} cores kept for the person who uses it"
    return count, f"a server is there for the farm: all {count} usable cores"


def _memory(facts: Facts) -> tuple[int, str]:
    total = facts.memory_bytes
    share = {"laptop": total // 2, "desktop": total // 4}.get(facts.hardware, 0)
    kept = max(share, reserve_bytes(total))
    offered = max(total - kept, 0) // _MEMORY_STEP_BYTES * _MEMORY_STEP_BYTES or total // 2
    user = "the system and the person who uses it" if share else "the system and the agent"
    return offered, f"{size_text(total - offered)} of {size_text(total)} kept for {user}"


def _jobs(cores: int, memory_bytes: int) -> Advice:
    fitting = max(1, memory_bytes // _JOB_MEMORY_BYTES)
    if fitting < cores:
        return Advice("max_concurrent_jobs", fitting, f"memory is the limit: {size_text(_JOB_MEMORY_BYTES)} a job")
    return Advice("max_concurrent_jobs", cores, "one job a core: more would only slow each other down")


def _text(recommendation: Recommendation) -> str:
    facts = recommendation.facts
    lines = [
        f"{facts.hostname or 'this host'}: {facts.hardware or 'server'}, {facts.cpu_count} cores ({facts.cpu_model}),"
        f" {size_text(facts.memory_bytes)} of memory" + "".join(f", {gpu}" for gpu in facts.gpus),
        "",
    ]
    width = max(len(_assignment(item)) for item in recommendation.settings)
    lines += [f"  {_assignment(item):<{width}}  {item.why}" for item in recommendation.settings]
    return "\n".join([*lines, "", f"Write them into {CONFIG_FILE}; --format toml gives it ready to use."]) + "\n"


def _json(recommendation: Recommendation) -> str:
    # Facts is a message of the wire; here its tag would only puzzle.
    content = msgspec.to_builtins(recommendation)
    content["facts"].pop("type", None)
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _toml(recommendation: Recommendation) -> str:
    return "".join(f"# {item.why}\n{_assignment(item)}\n" for item in recommendation.settings)


def _env(recommendation: Recommendation) -> str:
    return "".join(f"{ENV_PREFIX}{item.name.upper()}={item.value}\n" for item in recommendation.settings)


def _assignment(item: Advice) -> str:
    # A basic string of TOML and one of JSON are written alike for what stands here: numbers and sizes.
    return f"{item.name} = {json.dumps(item.value)}"


_FORMS: dict[str, Callable[[Recommendation], str]] = {"text": _text, "json": _json, "toml": _toml, "env": _env}
