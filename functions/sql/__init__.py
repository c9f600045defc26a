"""The semantics: migrations (tables, never edited after a release) and one repeatable file for each
verb."""
