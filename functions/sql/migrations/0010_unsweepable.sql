-- Overdue tasks that the database refuses to settle: since when, and why. A sweep tries them after all others, once in each run.
create table unstuck.unsweepable (
  watch    text        not null,
  task_id  text        not null,
  kind     text        not null,
  since    timestamptz not null default clock_timestamp(),
  tried_at timestamptz not null default clock_timestamp(),
  sweep_id bigint,                                      -- the last run that tried
  code     text        not null,                        -- the SQLSTATE
  error    text        not null,
  primary key (watch, task_id)
);

alter table unstuck.unsweepable enable row level security;
