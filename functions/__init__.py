"""Unstuck: every task reaches an end, soon, exactly once, with a reason."""

__version__ = "0.1.0"
