-- What people are to be told: a row for each task that a sweep failed, written in the transaction that failed it.
-- Rows become a message when they are taken: one webhook call tells of many, and its id stays the same when it is repeated.
create table unstuck.outbox (
  id       bigint generated always as identity primary key,
  at       timestamptz not null default clock_timestamp(),
  watch    text        not null,
  task_id  text        not null,
  number   integer     not null,
  kind     text        not null,
  reason   text        not null,
  cause    text,
  message  uuid,                                        -- the message that tells of it
  times    integer     not null default 0,              -- how often the message was taken to be sent
  due_at   timestamptz not null default clock_timestamp(),  -- not again before: a lease, then a backoff
  ended_at timestamptz,
  outcome  text check (outcome in ('sent', 'given up')),
  error    text,                                        -- of the last try
  check ((ended_at is null) = (outcome is null))
);
create index outbox_open on unstuck.outbox (due_at) where ended_at is null;
create index outbox_message on unstuck.outbox (message) where ended_at is null;

alter table unstuck.outbox enable row level security;
