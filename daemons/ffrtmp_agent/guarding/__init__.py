"""The parts of the guard. Standard library only, and little of it: see ffrtmp_agent/guard.py for the reason."""
