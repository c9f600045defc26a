"""How far one PostgreSQL carries: `make scale`."""
