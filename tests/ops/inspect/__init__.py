"""check: what it infers, finds and ends, on real tables of a real PostgreSQL."""
