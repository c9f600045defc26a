-- Ended tasks whose retention is over and which the database refuses to delete: since when, and why. Each is tried again after a day.
create table unstuck.kept (
  watch    text        not null,
  task_id  text        not null,
  since    timestamptz not null default clock_timestamp(),
  tried_at timestamptz not null default clock_timestamp(),
  code     text        not null,                        -- the SQLSTATE; '': no error came
  error    text        not null,
  primary key (watch, task_id)
);

alter table unstuck.kept enable row level security;
