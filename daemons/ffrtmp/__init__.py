"""What the programs of ffrtmp share: the rules of the farm, its messages, and the small tools of a daemon."""

__version__ = "0.1.0"
