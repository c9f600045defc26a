"""A PostgreSQL from a pip wheel."""
