-- Whose task of an adopted table was taken last: by claims of the same kinds, and of one priority.
-- The next claim takes that of the owner after.
create table unstuck.rotations (
  watch    text        not null,
  name     text        not null,  -- '*': claims of any kind; else a digest of the kinds
  priority text        not null,
  owner    text        not null,
  at       timestamptz not null default clock_timestamp(),
  primary key (watch, name, priority)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 500);

alter table unstuck.rotations enable row level security;
