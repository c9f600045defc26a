-- A row for each checkpoint, where there was one value for all of an attempt: each new one wrote all others again, so that
-- 1,500 of them cost ten times as much at the end as at the beginning. `number` is the attempt that wrote it; the next attempt
-- reads those of the attempts before it. What an attempt wrote before this migration stays in attempts.checkpoint, and is read too.
create table unstuck.checkpoints (
  watch   text        not null,
  task_id text        not null,
  number  integer     not null,
  name    text        not null,
  data    jsonb,
  at      timestamptz not null,
  primary key (watch, task_id, number, name)
);

alter table unstuck.checkpoints enable row level security;
