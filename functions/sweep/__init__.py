"""Settles all that is overdue, and says what it did."""
