"""The farm's times and bounds, all in one place, with their defaults. Seconds unless said otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator may set. Times are on the farm's monotonic clock."""

    heartbeat_s: float = 2.0
    lost_after_s: float = 15.0
    lost_after_live_s: float = 5.0
    away_after_s: float = 60.0  # silence that is allowed after a goodbye (an upgrade of the agent)
    self_doubt_s: float = 10.0
    reconnect_grace_s: float = 20.0
    sign_s: float = 2.0  # how long an old session has to answer for itself
    accept_timeout_s: float = 5.0
    resend_s: float = 1.0
    hold_s: float = 5.0  # no work for a node that refused for want of room; doubled each time in a row
    hold_most_s: float = 60.0
    grant_ttl_s: float = 10.0
    grant_margin_s: float = 5.0
    lease_stop_s: float = 3.0  # what an engine may take to end once its lease ran out
    lease_margin_s: float = 2.0
    ageing_interval_s: float = 6 * 3600.0  # 0: no ageing
    reserve_after_s: float = 15 * 60.0
    doubt_patience_s: float = 15 * 60.0  # how long a failure waits for doubted attempts to come back
    backoff_first_s: float = 5.0
    backoff_max_s: float = 300.0
    poison_losses: int = 3
    waiting_max: int = 1_000_000
    lanes_max: int = 256
    handouts_per_turn: int = 250  # each is read from the store and sent, while everybody waits
    starved_every_s: float = 5.0  # how often jobs are looked for that have waited longer than reserve_after_s
