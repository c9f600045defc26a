"""The semantics: migrations (tables, never edited after a release) and one repeatable file for each
verb.

The files are templates: functions/install/render.py says what `@name@` means, names.py beside it
has each name. tests/sql/snapshot.sql shows the SQL that comes out for the default policy. What the
verbs share (rules, decisions, `lives_until`) is in rules.sql; the tables and the type
`unstuck.overdue` are in migrations/."""
