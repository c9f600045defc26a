"""Unstuck: every task reaches an end, soon, exactly once, with a reason."""
