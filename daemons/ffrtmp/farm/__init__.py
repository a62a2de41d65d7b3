"""The rules of the farm: pure functions and plain data. No socket, file, clock, log or random source in here.

What happens when a node is lost, and why, in half an hour:

1. `job.py`: what a job, an attempt and a grant are. The table of states can wait: each rule names the edge that it takes.
2. `world.py`, its last part, "the ways of changing": nothing else changes a job or an attempt.
3. `silence.py`: who is called lost, and when the master doubts itself instead.
4. `recovery.py`: what becomes of the work that is out of sight, and which attempt is kept when the node comes back.
5. `publish.py`: why two attempts may encode but only one publishes, and how that is settled when its node is lost.
6. `endings.py`: what the end of an attempt is to its job; what is tried again, and when a verdict has to wait.
7. `sessions.py`, from `_welcome` on: what a node that is back says, and is told.

The rest, as you need it. `farm.py` is the only door: `Farm.apply(event, now)`, and what time brings, `Farm.due(now)`;
`events.py` lists what can happen, `effects.py` what the shell is then asked to do, `rules.py` the times and bounds.
`queue.py` says who goes first, `placement.py` where to, `handout.py` how an attempt gets there, `reports.py` what heartbeats
tell of it. `requests.py` is what users ask, `why.py` the reasons in sentences, `restored.py` a master that was put back to
a backup. `table.py` is how a write is taken back, `node.py` what is known of a node.

The promises that the rules keep go by these names:

| | promise | kept by |
|---|---|---|
| P1 | a job that was accepted ends in exactly one terminal state | `job.TRANSITIONS`, `World.move` |
| P2 | of a job at most one attempt may publish at a time | `publish.requested` |
| P4 | an attempt that was given up changes nothing any more | `World.give_up`, and whoever asks `given_up` |
| P5 | a canceled job has no process left, and no file but its log | `requests.cancel`, `endings.other_gone` |
| P6 | a node never holds more than it offers | `placement` |
| P7 | no job starts where one of higher rank would fit, but on the one reserved node | `queue.rank`, `placement` |
| P8 | attempts end: failures and losses are counted, and both are bounded | `endings.failed`, `endings.count_loss` |
| P9 | a node key has one live session, and an address one node | `sessions.hello` |
| P10 | every change of state is one row of history | `World.move` |
| P11 | a restart of the master costs no running job anything | `silence.grace_over`, `sessions._directives` |
"""
