"""The rules of the farm: pure functions and plain data. No socket, file, clock, log or random source in here.

A way through it, for a first reading:

1. `job.py`: what a job and an attempt are, and the table of states. All else moves jobs along this table.
2. `world.py`: the tables that hold them, and how a write is taken back. Its last part is how rules change anything.
3. `farm.py`: the one door, `Farm.apply(event, now)`, and what time brings, `Farm.due(now)`. `events.py` lists what can
   happen, `effects.py` what the shell is then asked to do, `rules.py` the times and bounds.
4. One story from end to end: `placement.hand_out` gives an attempt to a node; `sessions.accepted` hears that it was
   taken; `publish.requested` grants; `publish.published` completes the job.
5. The story of a lost node: `sessions.look` notices silence (the master doubts itself first), `sessions.call_lost` voids
   the session, `recovery.lose_node` doubts what ran there and queues its jobs again, `placement.place` starts them
   elsewhere. The node comes back: `sessions.hello`, `sessions.admit`, and for each attempt that it names
   `recovery.returned` keeps one and gives the other up. The essay above `recovery.py` says why.
6. `requests.py` is what users ask, `queue.py` who goes first, `why.py` puts the reasons into sentences.
"""
