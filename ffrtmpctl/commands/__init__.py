"""What each command does, a module for each group. Only the module that a command needs is imported."""
