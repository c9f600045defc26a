-- The ledger: what Unstuck knows of each try to run a task, whatever table the task is in.

create schema if not exists unstuck;

-- One try to run a task, from claim to end. The history of a task is its attempts.
-- What a beat writes (lease_until, beat_at, beats, progress, extended) is in no index, so a beat is a heap-only update.
create table unstuck.attempts (
  watch        text        not null,
  task_id      text        not null,
  number       integer     not null,                    -- 1, 2, ... : every try
  tries        integer     not null,                    -- tries that count against the rule's attempts, this one included
  kind         text        not null,
  token        uuid        not null,                    -- the fence: every write of a running task carries it
  worker       text,
  started_at   timestamptz not null,
  lease        interval    not null,
  lease_until  timestamptz not null,
  deadline_at  timestamptz not null,
  beat_at      timestamptz not null,
  beats        integer     not null default 0,
  extended     boolean     not null default false,      -- got one more lease in a mass expiry
  progress     jsonb,
  checkpoint   jsonb       not null default '{}',
  ended_at     timestamptz,
  outcome      text check (outcome in ('completed', 'failed', 'retried', 'released', 'cancelled', 'overtaken')),
  reason       text,                                    -- why the task moved as it did
  cause        text,                                    -- what happened to this try, where it differs from the reason
  error        text,                                    -- a sentence for the user
  detail       text,                                    -- the technical side, for the operator
  retry_at     timestamptz,                             -- when the next try may start
  sweep_id     bigint,                                  -- the sweep that ended it; 0: a poll or a redelivery
  primary key (watch, task_id, number),
  check ((ended_at is null) = (outcome is null))
) with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);

-- At most one live attempt of a task, whatever the code does. The sweep reads all live attempts from it.
create unique index attempts_live on unstuck.attempts (watch, task_id) where ended_at is null;
-- For retention and for the overview of the last hours.
create index attempts_started on unstuck.attempts (started_at);

-- One row for each sweep: the proof that the sweep lives.
create table unstuck.sweeps (
  id         bigint generated always as identity primary key,
  key        text unique,                               -- the scheduler's time of the run: a duplicate call finds it taken
  by         text,
  started_at timestamptz not null default clock_timestamp(),
  until      timestamptz not null,                      -- a run that has not ended by then is dead
  ended_at   timestamptz,
  ok         boolean,
  counts     jsonb not null default '{}',
  error      text
);

-- Writes that were refused: late results of zombies, and foreign writers stopped by the fence.
create table unstuck.refusals (
  id      bigint generated always as identity primary key,
  at      timestamptz not null default clock_timestamp(),
  watch   text not null,
  task_id text not null,
  source  text not null check (source in ('verb', 'fence')),
  wanted  text not null,
  because text not null,
  token   uuid,
  writer  text
);
create index refusals_task on unstuck.refusals (watch, task_id);

-- Pending tasks whose push was sent again by the sweep.
create table unstuck.dispatches (
  watch   text not null,
  task_id text not null,
  times   integer not null default 1,
  at      timestamptz not null,
  primary key (watch, task_id)
);

-- What the observing trigger of a table without clocks saw of its open tasks.
create table unstuck.observed (
  watch      text        not null,
  task_id    text        not null,
  status_at  timestamptz not null,
  touched_at timestamptz not null,
  primary key (watch, task_id)
) with (fillfactor = 80);

-- A task that is overdue, and what is to become of it: the decision, apart from the write.
create type unstuck.overdue as (
  task_id  text,
  kind     text,
  was      text,          -- pending or running
  live     boolean,       -- an attempt of the ledger is to be ended; otherwise one is added to hold the reason
  number   integer,
  tries    integer,
  worker   text,
  state    text,          -- pending (again), failed, or overtaken (moved by somebody else: left alone)
  reason   text,
  cause    text,
  error    text,
  retry_after double precision,  -- seconds until the next try may start
  late     double precision      -- seconds since it should have been settled
);

alter table unstuck.attempts   enable row level security;
alter table unstuck.sweeps     enable row level security;
alter table unstuck.refusals   enable row level security;
alter table unstuck.dispatches enable row level security;
alter table unstuck.observed   enable row level security;
