-- What is paused, and was: by whom, why, since when and until when. A claim reads the open ones,
-- which are few; the sweep reads the others too, since the time of a pause does not count as
-- waiting.
create table unstuck.pauses (
  id       bigint      generated always as identity primary key,
  watch    text        not null,
  kind     text        not null default '*',            -- '*': all of the watch
  since    timestamptz not null default clock_timestamp(),
  until    timestamptz,                                 -- null: until somebody resumes it
  who      text        not null,
  why      text,
  breaker  integer,  -- of a circuit breaker: how often in a row it has opened
  probe    text,                                        -- the task that it has let through since
  probe_number integer,                                 -- and its attempt
  ended_at timestamptz,
  ended_by text,
  -- 1: that it is paused, 2: that it is forgotten, 3: that it has ended
  told     integer     not null default 0
);
create unique index pauses_open on unstuck.pauses (watch, kind) where ended_at is null;
create index pauses_ended on unstuck.pauses (ended_at) where ended_at is not null;

alter table unstuck.pauses enable row level security;

-- The slots of the limits: a claim takes a free one of each limit that holds for its task. A slot
-- is free again when the attempt that took it has ended (running, owner), or a minute after it was
-- taken (minute).
create table unstuck.slots (
  watch   text        not null,
  name    text        not null,
  slot    integer     not null,
  at      timestamptz not null default '-infinity',
  task_id text,
  number  integer,
  primary key (watch, name, slot)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 500);

alter table unstuck.slots enable row level security;
