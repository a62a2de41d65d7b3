"""ffrtmpctl: the command line of the farm."""
