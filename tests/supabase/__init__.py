"""A real Supabase REST API for tests: the real PostgREST on the embedded PostgreSQL, behind a small
gateway.

`stack.Supabase(dsn)` serves one database; the fixture `supabase` (tests/conftest.py) is one with
the ledger in it."""
