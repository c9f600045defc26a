-- 0001_ledger
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

-- 0002_tasks.tasks
-- The own table, for those who start new. Those who have a table adopt it instead.

create table "public"."tasks" (
  id              uuid        primary key default gen_random_uuid(),
  kind            text        not null,
  input           jsonb       not null default '{}',
  result          jsonb,
  owner           text,
  status          text        not null default 'pending'
                  check (status in ('pending', 'processing', 'completed', 'failed', 'cancelled')),
  error_message   text,
  reason          text,
  priority        integer     not null default 0,
  scheduled_at    timestamptz not null default clock_timestamp(),  -- not before; a retry moves it
  idempotency_key text,
  created_at      timestamptz not null default clock_timestamp(),
  started_at      timestamptz,
  updated_at      timestamptz not null default clock_timestamp(),
  finished_at     timestamptz,
  metadata        jsonb       not null default '{}'
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);

-- One partial index for each open state on its own clock: an idle sweep costs the same whatever the table's size.
create index "tasks_pending" on "public"."tasks" (scheduled_at) where status = 'pending';
create index "tasks_running" on "public"."tasks" (updated_at) where status = 'processing';
create index "tasks_claim" on "public"."tasks" (priority desc, scheduled_at) where status = 'pending';
create index "tasks_owner" on "public"."tasks" (owner, created_at) where owner is not null;
create unique index "tasks_idempotency" on "public"."tasks" (coalesce(owner, ''), idempotency_key) where idempotency_key is not null;

alter table "public"."tasks" enable row level security;

-- 0003_one_active.tasks
-- One open task of a kind for each owner, where a row says so: `create` says it for kinds whose rule is `one_active`.
-- Other writers of the table take part when they write the column too.

alter table "public"."tasks" add column one_active boolean not null default false;
create unique index "tasks_one_active" on "public"."tasks" (kind, coalesce(owner, '')) where one_active and status in ('pending', 'processing');

-- 0003_outbox
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

-- 0004_repeats
-- The caller's own name of a call, for verbs whose repetition would do more than the first call did.

alter table unstuck.sweeps add column run uuid,            -- of `sweep_begin`
                           add column batch uuid,          -- the last one that was settled
                           add column batch_at timestamptz;

-- What people did by hand, by the name of the call.
create table unstuck.operations (
  key    uuid primary key,
  at     timestamptz not null default clock_timestamp(),
  watch  text        not null,
  action text        not null,
  moved  text[]      not null default '{}'
);

alter table unstuck.operations enable row level security;

-- 0006_page
-- What the operators' page reads and no verb does: the attempts that failed, and those that a sweep ended. Both are few.
create index attempts_failed on unstuck.attempts (watch, started_at) where outcome in ('failed', 'cancelled');
create index attempts_swept on unstuck.attempts (sweep_id) where sweep_id > 0;

-- When each checkpoint was written, in seconds since 1970, for the timeline.
alter table unstuck.attempts add column checkpoint_at jsonb not null default '{}';

-- 0007_evidence
-- What the platform's log says of an attempt whose worker stopped without a word.
alter table unstuck.attempts add column evidence text;

-- 0008_checks
-- The same words, at a fraction of their price. A table's CHECK is read and prepared anew by each statement that writes, and a
-- list of words in it took a tenth of a claim and settle. The check of a domain is prepared once in each session.
create domain unstuck.outcome as text check (value in ('completed', 'failed', 'retried', 'released', 'cancelled', 'overtaken'));
create domain unstuck.status as text check (value in ('pending', 'processing', 'completed', 'failed', 'cancelled'));

alter table unstuck.attempts
  drop constraint attempts_check, drop constraint attempts_outcome_check, alter column outcome type unstuck.outcome;

-- 0008_tasks_check.tasks
-- As for the ledger: see 0008_checks.
alter table "public"."tasks"
  drop constraint "tasks_status_check",
  add constraint "tasks_status_check" check (status::unstuck.status is not null);

-- 0009_ended
-- By the time of the end, where it was by the start: a claim has one index less to write, and retention counts from the end.
drop index unstuck.attempts_started, unstuck.attempts_failed;
create index attempts_ended on unstuck.attempts (ended_at) where ended_at is not null;
create index attempts_failed on unstuck.attempts (watch, ended_at) where outcome in ('failed', 'cancelled');

-- 0010_unsweepable
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

-- 0012_checkpoints
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

-- 0013_kept
-- By their time: what is kept is pruned by an index, and a sweep costs the same however much is kept.
create index if not exists dispatches_at on unstuck.dispatches (at);
create index if not exists operations_at on unstuck.operations (at);
create index if not exists refusals_at on unstuck.refusals (at);
create index if not exists outbox_at on unstuck.outbox (at);
create index if not exists observed_status_at on unstuck.observed (watch, status_at);
create index if not exists sweeps_started on unstuck.sweeps (started_at);
create index if not exists sweeps_open on unstuck.sweeps (until) where ended_at is null;

-- 0013_kinds.tasks
-- A claim that names kinds does not walk past the tasks of all others.
create index if not exists "tasks_kinds" on "public"."tasks" (kind, priority desc, scheduled_at) where status = 'pending';

-- 0014_clock_jumps
-- When the clock of the database was set by more than a sweep can explain, and by how many seconds.
create table unstuck.clock_jumps (
  sweep_id bigint           primary key,                -- the run that found it
  at       timestamptz      not null default clock_timestamp(),
  seconds  double precision not null                    -- above 0: the clock was set forward
);

alter table unstuck.clock_jumps enable row level security;

-- 0015_locks
-- What one transaction at a time may do: begin a sweep, take a message, create a task of an owner.
-- Rows that are locked, since any role that may connect can hold an advisory lock for ever.
create table unstuck.locks (
  name text primary key
);

alter table unstuck.locks enable row level security;

-- 0016_installations
-- Several installations (stages, bundles) in one database: whose run it is, and whose watch.
alter table unstuck.sweeps add column installation text not null default '';
alter table if exists unstuck.migrations add column installation text not null default '';

-- 0017_rehearsals
-- With `fence: observe` the trigger writes down what `enforce` would have refused.
alter table unstuck.refusals
  drop constraint if exists refusals_source_check,
  add constraint refusals_source_check
    check (source in ('verb', 'fence', 'rehearsal')) not valid;

-- 0018_callback.tasks
-- The URL that is told of the end of this task.
alter table "public"."tasks" add column if not exists callback_url text;

-- 0018_told
-- Every end can be told, to several addresses. An address is a name; its URL is in the environment
-- of the sweep, or here for a database that sends by itself (pg_net).
alter table unstuck.outbox
  add column if not exists address text not null default 'default',
  -- how the attempt ended; or notice, which is of no task
  add column if not exists state   text not null default 'failed',
  add column if not exists url     text,  -- of the task's own callback
  add column if not exists request bigint;  -- of pg_net, while nobody has read its answer
create index outbox_task on unstuck.outbox (watch, task_id) where ended_at is null;

create table unstuck.addresses (
  name    text primary key,
  url     text,                     -- `vault:NAME` stands for a secret of Supabase's Vault
  secret  text,                     -- as url
  headers jsonb not null default '{}',
  hosts   text[] not null default '{}',  -- of `callback`: the hosts that a task may name
  seen_at timestamptz               -- when a sweep last asked for what this address is to be told
);
alter table unstuck.addresses enable row level security;

-- 0019_pauses
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

-- 0020_turn.tasks
-- When a task of an owner has its turn: one second after the one before it of the same owner, kind
-- and priority. So the tasks of an owner who has a thousand do not all come before that of another.
-- Null: since it waits.
alter table "public"."tasks" add column turn timestamptz;

-- 0020_watchdog
-- How often a sweep by pg_cron is to run, so that a claim, a create or a poll can notice that it
-- does not.
create table unstuck.watchdog (
  installation text        primary key,
  every        interval    not null,
  since        timestamptz not null default clock_timestamp(),
  told_at      timestamptz                                       -- when its silence was told last
);
alter table unstuck.watchdog enable row level security;
create index outbox_request on unstuck.outbox (request)
where ended_at is null and request is not null;

-- 0021_turn_index.tasks
-- The order of the claims: the most urgent, then by turn: of any kind, of one kind, and of one
-- owner.
create index if not exists "tasks_turn" on "public"."tasks"
(priority desc, (coalesce(turn, scheduled_at)), scheduled_at)
where status = 'pending';
create index if not exists "tasks_kind_turn" on "public"."tasks"
(kind, priority desc, (coalesce(turn, scheduled_at)), scheduled_at)
where status = 'pending';
create index if not exists "tasks_owner_turn" on "public"."tasks"
(kind, (coalesce(owner, '')), priority desc, (coalesce(turn, scheduled_at)), scheduled_at)
where status = 'pending';
drop index if exists "public"."tasks_claim";
drop index if exists "public"."tasks_kinds";

-- 0023_withdrawn
-- Whether a task waited when its user asked to stop it by its status: then nobody holds it.
alter table unstuck.observed add column withdrawn boolean not null default false;

-- 0024_clock_mark
-- What claims have to see of a clock that was set forward stands beside the pauses (mark_clock).
insert into unstuck.pauses (watch, kind, until, who)
select '', 'clock', j.at + interval '30 days', 'clock'
from unstuck.clock_jumps j
where j.at > clock_timestamp() - interval '30 days'
limit 1
on conflict do nothing;

-- 0025_worked
-- What workers did last, without the ends that a sweep wrote between: after a sweep of many tasks
-- each batch, and each poll, walked past all of them. By an expression, so that the planner cannot
-- take the index of all ends for as good.
create index if not exists attempts_worked
on unstuck.attempts (watch, (coalesce(ended_at, 'infinity')))
where ended_at is not null and worker is not null and sweep_id is null;

-- 0026_turns
-- What workers did last, as a run of the sweep has read it for its batches, and when.
alter table unstuck.sweeps
  add column if not exists turns    jsonb,
  add column if not exists turns_at timestamptz;

-- 0027_rotations
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

-- 0028_kept
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

-- 0029_trace
-- The trace of the request that claimed the attempt, 32 hex digits: with it the platform finds all
-- lines that were logged meanwhile, its own too.
alter table unstuck.attempts add column trace text;

-- 0030_cancelled
-- How many tasks were cancelled: among thousands that failed each of those was read to count a few.
create index if not exists attempts_cancelled
on unstuck.attempts (watch, ended_at)
where outcome = 'cancelled';

-- shared
-- What the verbs share: the decisions, which read the rules and the clocks and write nothing.

-- The rule of a kind, complete. Rules come from policy.yaml and travel with each call:
-- {"*": {...}, "image": {...}}. "*" is complete; a kind states only what differs there.
-- `longest_pending_for`, in "*", bounds what a claim reads.
create or replace function unstuck.rule(p_rules jsonb, p_kind text) returns jsonb
language sql immutable parallel safe as $$
  select (p_rules -> '*') || coalesce(p_rules -> p_kind, '{}')
$$;

-- All rules, each complete: for a set of tasks, so that a rule is put together once for each kind
-- and not once for each row.
create or replace function unstuck.complete_rules(p_rules jsonb) returns jsonb
language sql immutable parallel safe as $$
  select jsonb_object_agg(r.kind, unstuck.rule(p_rules, r.kind))
  from jsonb_object_keys(p_rules) as r (kind)
$$;

-- One value of a kind's rule, without putting the rule together.
create or replace function unstuck.rule_value(p_rules jsonb, p_kind text, p_name text) returns text
language sql immutable parallel safe as $$
  select coalesce(p_rules -> p_kind ->> p_name, p_rules -> '*' ->> p_name)
$$;

-- One value of a kind's rule that is a length of time; the policy has it in seconds.
create or replace function unstuck.rule_seconds(p_rules jsonb, p_kind text, p_name text)
returns interval language sql immutable parallel safe as $$
  select make_interval(secs => unstuck.rule_value(p_rules, p_kind, p_name)::float8)
$$;

-- How long a task may wait at most, whatever goes on around it: four times `pending_for`, unless
-- the policy says otherwise.
create or replace function unstuck.pending_at_most(p_rules jsonb, p_kind text) returns interval
language sql immutable parallel safe as $$
  select coalesce(
    unstuck.rule_seconds(p_rules, p_kind, 'pending_at_most'),
    4 * unstuck.rule_seconds(p_rules, p_kind, 'pending_for')
  )
$$;

-- How long a kind was paused between two times. `p_pauses`:
-- as `turns` carries them.
create or replace function unstuck.paused_time(
  p_kind text,
  p_from timestamptz,
  p_to timestamptz,
  p_pauses jsonb
) returns interval language sql immutable as $$
  select coalesce(sum(upper(u.span) - lower(u.span)), '0')
  from (
    select unnest(range_agg(
      tstzrange((t.time ->> 0)::timestamptz, (t.time ->> 1)::timestamptz)
      * tstzrange(p_from, greatest(p_from, p_to))
    )) as span
    from jsonb_array_elements(
      coalesce(p_pauses -> p_kind, '[]') || coalesce(p_pauses -> '*', '[]')
    ) as t (time)
    where (t.time ->> 0)::timestamptz <= (t.time ->> 1)::timestamptz
  ) u
  where not isempty(u.span)
$$;

-- Until when a task may wait. `pending_for` counts from when it was queued, and anew while workers
-- hold tasks of its kind (`p_held`: when one last did), or, as `p_any_held`, tasks that were queued
-- before it (`p_front`): then it waits for its turn. The time for which its kind was paused is no
-- waiting.
create or replace function unstuck.waits_until(
  p_queued timestamptz,
  p_paused interval,
  p_pending_for interval,
  p_at_most interval,
  p_held timestamptz,
  p_any_held timestamptz,
  p_front timestamptz
) returns timestamptz language sql stable as $$
  select p_paused + least(
    least(p_queued, '9999-12-31') + p_at_most,
    greatest(
      least(p_queued, '9999-12-31'),
      p_held,
      case when p_queued >= p_front then p_any_held end
    ) + p_pending_for
  )
$$;

-- The same of a kind, by its rule. `p_turns`: the answer of `turns`.
create or replace function unstuck.pending_until(
  p_queued timestamptz,
  p_kind text,
  p_rules jsonb,
  p_turns jsonb
) returns timestamptz language sql stable as $$
  select unstuck.waits_until(
    p_queued,
    case
      when p_turns -> '*' ? 'pauses' then unstuck.paused_time(
        p_kind,
        least(p_queued, '9999-12-31'),
        statement_timestamp(),
        p_turns -> '*' -> 'pauses'
      )
      else '0'
    end,
    unstuck.rule_seconds(p_rules, p_kind, 'pending_for'),
    unstuck.pending_at_most(p_rules, p_kind),
    (p_turns -> p_kind ->> 'held')::timestamptz,
    (p_turns -> '*' ->> 'held')::timestamptz,
    (p_turns -> '*' ->> 'front')::timestamptz
  )
$$;

-- Up to when a task may have been queued, if it is overdue now: of each kind that has a rule or was
-- worked on, and of all others together (''). `p_turns`: the answer of `turns`.
create or replace function unstuck.overdue_bounds(
  p_now timestamptz,
  p_rules jsonb,
  p_turns jsonb
) returns table (kind text, bound timestamptz) language sql stable as $$
  select k.kind, case
    when k.held > p_now - k.pending_for then k.latest
    when (p_turns -> '*' ->> 'held')::timestamptz > p_now - k.pending_for then
      greatest(k.latest, least(p_now - k.pending_for, (p_turns -> '*' ->> 'front')::timestamptz))
    else p_now - k.pending_for
  end
  from (
    select
      n.kind,
      (p_turns -> n.kind ->> 'held')::timestamptz as held,
      unstuck.rule_seconds(p_rules, n.kind, 'pending_for') as pending_for,
      p_now - unstuck.pending_at_most(p_rules, n.kind) as latest
    from (
      select jsonb_object_keys(p_rules || p_turns) as kind
      union
      select ''
    ) n
    where n.kind <> '*'
  ) k
$$;

-- The same of whatever kind: a bound that an index can use, so that a long queue that moves is not
-- read.
create or replace function unstuck.overdue_before(
  p_now timestamptz,
  p_rules jsonb,
  p_turns jsonb
) returns timestamptz language sql stable as $$
  select max(b.bound) from unstuck.overdue_bounds(p_now, p_rules, p_turns) b
$$;

-- Whether a task only waits for its turn: tasks of its kind are claimed, and those were not queued
-- after it. Or it waits for the end of a pause.
create or replace function unstuck.in_turn(
  p_queued timestamptz,
  p_kind text,
  p_since timestamptz,
  p_turns jsonb
) returns boolean language sql stable as $$
  select coalesce(
    (p_turns -> p_kind ->> 'claimed')::timestamptz > p_since
      and p_queued >= (p_turns -> p_kind ->> 'front')::timestamptz,
    false
  ) or coalesce(p_turns -> '*' -> 'paused' ?| array[p_kind, '*'], false)
$$;

-- By kind, when its last pause ended that lasted for so long that a queue may have given up what
-- was pushed before. '*': that of all kinds.
create or replace function unstuck.resumed(p_now timestamptz, p_rules jsonb, p_turns jsonb)
returns jsonb language sql stable as $$
  select coalesce(jsonb_object_agg(r.kind, r.at), '{}')
  from (
    select k.kind, max((t.time ->> 1)::timestamptz) as at
    from jsonb_each(p_turns -> '*' -> 'pauses') as k (kind, times)
    cross join jsonb_array_elements(k.times) as t (time)
    where (t.time ->> 1)::timestamptz between
      (t.time ->> 0)::timestamptz + unstuck.rule_seconds(p_rules, k.kind, 'redispatch_after')
      and p_now
    group by k.kind
  ) r
$$;

-- When the tasks of a kind could be taken again after such a pause; null where none was, and where
-- it is paused now.
create or replace function unstuck.resumed_at(p_kind text, p_resumed jsonb, p_turns jsonb)
returns timestamptz language sql stable as $$
  select case
    when p_resumed = '{}' or p_turns -> '*' -> 'paused' ?| array[p_kind, '*'] then null
    else greatest((p_resumed ->> p_kind)::timestamptz, (p_resumed ->> '*')::timestamptz)
  end
$$;

-- After how many times `redispatch_after` a task that was pushed `p_times` times again is pushed
-- once more. While workers take tasks the queue is slow, and its pushes are not all lost: to push
-- each waiting task once in every period would make it slower still, for ever.
create or replace function unstuck.push_factor(
  p_times integer,
  p_kind text,
  p_now timestamptz,
  p_rules jsonb,
  p_turns jsonb
) returns double precision language sql stable as $$
  select case
    when (p_turns -> '*' ->> 'claimed')::timestamptz
      > p_now - unstuck.rule_seconds(p_rules, p_kind, 'redispatch_after')
    then power(2, least(p_times, 5) - 1)
    else 1
  end
$$;

-- The shortest time that any kind has: a bound that an index can use.
create or replace function unstuck.shortest(p_rules jsonb, p_name text) returns interval
language sql immutable parallel safe as $$
  select make_interval(secs => min((value ->> p_name)::float8))
  from jsonb_each(p_rules)
$$;

-- A number from 0 up to 1 that is always the same for a key: for a sample.
create or replace function unstuck.draw(p_key text) returns float8
language sql immutable parallel safe as $$
  select (hashtext(p_key) & 1048575) / 1048576::float8
$$;

-- The time, or null where it is infinite: people write 'infinity' for "on hold" and '-infinity' for
-- "at once". PostgreSQL 15 and 16 cannot subtract such a time, and the later ones make a length of
-- it that no JSON number can hold.
create or replace function unstuck.finite(p_time timestamptz) returns timestamptz
language sql immutable parallel safe as $$
  select nullif(nullif(p_time, 'infinity'), '-infinity')
$$;

-- Whether a value is the one that was asked for. Where nothing is asked for, each value fits.
create or replace function unstuck.fits(p_value text, p_asked text) returns boolean
language sql immutable parallel safe as $$
  select p_asked is null or p_value = p_asked
$$;

-- A sentence without what differs from task to task: ids and numbers. Sentences with the same shape
-- tell the same.
create or replace function unstuck.message_shape(p_text text) returns text
language sql immutable parallel safe as $$
  select regexp_replace(
    left(p_text, 300),
    '\m[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\M|\m(?=[a-fA-F]*\d)[0-9a-fA-F]{8,}\M|\d+',
    '#',
    'g'
  )
$$;

-- How long after its start the server became ready. A recovery takes time, also the one after the
-- crash of a single backend, which the postmaster survives; a standby waits until it takes over.
-- The walwriter starts when it is over. 0 where our owner may not see it (pg_read_all_stats).
-- Costs 0.1 ms: it is asked in a sub-select, so only when a lease has run out.
create or replace function unstuck.ready_after() returns interval
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select coalesce(max(a.backend_start) - pg_postmaster_start_time(), '0')
  from pg_stat_get_activity(null) a
  where a.backend_type = 'walwriter'
$$;

-- Until when an attempt is believed alive. After a restart or a recovery of the database its lease
-- counts from then: no worker could send a heartbeat while the database was away. A start in the
-- future, of a clock that was set back since, says nothing.
create or replace function unstuck.alive_until(
  p_lease_until timestamptz,
  p_lease interval,
  p_deadline timestamptz,
  p_ready_after interval
) returns timestamptz language sql stable as $$
  select least(
    p_deadline,
    greatest(p_lease_until, case
      when pg_postmaster_start_time() <= statement_timestamp() then
        pg_postmaster_start_time() + p_ready_after + p_lease
    end)
  )
$$;

-- The same for a row of the ledger. `p_ready_after` is always `(select unstuck.ready_after())`: it
-- stays outside, because PostgreSQL does not inline a function that has a sub-select.
create or replace function unstuck.lives_until(p_attempt unstuck.attempts, p_ready_after interval)
returns timestamptz language sql stable as $$
  select unstuck.alive_until(
    p_attempt.lease_until, p_attempt.lease, p_attempt.deadline_at, p_ready_after
  )
$$;

-- The last attempt of a task, if any.
create or replace function unstuck.last_attempt(p_watch text, p_task text)
returns table (number integer, tries integer, outcome text) language sql stable as $$
  select a.number, a.tries, a.outcome
  from unstuck.attempts a
  where a.watch = p_watch and a.task_id = p_task
  order by a.number desc
  limit 1
$$;

-- Whether the attempt ended in a way that hides how far its work had come. `on_lost` of the rule
-- says what happens then.
create or replace function unstuck.is_loss(p_cause text) returns boolean
language sql immutable parallel safe as $$
  select p_cause in ('lease_lost', 'deadline', 'out_of_memory', 'crashed', 'shutdown', 'stale')
$$;

-- The seconds until a time; 0 where it has passed.
create or replace function unstuck.due_in(p_due timestamptz) returns double precision
language sql volatile as $$
  select coalesce(
    greatest(0, extract(epoch from unstuck.finite(p_due) - clock_timestamp())), 0
  )::float8
$$;

-- The next state of a task whose try ended by `p_cause`. Sweep and settle both decide by it.
create or replace function unstuck.next_state(p_rule jsonb, p_cause text, p_tries integer)
returns text language sql immutable parallel safe as $$
  select case
    when p_cause = 'never_claimed' then 'failed'
    when p_cause = 'cancelled' then 'cancelled'
    when unstuck.is_loss(p_cause) and p_rule ->> 'on_lost' <> 'retry' then 'failed'
    when p_tries < (p_rule ->> 'attempts')::integer then 'pending'
    else 'failed'
  end
$$;

-- The reason that goes with that state.
create or replace function unstuck.next_reason(p_rule jsonb, p_cause text, p_tries integer)
returns text language sql immutable parallel safe as $$
  select case
    when p_cause in ('never_claimed', 'cancelled') then p_cause
    when unstuck.is_loss(p_cause) and p_rule ->> 'on_lost' = 'uncertain' then 'uncertain'
    when unstuck.is_loss(p_cause) and p_rule ->> 'on_lost' = 'fail' then p_cause
    when p_tries < (p_rule ->> 'attempts')::integer then p_cause
    when p_cause = 'transient' then 'transient_exhausted'
    else 'attempts_exhausted'
  end
$$;

-- How long to wait before the next try: first x factor^(tries - 1), at most max. Up to half of it
-- is taken away at random, so that tasks that failed together do not come back together.
create or replace function unstuck.backoff(p_rule jsonb, p_tries integer) returns interval
language sql volatile as $$
  select make_interval(secs => (0.5 + random() / 2) * least(
    (p_rule ->> 'backoff_max')::float8,
    (p_rule ->> 'backoff_first')::float8
      * power((p_rule ->> 'backoff_factor')::float8, least(p_tries, 64) - 1)
  ))
$$;

-- The same for a try that was lost: seconds, or null when there is no next one.
create or replace function unstuck.retry_after(p_rule jsonb, p_cause text, p_tries integer)
returns double precision language sql volatile as $$
  select case unstuck.next_state(p_rule, p_cause, p_tries)
    when 'pending' then extract(epoch from unstuck.backoff(p_rule, p_tries))
  end
$$;

-- The decision about a task whose try was lost. In plpgsql: inlined for each field, the cases took
-- longer to plan than to run.
create or replace function unstuck.decided(
  p_task text,
  p_kind text,
  p_live boolean,
  p_number integer,
  p_tries integer,
  p_worker text,
  p_rule jsonb,
  p_cause text,
  p_held boolean,
  p_late interval
) returns unstuck.overdue language plpgsql volatile as $$
declare
  v_reason constant text := unstuck.next_reason(p_rule, p_cause, p_tries);
begin
  return row(
    p_task,
    p_kind,
    'running',
    p_live,
    p_number,
    p_tries,
    p_worker,
    case when p_held then unstuck.next_state(p_rule, p_cause, p_tries) else 'overtaken' end,
    v_reason,
    p_cause,
    unstuck.sentence(v_reason, p_cause, p_tries),
    case when p_held then unstuck.retry_after(p_rule, p_cause, p_tries) end,
    coalesce(extract(epoch from p_late), 0)
  )::unstuck.overdue;
end $$;

-- The rule of a task that ran outside the guard and was last alive at `p_alive`: after more than
-- `restart_within` it is not started again, since nobody may wait for it any more.
create or replace function unstuck.rule_at_age(
  p_rule jsonb,
  p_alive timestamptz,
  p_now timestamptz
) returns jsonb language sql immutable as $$
  select case
    when p_rule ->> 'on_lost' = 'retry'
      and p_alive < p_now
        - make_interval(secs => coalesce((p_rule ->> 'restart_within')::float8, 86400))
    then p_rule || '{"on_lost": "fail"}'
    else p_rule
  end
$$;

-- The rule of a task whose row says how many attempts it has; 0 and null say nothing. Stable, as
-- what it calls: else it is not inlined.
create or replace function unstuck.rule_of_row(p_rule jsonb, p_attempts integer) returns jsonb
language sql stable parallel safe as $$
  select case
    when p_attempts > 0 then
      p_rule || jsonb_build_object('attempts', least(p_attempts, 100))
    else p_rule
  end
$$;

-- Which try it was that a task outside the guard has lost: by the ledger, and by what its table
-- counts where nobody has started it again since it ended.
create or replace function unstuck.lost_try(p_outcome text, p_tries integer, p_counted integer)
returns integer language sql immutable parallel safe as $$
  select case
    when p_outcome in ('completed', 'failed', 'cancelled') then 1
    else greatest(coalesce(p_tries, 0) + 1, p_counted)
  end
$$;

-- The sentence for a person. In plpgsql: SQL that calls itself is not inlined, and costs five times
-- as much.
create or replace function unstuck.sentence(p_reason text, p_cause text, p_tries integer)
returns text language plpgsql immutable parallel safe as $$
begin
  return case p_reason
    when 'never_claimed' then 'No worker picked the task up in time.'
    when 'attempts_exhausted' then format(
      'Gave up after %s %s. The last one: %s',
      p_tries,
      case p_tries when 1 then 'attempt' else 'attempts' end,
      unstuck.sentence(p_cause, null, p_tries)
    )
    when 'transient_exhausted' then format(
      'Gave up after %s attempts that each failed for a passing reason.', p_tries
    )
    when 'uncertain' then
      'The worker stopped before it could say whether the work was done. '
      'It is not repeated, since a second run could do it twice.'
    when 'lease_lost' then 'The worker stopped without a word.'
    when 'deadline' then 'The work took longer than it may.'
    when 'out_of_memory' then 'The work needed more memory than it may use.'
    when 'crashed' then 'The process that did the work crashed.'
    when 'no_handler' then 'No worker that took the task knew how to do it.'
    when 'shutdown' then 'The worker was shut down.'
    when 'stale' then 'Nothing was heard of the task for too long.'
    when 'cancelled' then 'The task was cancelled.'
    when 'by_hand' then 'It was ended by a person.'
    else 'The work failed.'
  end;
end $$;

-- The decision about a task that no worker took in time. `p_had_turns`: it waited for its turn, as
-- long as it may.
create or replace function unstuck.unclaimed(
  p_task text,
  p_kind text,
  p_number integer,
  p_tries integer,
  p_had_turns boolean,
  p_late interval
) returns unstuck.overdue language sql immutable as $$
  select row(
    p_task,
    p_kind,
    'pending',
    false,
    coalesce(p_number, 0) + 1,
    coalesce(p_tries, 0),
    null,
    'failed',
    'never_claimed',
    'never_claimed',
    case
      when p_had_turns then 'Its turn did not come in time: more tasks came than were done.'
      else unstuck.sentence('never_claimed', null, 0)
    end,
    null,
    coalesce(extract(epoch from p_late), 0)
  )::unstuck.overdue
$$;

-- The decision about a task that waits, or waited, and whose user asked to stop it.
drop function if exists unstuck.withdrawn(text, text, integer, integer);
create or replace function unstuck.withdrawn(
  p_task text,
  p_kind text,
  p_number integer,
  p_tries integer,
  p_was text default 'pending'
) returns unstuck.overdue language sql immutable as $$
  select row(
    p_task,
    p_kind,
    p_was,
    false,
    coalesce(p_number, 0) + 1,
    coalesce(p_tries, 0),
    null,
    'cancelled',
    'cancelled',
    'cancelled',
    unstuck.sentence('cancelled', null, 0),
    null,
    0
  )::unstuck.overdue
$$;

-- Whether the same statement may succeed later: after a deadlock, a timeout, a shutdown, a failover
-- or a lack of resources. functions/core/sqlstates.py has the list of classes and codes.
create or replace function unstuck.is_passing(p_sqlstate text) returns boolean
language sql immutable parallel safe as $$
  select array[left(p_sqlstate, 2), p_sqlstate] && array['00', '01', '02', '03', '08', '0A', '0B', '24', '25', '26', '34', '40', '53', '55', '57', '58', '72', 'F0', 'HV', 'XX', '42P05']
$$;

-- pauses: a kind, or all of a watch ('*'), whose tasks are not claimed for a while. Running ones go
-- on, and a waiting task does not come nearer to its end: the time of a pause does not count.

-- Whether it holds still: one whose time is over does not, unless it is that of a breaker, which
-- waits for the task that it lets through.
create or replace function unstuck.is_open(p_pause unstuck.pauses) returns boolean
language sql stable as $$
  select p_pause.ended_at is null
    and (p_pause.until is null or p_pause.until > clock_timestamp() or p_pause.breaker is not null)
$$;

create or replace function unstuck.shown(p_pause unstuck.pauses) returns jsonb
language sql stable as $$
  select jsonb_build_object(
    'watch', p_pause.watch,
    'kind', p_pause.kind,
    'who', p_pause.who,
    'why', p_pause.why,
    'breaker', p_pause.breaker is not null,
    'since', p_pause.since,
    'age', extract(epoch from coalesce(p_pause.ended_at, clock_timestamp()) - p_pause.since),
    'left', case when p_pause.until is not null then
      greatest(0, extract(epoch from p_pause.until - clock_timestamp()))
    end,
    'ended_by', p_pause.ended_by
  )
$$;

-- Pauses, or says anew until when and why. `p_seconds` null: until somebody resumes it.
create or replace function unstuck.pause(
  p_watch text,
  p_kind text,
  p_seconds double precision,
  p_who text,
  p_why text default null
) returns jsonb language plpgsql as $$
declare
  v_pause unstuck.pauses;
begin
  if p_seconds <= 0 then
    raise exception 'a pause of % s would be over at once', p_seconds
      using errcode = 'invalid_parameter_value',
        hint = 'Give a time above 0, or null: until somebody resumes it.';
  end if;
  insert into unstuck.pauses as p (watch, kind, until, who, why)
  values (p_watch, p_kind, clock_timestamp() + make_interval(secs => p_seconds), p_who, p_why)
  on conflict (watch, kind) where ended_at is null do update
  set until = excluded.until,
      who = p_who,
      why = p_why,
      breaker = null,
      probe = null,
      told = 0
  returning p.* into v_pause;
  return unstuck.shown(v_pause);
end $$;

-- A pause has ended: what waited through it looks older than it is. As for the clock, a mark beside
-- the pauses says so, which the first claim that has no use for it any more takes away.
create or replace function unstuck.mark_resumed(p_watch text) returns void language sql as $$
  insert into unstuck.pauses (watch, kind, who)
  values ('/' || p_watch, 'resumed', 'resumed')
  on conflict (watch, kind) where ended_at is null do nothing
$$;

-- Ends the pause of a kind; with '*' all pauses of the watch. Returns those that it ended.
create or replace function unstuck.resume(p_watch text, p_kind text, p_who text) returns jsonb
language plpgsql as $$
declare
  v_ended jsonb;
begin
  with ended as (
    update unstuck.pauses p
    set ended_at = clock_timestamp(),
        ended_by = p_who
    where p.id in (
      select l.id
      from unstuck.pauses l
      where l.watch = p_watch
        and l.ended_at is null
        and (p_kind = '*' or l.kind = p_kind)
        and unstuck.is_open(l)
      order by l.id
      for update
    )
    returning p.*
  )
  select jsonb_agg(unstuck.shown(e::unstuck.pauses) order by e.kind)
  into v_ended
  from ended e;
  if v_ended is not null then
    perform unstuck.mark_resumed(p_watch);
  end if;
  return coalesce(v_ended, '[]');
end $$;

-- What is paused now, in these watches.
create or replace function unstuck.pauses(p_watches text[]) returns jsonb language sql stable as $$
  select coalesce(jsonb_agg(unstuck.shown(p) order by p.watch, p.kind), '[]')
  from unstuck.pauses p
  where p.watch = any (p_watches)
    and p.ended_at is null
    and unstuck.is_open(p)
$$;

-- Once in each run of the sweep: ends the pauses whose time is over, and answers what nobody was
-- told yet, whoever did it: `paused`, `resumed`, or `forgotten`, one that is older than
-- `p_forgotten` seconds and has no end. Each once.
create or replace function unstuck.pauses_told(p_watches text[], p_forgotten double precision)
returns jsonb language plpgsql as $$
declare
  v_now  constant timestamptz := clock_timestamp();
  v_told jsonb;
begin
  update unstuck.pauses p
  set ended_at = p.until,
      ended_by = 'its time was over'
  where p.id in (
    select l.id
    from unstuck.pauses l
    where l.watch = any (p_watches || '{""}')
      and l.ended_at is null
      and l.breaker is null
      and l.until <= v_now
    for update skip locked
  );
  perform unstuck.mark_resumed(p.watch)
  from unstuck.pauses p
  where p.watch = any (p_watches) and p.ended_at is not null and p.told < 3;
  with told as (
    select
      p.id,
      case
        when p.ended_at is not null then 3
        when p.told > 0 then 2
        else 1
      end as told
    from unstuck.pauses p
    where p.watch = any (p_watches)
      and (
        p.told = 0
        or p.told < 3 and p.ended_at is not null
        or p.told < 2
          and p.until is null
          and p.since <= v_now - make_interval(secs => p_forgotten)
      )
    for update skip locked
  ), written as (
    update unstuck.pauses p
    set told = t.told
    from told t
    where p.id = t.id
    returning p.*
  )
  select jsonb_agg(unstuck.shown(w::unstuck.pauses) || jsonb_build_object(
    'verdict', case w.told when 1 then 'paused' when 2 then 'forgotten' else 'resumed' end
  ) order by w.id)
  into v_told
  from written w;
  return coalesce(v_told, '[]');
end $$;

-- The answer of `turns` with the pauses of the watch, in "*": `paused`, the kinds that are paused
-- now; `pauses`, by kind, from when until when, those too that ended while a task may have waited.
create or replace function unstuck.with_pauses(
  p_watch text,
  p_now timestamptz,
  p_rules jsonb,
  p_turns jsonb
) returns jsonb language plpgsql stable as $$
declare
  v_pauses jsonb;
begin
  select jsonb_build_object(
    'paused', coalesce(jsonb_agg(k.kind) filter (where k.is_open), '[]'),
    'pauses', jsonb_object_agg(k.kind, k.times)
  )
  into v_pauses
  from (
    select
      p.kind,
      bool_or(unstuck.is_open(p)) as is_open,
      jsonb_agg(jsonb_build_array(p.since, coalesce(
        p.ended_at, case when p.breaker is null then p.until end, 'infinity'
      ))) as times
    from unstuck.pauses p
    where p.watch = p_watch
      and (
        p.ended_at is null
        or p.ended_at > p_now
          - coalesce(2 * unstuck.rule_seconds(p_rules, '*', 'longest_pending_for'), '1 day')
      )
    group by p.kind
  ) k
  having count(*) > 0;
  if v_pauses is null then
    return p_turns;
  end if;
  return p_turns || jsonb_build_object('*', coalesce(p_turns -> '*', '{}') || v_pauses);
end $$;

-- The clock was set forward: what waited before looks older than it is. The claims of all watches
-- see it beside the pauses, since to ask for it apart would cost each claim a search; and by then
-- whatever waited has ended.
create or replace function unstuck.mark_clock() returns void language sql as $$
  insert into unstuck.pauses as p (watch, kind, until, who)
  values ('', 'clock', clock_timestamp() + interval '30 days', 'clock')
  on conflict (watch, kind) where ended_at is null do update set until = excluded.until
$$;

-- Takes the mark of `mark_resumed` away where no task can have waited through a pause any more;
-- returns whether one was there.
create or replace function unstuck.forget_resumed(p_watch text, p_rules jsonb) returns boolean
language plpgsql as $$
begin
  update unstuck.pauses m
  set ended_at = clock_timestamp(),
      told = 3
  where m.watch = '/' || p_watch
    and m.ended_at is null
    and not exists (
      select from unstuck.pauses p
      where p.watch = p_watch
        and (
          p.ended_at is null
          or p.ended_at > clock_timestamp()
            - unstuck.rule_seconds(p_rules, '*', 'longest_pending_for')
        )
    );
  return found;
end $$;

-- The pause that holds a kind now, or null.
create or replace function unstuck.pause_of(p_watch text, p_kind text) returns jsonb
language sql stable as $$
  select unstuck.shown(p)
  from unstuck.pauses p
  where p.watch = p_watch
    and p.kind in (p_kind, '*')
    and p.ended_at is null
    and unstuck.is_open(p)
  order by p.until desc nulls first
  limit 1
$$;

-- What a claim of a kind meets: null where nothing is paused; else whether it is closed now, and
-- the seconds after which to ask again. A breaker whose time is over lets one task through: then
-- `probe` is the pause to which the claim has to tell it.
create or replace function unstuck.closed(p_watch text, p_kind text, p_rules jsonb) returns jsonb
language plpgsql as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_pause   unstuck.pauses;
  v_attempt record;
  v_rule    jsonb;
begin
  for v_pause in
    select p.*
    from unstuck.pauses p
    where p.watch = p_watch
      and p.kind in (p_kind, '*')
      and p.ended_at is null
    order by p.breaker nulls first
  loop
    if v_pause.until is null or v_pause.until > v_now then
      return jsonb_build_object('closed', true, 'retry_after', least(3600, greatest(1,
        coalesce(extract(epoch from v_pause.until - v_now), 300)
      )));
    end if;
    continue when v_pause.breaker is null;
    perform from unstuck.pauses p where p.id = v_pause.id for update skip locked;
    if not found then
      return '{"closed": true, "retry_after": 1}';
    end if;
    select * into v_pause from unstuck.pauses p where p.id = v_pause.id;
    continue when v_pause.ended_at is not null;
    select a.ended_at, a.cause, a.reason, a.outcome
    into v_attempt
    from unstuck.attempts a
    where a.watch = p_watch
      and a.task_id = v_pause.probe
      and a.number = v_pause.probe_number;
    if v_pause.until <= v_now and (
      not found
      -- its worker died or stopped, or a person ended it: that tells nothing
      or coalesce(v_attempt.cause, v_attempt.reason) in (
        'lease_lost', 'deadline', 'out_of_memory', 'crashed', 'shutdown', 'cancelled'
      )
      or v_attempt.outcome in ('released', 'overtaken')
    ) then
      return jsonb_build_object('closed', false, 'probe', v_pause.id);
    elsif v_attempt.ended_at is null then
      return '{"closed": true, "retry_after": 5}';
    elsif coalesce(v_attempt.cause, v_attempt.reason) is distinct from 'transient' then
      update unstuck.pauses p
      set ended_at = v_now,
          ended_by = 'a task that it let through'
      where p.id = v_pause.id;
      perform unstuck.mark_resumed(p_watch);
    else
      v_rule := unstuck.rule(p_rules, p_kind);
      update unstuck.pauses p
      set breaker = p.breaker + 1,
          probe = null,
          until = v_attempt.ended_at + make_interval(secs => least(
            (v_rule ->> 'breaker_most')::float8,
            (v_rule ->> 'breaker_pause')::float8 * power(2, least(p.breaker, 30))
          ))
      where p.id = v_pause.id
      returning p.* into v_pause;
      if v_pause.until > v_now then
        return jsonb_build_object('closed', true, 'retry_after', least(3600, greatest(1,
          extract(epoch from v_pause.until - v_now)
        )));
      end if;
      return jsonb_build_object('closed', false, 'probe', v_pause.id);
    end if;
  end loop;
  return null;
end $$;

-- After a transient failure: pauses the kind where the last `failures` ends of it were all such,
-- since it was paused last.
create or replace function unstuck.trip(p_watch text, p_kind text, p_rule jsonb) returns void
language sql as $$
  insert into unstuck.pauses (watch, kind, until, who, why, breaker)
  select
    p_watch,
    p_kind,
    clock_timestamp() + make_interval(secs => (p_rule ->> 'breaker_pause')::float8),
    'breaker',
    format('%s transient failures in a row', p_rule ->> 'breaker_failures'),
    1
  from (
    select coalesce(l.cause, l.reason) as cause
    from unstuck.attempts l
    where l.watch = p_watch
      and l.kind = p_kind
      and l.ended_at > coalesce(
        (
          select max(p.ended_at)
          from unstuck.pauses p
          where p.watch = p_watch and p.kind = p_kind and p.ended_at is not null
        ),
        '-infinity'
      )
      and l.worker is not null
    order by l.ended_at desc
    limit (p_rule ->> 'breaker_failures')::integer
  ) e
  having count(*) filter (where e.cause = 'transient') = (p_rule ->> 'breaker_failures')::integer
  on conflict (watch, kind) where ended_at is null do nothing
$$;

-- limits: how many tasks of a kind, of an owner in it, or of all of a watch ('*') run at once or
-- start in a minute. Each limit has as many slots; a claim locks a free one and writes itself into
-- it. So claims of one kind do not wait for each other, and those without a limit read nothing.

drop function if exists unstuck.is_free(unstuck.slots, boolean);

-- Locks a free slot and returns its number; null where none is free. A slot that another claim has
-- locked is about to be taken. Whether it is free is asked anew after the lock: the one before may
-- have been taken since. Begins anywhere, so that claims at the same time do not all try the same
-- ones, and ends at the first: what it costs grows with the slots that are taken.
create or replace function unstuck.slot(
  p_watch text,
  p_name text,
  p_limit integer,
  p_of_a_minute boolean
) returns integer language plpgsql as $$
declare
  v_most  integer := p_limit;
  v_from  integer;
  v_slot  integer;
  v_tried integer[] := '{}';
  v_free  boolean;
  v_count integer;
begin
  if exists (
    select from unstuck.slots s where s.watch = p_watch and s.name = p_name and s.slot > p_limit
  ) then  -- the limit was lowered: what is taken beyond it counts too
    select coalesce(max(k.k), 0)
    into v_most
    from generate_series(0, p_limit) as k (k)
    where k.k + (
      select count(*)
      from unstuck.slots s
      where s.watch = p_watch
        and s.name = p_name
        and s.slot > k.k
        and case
          when p_of_a_minute then
            s.at > clock_timestamp() - interval '1 minute' and s.at <= clock_timestamp()
          else exists (
            select from unstuck.attempts a
            where a.watch = s.watch
              and a.task_id = s.task_id
              and a.number = s.number
              and a.ended_at is null
          )
        end
    ) <= p_limit;
  end if;
  foreach v_from in array array[1 + floor(random() * v_most)::integer, 1]
  loop
    loop
      select s.slot
      into v_slot
      from unstuck.slots s
      where s.watch = p_watch
        and s.name = p_name
        and s.slot between v_from and v_most
        and s.slot <> all (v_tried)
        and case
          when p_of_a_minute then
            s.at <= clock_timestamp() - interval '1 minute'
            or s.at > clock_timestamp()  -- the clock was set back since
          else (
            select a.ended_at is null
            from unstuck.attempts a
            where a.watch = s.watch and a.task_id = s.task_id and a.number = s.number
          ) is not true
        end
      order by s.slot
      limit 1
      for update skip locked;
      exit when not found;
      select case
        when p_of_a_minute then
          s.at <= clock_timestamp() - interval '1 minute' or s.at > clock_timestamp()
        else (
          select a.ended_at is null
          from unstuck.attempts a
          where a.watch = s.watch and a.task_id = s.task_id and a.number = s.number
        ) is not true
      end
      into v_free
      from unstuck.slots s
      where s.watch = p_watch and s.name = p_name and s.slot = v_slot;
      if v_free then
        return v_slot;
      end if;
      v_tried := v_tried || v_slot;
    end loop;
  end loop;
  select count(*)
  into v_count
  from unstuck.slots s
  where s.watch = p_watch and s.name = p_name and s.slot <= p_limit;
  if v_count < p_limit then
    insert into unstuck.slots (watch, name, slot)
    select p_watch, p_name, n
    from generate_series(1, p_limit) n
    on conflict do nothing;
    return unstuck.slot(p_watch, p_name, p_limit, p_of_a_minute);
  end if;
  return null;
end $$;

-- The limits of a kind, those of its whole watch first: name of the slots, how many, whether of a
-- minute, whether of an owner. In one order for all, so that no two claims wait for each other.
create or replace function unstuck.limits(p_rules jsonb, p_kind text, p_owner text)
returns table (name text, slots integer, of_a_minute boolean, of_owner boolean)
language sql immutable as $$
  select l.name, l.slots::integer, l.of_a_minute, l.of_owner
  from (
    values
      ('running/*', p_rules -> '*' ->> 'all_running', false, false),
      ('minute/*', p_rules -> '*' ->> 'all_per_minute', true, false),
      ('owner/*/' || p_owner, p_rules -> '*' ->> 'all_per_owner', false, true),
      ('running/=' || p_kind, unstuck.rule_value(p_rules, p_kind, 'limit_running'), false, false),
      ('minute/=' || p_kind, unstuck.rule_value(p_rules, p_kind, 'limit_per_minute'), true, false),
      (
        format('owner/=%s/%s', p_kind, p_owner),
        unstuck.rule_value(p_rules, p_kind, 'limit_per_owner'),
        false,
        true
      )
  ) l (name, slots, of_a_minute, of_owner)
  where l.slots is not null
    and l.name is not null
    and (p_owner is not null or not l.of_owner)
$$;

-- After how many seconds one of the slots that are taken may be free: the time that the last
-- attempts of the kind (null: of all) took, or what those that hold the slots have taken already,
-- divided by the number of slots. 5 s in place of it where nothing is known; 0.5 to 60.
create or replace function unstuck.slot_wait(
  p_watch text,
  p_name text,
  p_slots integer,
  p_kind text
) returns double precision language plpgsql stable set enable_seqscan = off set jit = off as $$
declare
  v_usual  double precision;
  v_lasted double precision;
begin
  select percentile_cont(0.5) within group (
    order by extract(epoch from l.ended_at - l.started_at)::float8
  )
  into v_usual
  from (
    select a.kind, a.started_at, a.ended_at
    from unstuck.attempts a
    where a.watch = p_watch
      and a.ended_at is not null
      and a.worker is not null
      and a.sweep_id is null
    order by coalesce(a.ended_at, 'infinity') desc
    limit 50
  ) l
  where p_kind is null or l.kind = p_kind;
  select extract(epoch from clock_timestamp() - max(a.started_at))
  into v_lasted
  from unstuck.slots s
  join unstuck.attempts a on a.watch = s.watch and a.task_id = s.task_id and a.number = s.number
  where s.watch = p_watch
    and s.name = p_name
    and s.slot <= p_slots
    and a.ended_at is null;
  return least(60, greatest(0.5, greatest(coalesce(v_usual, 5), v_lasted) / p_slots));
end $$;

-- Slots of all limits of a kind, or with `p_of_owner` of its owner: {name: slot}. Where one of them
-- is full: {"full": name}, with the seconds after which to ask again.
create or replace function unstuck.slots_for(
  p_watch text,
  p_rules jsonb,
  p_kind text,
  p_owner text,
  p_of_owner boolean
) returns jsonb language plpgsql as $$
declare
  v_limit record;
  v_slot  integer;
  v_slots jsonb := '{}';
begin
  for v_limit in
    select * from unstuck.limits(p_rules, p_kind, p_owner) l where l.of_owner = p_of_owner
  loop
    v_slot := unstuck.slot(p_watch, v_limit.name, v_limit.slots, v_limit.of_a_minute);
    if v_slot is null then
      return jsonb_build_object('full', v_limit.name, 'retry_after', case
        when v_limit.of_a_minute then (
          select greatest(0.1, extract(
            epoch from min(s.at) + interval '1 minute' - clock_timestamp()
          ))
          from unstuck.slots s
          where s.watch = p_watch and s.name = v_limit.name and s.slot <= v_limit.slots
        )
        else unstuck.slot_wait(
          p_watch,
          v_limit.name,
          v_limit.slots,
          case when split_part(v_limit.name, '/', 2) <> '*' then p_kind end
        )
      end);
    end if;
    v_slots := v_slots || jsonb_build_object(v_limit.name, v_slot);
  end loop;
  return v_slots;
end $$;

-- Writes an attempt into the slots that its claim has locked. In plpgsql, which keeps the plan: to
-- make it took a claim longer than all the rest.
create or replace function unstuck.fill_slots(
  p_watch text,
  p_slots jsonb,
  p_task text,
  p_number integer
) returns void language plpgsql as $$
declare
  v_filled record;
begin
  for v_filled in select f.key as name, f.value::integer as slot from jsonb_each_text(p_slots) f
  loop
    update unstuck.slots s
    set at = clock_timestamp(),
        task_id = p_task,
        number = p_number
    where s.watch = p_watch and s.name = v_filled.name and s.slot = v_filled.slot;
  end loop;
end $$;

-- Whether a limit of each owner holds for a kind.
create or replace function unstuck.limits_owners(p_rules jsonb, p_kind text) returns boolean
language sql immutable as $$
  select (p_rules -> '*' ->> 'all_per_owner') is not null
    or unstuck.rule_value(p_rules, p_kind, 'limit_per_owner') is not null
$$;

-- Of two refusals the one after which to ask again sooner.
create or replace function unstuck.sooner(p_first jsonb, p_second jsonb) returns jsonb
language sql immutable as $$
  select case
    when p_first is null or p_first ->> 'verdict' = 'none' then p_second
    when (p_first ->> 'retry_after')::float8 <= (p_second ->> 'retry_after')::float8 then p_first
    else p_second
  end
$$;

-- Whose task was taken last: see rotate.sql.
create or replace function unstuck.turned_last(p_watch text, p_name text, p_priority text)
returns text language plpgsql stable as $$
begin
  return (
    select r.owner
    from unstuck.rotations r
    where r.watch = p_watch and r.name = p_name and r.priority = p_priority
  );
end $$;

-- Remembers whose task was taken last. Where another claim is about to write its own that one
-- stands: no claim waits for another.
create or replace function unstuck.turned(
  p_watch text,
  p_name text,
  p_priority text,
  p_owner text
) returns void language plpgsql as $$
begin
  if pg_try_advisory_xact_lock(
    hashtextextended(format('rotation/%s/%s/%s', p_watch, p_name, p_priority), 0)
  ) then
    insert into unstuck.rotations as r (watch, name, priority, owner)
    values (p_watch, p_name, p_priority, p_owner)
    on conflict (watch, name, priority) do update
    set owner = excluded.owner,
        at = excluded.at;
  end if;
end $$;

-- Whether any rule says when ended tasks go.
create or replace function unstuck.names_retention(p_rules jsonb) returns boolean
language sql immutable parallel safe as $$
  select exists (
    select
    from jsonb_each(p_rules) r, jsonb_object_keys(r.value) as k (name)
    where starts_with(k.name, 'retention_')
  )
$$;

-- Whether a push may take a task of the kind without naming it.
create or replace function unstuck.is_chosen(p_rules jsonb, p_kind text) returns boolean
language sql immutable parallel safe as $$
  select coalesce(unstuck.rule_value(p_rules, p_kind, 'dispatch'), 'chosen') = 'chosen'
$$;

-- beat: the heartbeat. It says that the attempt lives, and brings its progress along. A lease that
-- was taken away is not revived.
create or replace function unstuck.beat(
  p_watch text,
  p_task text,
  p_token uuid,
  p_progress jsonb default null
) returns jsonb language plpgsql as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  update unstuck.attempts a
  set lease_until = v_now + a.lease,
      beat_at = v_now,
      beats = a.beats + 1,
      extended = false,
      progress = coalesce(a.progress || p_progress, p_progress, a.progress)
  where a.watch = p_watch
    and a.task_id = p_task
    and a.token = p_token
    and a.ended_at is null;
  if found then
    return '{"verdict": "held"}';
  end if;
  return unstuck.lost(p_watch, p_task, p_token, 'beat');
end $$;

-- Records a write that was refused. Of one task at most 50: who repeats a refused write fills no
-- table.
create or replace function unstuck.refused(
  p_watch text,
  p_task text,
  p_source text,
  p_wanted text,
  p_because text,
  p_token uuid,
  p_writer text
) returns void language sql as $$
  insert into unstuck.refusals (watch, task_id, source, wanted, because, token, writer)
  select p_watch, p_task, p_source, p_wanted, p_because, p_token, p_writer
  where not exists (
    select from unstuck.refusals r
    where r.watch = p_watch and r.task_id = p_task
    offset 49
  )
$$;

-- The answer to a write of an attempt that has ended: what became of it. The refused write is
-- recorded in unstuck.refusals.
create or replace function unstuck.lost(p_watch text, p_task text, p_token uuid, p_wanted text)
returns jsonb language plpgsql as $$
declare
  v_attempt record;
begin
  select a.outcome, a.reason, a.kind, a.number
  into v_attempt
  from unstuck.attempts a
  where a.watch = p_watch
    and a.task_id = p_task
    and a.token = p_token;
  perform unstuck.refused(
    p_watch,
    p_task,
    'verb',
    p_wanted,
    coalesce(v_attempt.outcome, 'unknown token'),
    p_token,
    current_setting('application_name', true)
  );
  return jsonb_build_object(
    'verdict', 'lost',
    'outcome', v_attempt.outcome,
    'reason', v_attempt.reason,
    'kind', v_attempt.kind,
    'number', v_attempt.number
  );
end $$;

-- checkpoint: keeps the data of one finished step; the next attempt starts with it. Also a
-- heartbeat.
create or replace function unstuck.checkpoint(
  p_watch text,
  p_task text,
  p_token uuid,
  p_name text,
  p_data jsonb
) returns jsonb language plpgsql as $$
declare
  v_now    constant timestamptz := clock_timestamp();
  v_number integer;
begin
  update unstuck.attempts a
  set lease_until = v_now + a.lease,
      beat_at = v_now,
      beats = a.beats + 1,
      extended = false
  where a.watch = p_watch
    and a.task_id = p_task
    and a.token = p_token
    and a.ended_at is null
  returning a.number into v_number;
  if not found then
    return unstuck.lost(p_watch, p_task, p_token, 'checkpoint');
  end if;
  insert into unstuck.checkpoints (watch, task_id, number, name, data, at)
  values (p_watch, p_task, v_number, p_name, p_data, v_now)
  on conflict (watch, task_id, number, name) do update
  set data = excluded.data,
      at = excluded.at;
  return '{"verdict": "held"}';
end $$;

-- The checkpoints with which the attempt after `p_number` starts: those of that attempt, and of the
-- attempts before it since the task last ended; of each name the latest.
create or replace function unstuck.checkpoints_of(p_watch text, p_task text, p_number integer)
returns setof unstuck.checkpoints language sql stable as $$
  select distinct on (c.name) c.*
  from unstuck.checkpoints c
  where c.watch = p_watch
    and c.task_id = p_task
    and c.number <= p_number
    and c.number > coalesce((
      select max(a.number)
      from unstuck.attempts a
      where a.watch = p_watch
        and a.task_id = p_task
        and a.number < p_number
        and a.outcome in ('completed', 'failed', 'cancelled')
    ), 0)
  order by c.name, c.number desc
$$;

-- The same as one object: the data by name.
create or replace function unstuck.saved(p_watch text, p_task text, p_number integer)
returns jsonb language sql stable as $$
  select coalesce(jsonb_object_agg(c.name, c.data), '{}')
  from unstuck.checkpoints_of(p_watch, p_task, p_number) c
$$;

-- The run of a sweep: its begin, its end, and what is done once in each run, however many batches
-- there are.

-- The time now, in seconds since 1970.
create or replace function unstuck.epoch() returns double precision language sql volatile as $$
  select extract(epoch from clock_timestamp())::float8
$$;

-- Waits until nobody else holds the lock of this name, and holds it to the end of the transaction.
-- A row, and no advisory lock: that could be held by any role that may connect.
create or replace function unstuck.hold(p_name text) returns void language plpgsql as $$
begin
  insert into unstuck.locks (name) values (p_name) on conflict do nothing;
  perform from unstuck.locks l where l.name = p_name for update;
end $$;

drop function if exists unstuck.sweep_begin(text, text, double precision, uuid);

-- Begins a run of one installation. Verdict begun, with the time now (`at`), which the caller
-- compares with its own; duplicate: this key was swept; or running: another run has not ended. The
-- caller names the run (`p_run`), so that a begin whose answer was lost can be repeated.
create or replace function unstuck.sweep_begin(
  p_key text,
  p_by text,
  p_budget double precision,
  p_run uuid default gen_random_uuid(),
  p_installation text default ''
) returns jsonb language plpgsql as $$
declare
  v_key constant text := concat(nullif(p_installation, '') || ' ', p_key);
  v_id  bigint;
  v_run uuid;
begin
  perform unstuck.hold('sweep');
  if exists (select from unstuck.sweeps s where s.key = v_key and s.ok) then
    return '{"verdict": "duplicate"}';
  end if;
  select s.id, s.run
  into v_id, v_run
  from unstuck.sweeps s
  where s.ended_at is null
    and s.until > clock_timestamp()
    and s.started_at <= clock_timestamp()  -- the clock may have been set back since
    and s.installation = p_installation
  limit 1;
  if v_run = p_run then
    return jsonb_build_object('verdict', 'begun', 'sweep_id', v_id, 'at', unstuck.epoch());
  elsif v_id is not null then
    return '{"verdict": "running"}';
  end if;
  insert into unstuck.sweeps as s (key, by, until, run, installation)
  values (
    case when p_key is not null then v_key end,
    p_by,
    clock_timestamp() + make_interval(secs => p_budget),
    p_run,
    p_installation
  )
  on conflict (key) do update
  set by = p_by,
      started_at = clock_timestamp(),
      until = excluded.until,
      run = p_run,
      ended_at = null,
      ok = null,
      error = null
  returning id into v_id;
  return jsonb_build_object('verdict', 'begun', 'sweep_id', v_id, 'at', unstuck.epoch());
end $$;

-- Ends a run, with what it did.
create or replace function unstuck.sweep_end(
  p_id bigint,
  p_ok boolean,
  p_counts jsonb,
  p_error text default null
) returns void language sql as $$
  update unstuck.sweeps
  set ended_at = clock_timestamp(),
      ok = p_ok,
      counts = p_counts,
      error = p_error
  where id = p_id
$$;

-- Writes down that an overdue task cannot be settled, and why. Answers it, with since when.
create or replace function unstuck.pass_over(
  p_watch text,
  p_task text,
  p_kind text,
  p_sweep bigint,
  p_code text,
  p_error text
) returns json language sql as $$
  insert into unstuck.unsweepable as u (watch, task_id, kind, sweep_id, code, error)
  values (p_watch, p_task, coalesce(p_kind, ''), p_sweep, p_code, p_error)
  on conflict (watch, task_id) do update
  set kind = coalesce(p_kind, u.kind),
      sweep_id = p_sweep,
      tried_at = clock_timestamp(),
      code = p_code,
      error = p_error
  returning json_build_object(
    'task_id', u.task_id, 'kind', u.kind, 'since', u.since, 'code', u.code, 'error', u.error
  )
$$;

-- Whether an error would meet each row of a batch: the connection, the server or its resources.
-- Anything else, such as a wrong value, a deadlock or a lock that somebody holds, may be that of
-- one row; so may an internal error.
create or replace function unstuck.stops_batch(p_sqlstate text) returns boolean
language sql immutable parallel safe as $$
  select unstuck.is_passing(p_sqlstate) and left(p_sqlstate, 2) not in ('40', '55', 'XX')
$$;

-- For how long a statement may go row by row: half of its limit, at most 10 seconds.
create or replace function unstuck.half_of_limit() returns interval language sql stable as $$
  select least(10000, nullif(s.setting::integer, 0) / 2) * interval '1 ms'
  from pg_settings s
  where s.name = 'statement_timeout'
$$;

-- The silences: from when until when nobody reached the database, no sweep and no heartbeat or end
-- of any attempt, for 1.5 times as long as the runs of the sweep are usually apart, and as long as
-- one may take. Reads the last 60 runs, and the heartbeats only where no run came for so long.
-- Where the clock was set back meanwhile, what had ended before is in a time that comes again, and
-- tells nothing.
create or replace function unstuck.silences(p_now timestamptz)
returns table (begins timestamptz, ends timestamptz) language plpgsql stable
set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
  v_longest interval;
  v_back    bigint;  -- the last run before the clock was set back
begin
  select
    1.5 * greatest(percentile_disc(0.5) within group (order by r.apart), max(r.budget)),
    max(r.id) filter (where r.started_at > r.later + interval '10 s')
  into v_longest, v_back
  from (
    select
      s.id,
      s.started_at,
      s.started_at - lag(s.started_at) over (order by s.id) as apart,
      s.until - s.started_at as budget,
      min(s.started_at) over (
        order by s.id rows between 1 following and unbounded following
      ) as later
    from (select * from unstuck.sweeps order by id desc limit 60) s
  ) r;
  return query
    with runs as materialized (
      select r.at
      from (
        select unnest(array[s.started_at, s.ended_at]) as at
        from (select * from unstuck.sweeps order by id desc limit 60) s
        where s.id > coalesce(v_back, 0)
        union all
        select p_now
      ) r
      where r.at <= p_now
    ), gaps as materialized (
      select g.begins, g.at
      from (
        select r.at, lag(r.at) over (order by r.at) as begins
        from runs r
      ) g
      where g.at - g.begins > v_longest
    )
    select f.begins, f.at
    from (
      select h.at, lag(h.at) over (order by h.at) as begins
      from (
        select r.at from runs r where exists (select from gaps)
        union all
        select a.beat_at  -- of all gaps at once: what lives may be thousands
        from unstuck.attempts a
        where exists (select from gaps)
          and a.ended_at is null
          and a.beat_at between (select min(g.begins) from gaps g) and p_now
        union all
        select e.at
        from gaps g
        cross join lateral (
          select max(a.ended_at) as at
          from unstuck.attempts a
          where a.ended_at between g.begins and g.at and v_back is null
          union all
          select max(j.at) from unstuck.clock_jumps j where j.at between g.begins and g.at
        ) e
        where e.at is not null
      ) h
    ) f
    where f.at - f.begins > v_longest;
end $$;

-- The last of them; null where there was none.
create or replace function unstuck.last_silence(
  p_now timestamptz,
  out begins timestamptz,
  out ends timestamptz
) language sql stable as $$
  select s.begins, s.ends from unstuck.silences(p_now) s order by s.ends desc limit 1
$$;

-- While nobody reached the database no heartbeat could arrive: an attempt whose lease ran out in a
-- silence has a lease from its end, once, however few attempts there are. Where sweeps run as they
-- usually do, there is no silence, and a worker that is dead alone is rescued when its lease is
-- over. `p_task`: only that one; null: all. Returns how many attempts got a lease.
-- No sequential scan: those that live are few, and are the last in the ledger, where the planner
-- takes them to be everywhere.
create or replace function unstuck.bridge(p_watch text, p_task text) returns integer
language plpgsql set enable_seqscan = off set jit = off as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_count integer;
begin
  -- Any that ran out, extended or not: of many the first is found at once. Mostly there was no
  -- silence, and then they are not read.
  if not exists (
    select from unstuck.attempts a
    where a.watch = p_watch
      and a.ended_at is null
      and a.lease_until <= v_now
      and (p_task is null or a.task_id = p_task)
  ) or not exists (select from unstuck.silences(v_now)) then
    return 0;
  end if;
  with silences as materialized (
    select * from unstuck.silences(v_now)
  ), silent as materialized (
    select a.watch, a.task_id, a.number, l.ends
    from unstuck.attempts a
    join lateral (
      select max(s.ends) as ends
      from silences s
      where a.beat_at <= s.begins
        and a.lease_until > s.begins
        and s.ends - s.begins > a.lease / 2
    ) l on l.ends + a.lease > v_now
    where a.watch = p_watch
      and a.ended_at is null
      and a.lease_until <= v_now
      and a.deadline_at > v_now
      and not a.extended
      and (p_task is null or a.task_id = p_task)
    for update of a skip locked
  )
  update unstuck.attempts a
  set lease_until = s.ends + a.lease,
      extended = true
  from silent s
  where a.watch = s.watch
    and a.task_id = s.task_id
    and a.number = s.number;
  get diagnostics v_count = row_count;
  return v_count;
end $$;

-- Attempts whose lease ran out and of which nobody can say whether their worker died or the
-- database was away: since their heartbeat was due no worker was heard. An outage that lies between
-- two runs leaves no other trace. Answers the ids of their tasks, 500 at most; the run settles them
-- last, when the workers that live have had the time to say so.
create or replace function unstuck.unsure(p_watch text) returns jsonb
language sql stable set enable_seqscan = off set jit = off as $$
  with heard as materialized (
    select greatest(
      (select max(a.beat_at) from unstuck.attempts a where a.ended_at is null),
      (
        select max(a.ended_at)
        from unstuck.attempts a
        where a.ended_at > clock_timestamp() - interval '1 hour' and a.sweep_id is null
      )
    ) as at
  )
  select coalesce(jsonb_agg(u.task_id), '[]')
  from (
    select a.task_id
    from unstuck.attempts a
    where a.watch = p_watch
      and a.ended_at is null
      and a.lease_until <= clock_timestamp()
      and a.deadline_at > clock_timestamp()
      and unstuck.lives_until(a, (select unstuck.ready_after())) <= clock_timestamp()
      and a.beat_at + a.lease / 2 > (select h.at from heard h)
    limit 500
  ) u
$$;

-- Gives live attempts a lease from now, and their deadlines `p_by` more: those that were heard
-- first until `p_heard`; null: those whose lease ends later than one that began now. It waits for
-- nobody, since its caller may hold a task whose attempt somebody else has locked. What is locked
-- it tries again for a moment: a heartbeat is over soon, and what ends the attempt needs no more
-- time. Returns how many attempts it moved.
create or replace function unstuck.give_time(p_by interval, p_heard timestamptz) returns integer
language plpgsql as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_count integer;
  v_moved integer := 0;
begin
  for v_try in 1 .. 5 loop
    update unstuck.attempts a
    set lease_until = v_now + a.lease,
        deadline_at = a.deadline_at + p_by,
        extended = true
    where a.ended_at is null
      and a.ctid = any (array(
        select l.ctid
        from unstuck.attempts l
        where unstuck.lacks_time(l, v_now, p_heard)
        for update skip locked
      ));
    get diagnostics v_count = row_count;
    v_moved := v_moved + v_count;
    exit when not exists (
      select from unstuck.attempts l where unstuck.lacks_time(l, v_now, p_heard)
    );
    perform pg_sleep(0.02);
  end loop;
  return v_moved;
end $$;

-- Whether `give_time` has to move an attempt, and has not yet. The heartbeat of one that began
-- before the clock was set back comes before its begin.
create or replace function unstuck.lacks_time(
  p_attempt unstuck.attempts,
  p_now timestamptz,
  p_heard timestamptz
) returns boolean language sql immutable parallel safe as $$
  select p_attempt.ended_at is null
    and p_attempt.lease_until <> p_now + p_attempt.lease
    and (
      least(p_attempt.started_at, p_attempt.beat_at) <= p_heard
      or p_heard is null and p_attempt.lease_until > p_now + p_attempt.lease
    )
$$;

-- The clock of the database was set by `p_seconds`, as the caller of the sweep knows by its own,
-- which is never set. Each attempt that was claimed by the old clock has a lease from now, and its
-- deadline moves along; so its worker has as much time as before, and a dead one is rescued a lease
-- later. Waiting tasks are judged by `last_jump`. Returns how many attempts were moved.
create or replace function unstuck.clock_jumped(p_sweep bigint, p_seconds double precision)
returns integer language plpgsql as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_by  constant interval := make_interval(secs => p_seconds);
begin
  insert into unstuck.clock_jumps (sweep_id, seconds)
  values (p_sweep, p_seconds)
  on conflict (sweep_id) do nothing;
  if not found then  -- the repetition of a call whose answer was lost
    return 0;
  end if;
  perform unstuck.mark_clock();
  return unstuck.give_time(
    case
      when exists (  -- a poll that came between has given it already
        select from unstuck.clock_jumps j
        where j.sweep_id <> p_sweep and j.at between v_now - v_by and v_now
      ) then '0'
      else v_by
    end,
    case when p_seconds > 0 then v_now - v_by end
  );
end $$;

-- A poll, or a message that is delivered again, comes after a silence: the database was away, or
-- its clock was set forward, and no run of the sweep has told which. Who asks for one task knows
-- less than a run, and judges by no clock that stood still or jumped: live attempts and waiting
-- tasks get the time of the silence on top, once. So where no sweep runs at all a poll still
-- rescues, a lease later.
drop function if exists unstuck.forgive_silence();
create or replace function unstuck.forgive_silence() returns integer language plpgsql as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_silence record;
begin
  select * into v_silence from unstuck.last_silence(v_now);
  if v_silence.begins is null
    or exists (select from unstuck.clock_jumps j where j.at >= v_silence.begins)
  then
    return 0;
  end if;
  insert into unstuck.clock_jumps (sweep_id, at, seconds)
  select max(s.id), v_silence.ends, extract(epoch from v_silence.ends - v_silence.begins)
  from unstuck.sweeps s
  on conflict (sweep_id) do nothing;
  if not found then
    return 0;
  end if;
  perform unstuck.mark_clock();
  return unstuck.give_time(v_silence.ends - v_silence.begins, v_silence.begins);
end $$;

-- What a run does before it ends anything that has no clock of its own, as in SQL alone: it
-- compares the database's clock with that of the last run. It was set back where that run began
-- later than this one. Where it was set forward, nobody reached the database for as long: nothing
-- tells that from an outage, and it is forgiven as one. Returns how many attempts were moved.
create or replace function unstuck.keep_time(p_sweep bigint) returns integer
language plpgsql as $$
declare
  v_now    constant timestamptz := clock_timestamp();
  v_latest constant timestamptz := (
    select s.started_at
    from unstuck.sweeps s
    where s.id < p_sweep and s.ok
    order by s.id desc
    limit 1
  );
begin
  if v_latest > v_now + interval '10 s' then
    return unstuck.clock_jumped(p_sweep, extract(epoch from v_now - v_latest));
  end if;
  return unstuck.forgive_silence();
end $$;

drop function if exists unstuck.last_jump();
-- The last time that the clock was set forward, and by how much: what was written before `at` looks
-- that much older than it is. No row where it was never set, or was set back since.
-- A table, because only such a function is read into the plan of who asks.
create or replace function unstuck.last_jump() returns table (at timestamptz, ahead interval)
language sql stable rows 1 as $$
  select j.at, make_interval(secs => j.seconds)
  from (select * from unstuck.clock_jumps order by sweep_id desc limit 1) j
  where j.seconds > 0
$$;

-- For how long nothing of a kind (null: of any) grew older while it may have waited: while it was
-- paused, and by how much the clock was set forward. Null where neither was.
create or replace function unstuck.stood_still(p_watch text, p_kind text, p_rules jsonb)
returns interval language sql stable as $$
  select sum(s.length)
  from (
    select upper(u.span) - lower(u.span) as length
    from (
      select unnest(range_agg(tstzrange(p.since, greatest(p.since, coalesce(
        p.ended_at, case when p.breaker is null then p.until end, clock_timestamp()
      ))))) as span
      from unstuck.pauses p
      where p.watch = p_watch
        and (p_kind is null or p.kind in (p_kind, '*'))
        and (
          p.ended_at is null
          or p.ended_at > clock_timestamp()
            - unstuck.rule_seconds(p_rules, '*', 'longest_pending_for')
        )
    ) u
    where not isempty(u.span)
    union all
    select coalesce((select j.ahead from unstuck.last_jump() j), '0')
    from unstuck.pauses p
    where p.watch = '' and p.ended_at is null
  ) s
$$;

-- Where many leases run out at once, the platform failed, not the workers: each attempt gets one
-- more lease, once; half of one where heartbeats of others have arrived since, because then the
-- platform works. Not a task whose last try got one and was dead all the same: what kills its
-- worker at each try is not the platform. So does each whose lease ran out in a silence. Returns
-- how many got one.
create or replace function unstuck.suspend(
  p_watch text,
  p_at_least integer,
  p_share double precision
) returns integer language plpgsql as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_live    integer;
  v_beat_at timestamptz;
  v_ids     text[];
  v_bridged integer := unstuck.bridge(p_watch, null);
begin
  select
    count(*),
    max(a.beat_at) filter (where a.beats > 0 and a.lease_until > v_now),
    coalesce(array_agg(a.task_id) filter (
      where not a.extended
        and a.deadline_at > v_now
        and a.lease_until <= v_now
        and unstuck.lives_until(a, (select unstuck.ready_after())) <= v_now
        and not exists (
          select from unstuck.attempts p
          where p.watch = a.watch
            and p.task_id = a.task_id
            and p.number = a.number - 1
            and p.extended
        )
    ), '{}')
  into v_live, v_beat_at, v_ids
  from unstuck.attempts a
  where a.watch = p_watch
    and a.ended_at is null;
  if cardinality(v_ids) < p_at_least or cardinality(v_ids) <= p_share * v_live then
    return v_bridged;
  end if;
  update unstuck.attempts a
  set lease_until = v_now + case when v_beat_at > a.lease_until then a.lease / 2 else a.lease end,
      extended = true
  where a.watch = p_watch
    and a.ended_at is null
    and a.lease_until <= v_now
    and a.task_id in (
      select l.task_id
      from unstuck.attempts l
      where l.watch = p_watch
        and l.ended_at is null
        and l.task_id = any (v_ids)
      for update skip locked
    );
  get diagnostics v_live = row_count;
  return v_bridged + v_live;
end $$;

-- The watches of this database that belong to other installations than this one.
create or replace function unstuck.watches_of_others(p_installation text) returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  if to_regclass('unstuck.migrations') is null then
    return '{}';
  end if;
  return array(
    select substring(m.name from '^verbs[.](.+)$')
    from unstuck.migrations m
    where m.name like 'verbs.%' and m.installation <> p_installation
  );
end $$;

drop function if exists unstuck.prune(double precision, integer);

-- For how many seconds attempts that got one more lease keep it, while nobody was heard of them; 0
-- where there are none. A run that has so much time left settles them itself: else they would wait
-- for the next.
create or replace function unstuck.suspended_for(p_watch text) returns float8
language sql stable as $$
  select coalesce(unstuck.due_in(max(a.lease_until)), 0)
  from unstuck.attempts a
  where a.watch = p_watch
    and a.ended_at is null
    and a.extended
    and a.deadline_at > clock_timestamp()
$$;

-- What a run asks of a watch before it settles, in one call: how many attempts got one more lease
-- (suspend), for how long they keep it, and of which nobody can say whether they live (unsure).
create or replace function unstuck.lapsed(
  p_watch text,
  p_at_least integer,
  p_share double precision
) returns jsonb language plpgsql set enable_seqscan = off set jit = off as $$
declare
  v_suspended integer;
begin
  -- Mostly no lease ran out: then the live attempts are read once, and not by each part.
  if not exists (
    select from unstuck.attempts a
    where a.watch = p_watch and a.ended_at is null and a.lease_until <= clock_timestamp()
  ) then
    return '{"suspended": 0, "left": 0, "unsure": []}';
  end if;
  v_suspended := unstuck.suspend(p_watch, p_at_least, p_share);
  return jsonb_build_object(
    'suspended', v_suspended,
    'left', case when v_suspended > 0 then unstuck.suspended_for(p_watch) else 0 end,
    'unsure', unstuck.unsure(p_watch)
  );
end $$;

-- Whether the database refused to delete an ended task less than a day ago.
create or replace function unstuck.is_kept(p_watch text, p_task text, p_now timestamptz)
returns boolean language sql stable as $$
  select exists (
    select from unstuck.kept k
    where k.watch = p_watch
      and k.task_id = p_task
      and k.tried_at > p_now - interval '1 day'
  )
$$;

-- Writes down why the database does not delete an ended task.
create or replace function unstuck.keep(p_watch text, p_task text, p_code text, p_error text)
returns void language sql as $$
  insert into unstuck.kept (watch, task_id, code, error)
  values (p_watch, p_task, p_code, p_error)
  on conflict (watch, task_id) do update
  set tried_at = excluded.tried_at,
      code = excluded.code,
      error = excluded.error
$$;

-- Retention: deletes what is older than `p_keep` seconds, a bounded number of rows of each kind in
-- each sweep, found in the order of an index: a run costs the same however much is kept, and does
-- not read again what it deleted since the last vacuum. Returns how many attempts went; their
-- checkpoints go with them. What another installation has here stays as long
-- as that one keeps it; what is left of a watch that is no more goes.
create or replace function unstuck.prune(
  p_keep double precision,
  p_limit integer default 5000,
  p_installation text default ''
) returns integer language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set jit = off set enable_hashjoin = off set enable_mergejoin = off
set enable_bitmapscan = off set enable_sort = off as $$
declare
  v_before constant timestamptz := clock_timestamp() - make_interval(secs => p_keep);
  v_others constant text[] := unstuck.watches_of_others(p_installation);
  v_count  integer;
begin
  with old as materialized (  -- a sub-select with a limit may run again and again: then no limit
    select o.watch, o.task_id, o.number
    from unstuck.attempts o
    where o.ended_at < v_before and o.watch <> all (v_others)
    order by o.ended_at
    limit p_limit
    for update skip locked
  ), saved as (
    delete from unstuck.checkpoints c
    using old
    where c.watch = old.watch
      and c.task_id = old.task_id
      and c.number = old.number
  )
  delete from unstuck.attempts a
  using old
  where a.watch = old.watch
    and a.task_id = old.task_id
    and a.number = old.number;
  get diagnostics v_count = row_count;
  delete from unstuck.sweeps
  where ctid = any (array(
    select o.ctid
    from unstuck.sweeps o
    where o.started_at < v_before and o.installation = p_installation
    order by o.started_at
    limit p_limit
  ));
  delete from unstuck.refusals
  where ctid = any (array(
    select o.ctid
    from unstuck.refusals o
    where o.at < v_before and o.watch <> all (v_others)
    order by o.at
    limit p_limit
  ));
  delete from unstuck.dispatches
  where ctid = any (array(
    select o.ctid
    from unstuck.dispatches o
    where o.at < v_before and o.watch <> all (v_others)
    order by o.at
    limit p_limit
  ));
  delete from unstuck.operations
  where ctid = any (array(
    select o.ctid
    from unstuck.operations o
    where o.at < v_before and o.watch <> all (v_others)
    order by o.at
    limit p_limit
  ));
  delete from unstuck.outbox
  where ctid = any (array(
    select o.ctid
    from unstuck.outbox o
    where o.at < v_before and o.watch <> all (v_others)
    order by o.at
    limit p_limit
  ));
  delete from unstuck.kept  -- they are tried each day, so these are gone
  where ctid = any (array(
    select o.ctid
    from unstuck.kept o
    where o.tried_at < least(v_before, clock_timestamp() - interval '7 days')
      and o.watch <> all (v_others)
    limit p_limit
    for update skip locked
  ));
  delete from unstuck.rotations  -- priorities that are times come once
  where ctid = any (array(
    select o.ctid
    from unstuck.rotations o
    where o.at < v_before and o.watch <> all (v_others)
    limit p_limit
    for update skip locked
  ));
  return v_count;
end $$;

-- The runs, the newest first, those before `p_before`. Without `p_all` only those that did
-- something, among the last 5,000.
create or replace function unstuck.sweeps(
  p_limit integer default 50,
  p_before bigint default null,
  p_all boolean default false
) returns jsonb language sql stable as $$
  select coalesce(jsonb_agg(to_jsonb(f) order by f.id desc), '[]')
  from (
    select
      s.id,
      s.by,
      s.ok,
      s.counts,
      s.error,
      extract(epoch from s.started_at) as started,
      extract(epoch from clock_timestamp() - s.started_at) as ago,
      extract(epoch from s.ended_at - s.started_at) as took
    from (
      select *
      from unstuck.sweeps s
      where p_before is null or s.id < p_before
      order by s.id desc
      limit 5000
    ) s
    where p_all
      or not coalesce(s.ok, false)
      or exists (
        select from jsonb_each(s.counts) c
        where c.value <> '0'
          and c.key in (
            'failed', 'requeued', 'redispatched', 'suspended', 'unsweepable', 'orphaned'
          )
      )
    order by s.id desc
    limit least(p_limit, 500)
  ) f
$$;

-- How many rows the planner expects of a query. It reads no table.
create or replace function unstuck.estimated_rows(p_query text) returns float8
language plpgsql volatile as $$
declare
  v_plan json;
begin
  execute 'explain (format json) ' || p_query into v_plan;
  return (v_plan -> 0 -> 'Plan' ->> 'Plan Rows')::float8;
end $$;

-- evidence: why workers died, as the platform's log tells it, for attempts that this very sweep
-- ended as lease_lost. It adds to the record of the past: no task changes, and no state, outcome or
-- reason of an attempt. `p_found`: [{watch, task_id, number, cause, evidence}]. Returns how many
-- attempts know more now; a repetition returns 0.
create or replace function unstuck.evidence(p_sweep bigint, p_found jsonb) returns integer
language plpgsql set enable_seqscan = off set jit = off as $$
declare
  v_count integer;
begin
  update unstuck.attempts a
  set cause = x.cause,
      evidence = x.evidence
  from jsonb_to_recordset(p_found) as x (
    watch text, task_id text, number integer, cause text, evidence text
  )
  where a.watch = x.watch
    and a.task_id = x.task_id
    and a.number = x.number
    and a.sweep_id = p_sweep
    and a.ended_at is not null
    and a.cause = 'lease_lost'
    and a.evidence is null;
  get diagnostics v_count = row_count;
  return v_count;
end $$;

-- held_by: the attempts that a worker holds of which the platform's log says, in a line of the time
-- `p_at`, that it is gone. Not those that began later, or had run for less than `p_age` seconds
-- then; and none whose heartbeat came later: then it is not gone. Two seconds later is no later,
-- since the line has another clock. Writes nothing: whoever asks ends them by their tokens.
create or replace function unstuck.held_by(
  p_worker text,
  p_at timestamptz,
  p_age double precision default 0
) returns json language sql stable as $$
  select coalesce(
    json_agg(json_build_object('watch', a.watch, 'task_id', a.task_id, 'token', a.token)), '[]'
  )
  from unstuck.attempts a
  where a.ended_at is null
    and a.worker = p_worker
    and a.started_at <= p_at - make_interval(secs => p_age)
    and a.beat_at <= p_at + interval '2 seconds'
$$;

-- outbox: what people are to be told. Each verb that ends an attempt puts a row into it for each
-- address, in its own transaction, so none is lost (tell.sql). A later step takes them under a
-- lease, sends them and marks them. Where it dies between the two, the message is sent again under
-- the same id.

-- Whether somebody sends what an address is to be told: this database, or a sweep that asked for
-- it in the last day.
create or replace function unstuck.hears(p_address unstuck.addresses) returns boolean
language sql stable as $$
  select p_address.url is not null or p_address.seen_at > clock_timestamp() - interval '1 day'
$$;

-- As the SQL of earlier releases calls it, which another installation may still have.
create or replace function unstuck.outbox_put(p_watch text, p_found unstuck.overdue[]) returns void
language sql as $$
  insert into unstuck.outbox (watch, task_id, number, kind, reason, cause)
  select p_watch, x.task_id, x.number, x.kind, x.reason, x.cause
  from unnest(p_found) x
  where x.state = 'failed'
$$;

-- The wait before a message that was tried `p_times` times is tried again, in seconds: doubled
-- each time, up to an hour. Null when it is given up, after about a day.
create or replace function unstuck.outbox_pause(p_times integer) returns double precision
language sql immutable as $$
  select case when p_times < 31 then least(3600, 30 * power(2, p_times - 1)) end
$$;

-- Rows that belong to no message and may be sent now: not before an earlier message about the same
-- task has come to its end, so that nobody hears of a retry after the end.
create or replace function unstuck.outbox_free(p_watches text[], p_addresses text[])
returns setof unstuck.outbox language sql stable as $$
  select n.*
  from unstuck.outbox n
  where n.ended_at is null
    and n.message is null
    and n.due_at <= clock_timestamp()
    and n.address = any (p_addresses)
    and (p_watches is null or n.watch = any (p_watches) or n.watch = '')
    and not exists (
      select from unstuck.outbox e
      where e.ended_at is null
        and e.message is not null
        and e.watch = n.watch
        and e.task_id = n.task_id
        and e.address = n.address
        and n.state <> 'notice'
    )
$$;

-- Takes one message for `p_lease` seconds: one whose time has come again, else a new one of rows
-- that belong to none, all for the same address and URL. Null when there is nothing to send. At
-- most 500 tasks in one message. `p_addresses`: those that the caller can send to.
drop function if exists unstuck.outbox_take(double precision, integer);
drop function if exists unstuck.outbox_take(double precision, integer, text[]);
create or replace function unstuck.outbox_take(
  p_lease double precision,
  p_limit integer default 500,
  p_watches text[] default null,
  p_addresses text[] default array['default']
) returns jsonb language plpgsql as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_message uuid;
  v_first   record;
begin
  insert into unstuck.addresses as d (name, seen_at)
  select n, v_now from unnest(p_addresses) as n
  on conflict (name) do update
  set seen_at = v_now
  where (d.seen_at > v_now - interval '10 minutes') is not true;
  -- two sweeps at once take different messages
  perform unstuck.hold('outbox');
  select o.message
  into v_message
  from unstuck.outbox o
  where o.ended_at is null
    and o.message is not null
    and o.due_at <= v_now
    and o.address = any (p_addresses)
    and (p_watches is null or o.watch = any (p_watches) or o.watch = '')
  order by o.due_at
  limit 1;
  if not found then
    select f.address, f.url
    into v_first
    from unstuck.outbox_free(p_watches, p_addresses) f
    order by f.due_at, f.id
    limit 1;
    if not found then
      return null;
    end if;
    v_message := gen_random_uuid();
    update unstuck.outbox o
    set message = v_message
    where o.id in (
      select f.id
      from unstuck.outbox_free(p_watches, array[v_first.address]) f
      where f.url is not distinct from v_first.url
      order by f.due_at, f.id
      limit least(p_limit, 500)
    );
  end if;
  update unstuck.outbox o
  set times = o.times + 1,
      due_at = v_now + make_interval(secs => p_lease)
  where o.message = v_message
    and o.ended_at is null;
  return (
    select jsonb_build_object(
      'message', v_message,
      'times', max(o.times),
      'address', max(o.address),
      'url', max(o.url),
      'retry_after', unstuck.outbox_pause(max(o.times)),
      'tasks', jsonb_agg(jsonb_build_object(
        'watch', o.watch,
        'task_id', o.task_id,
        'number', o.number,
        'kind', o.kind,
        'state', o.state,
        'reason', o.reason,
        'cause', o.cause,
        'at', o.at
      ) order by o.id)
    )
    from unstuck.outbox o
    where o.message = v_message
      and o.ended_at is null
  );
end $$;

-- Says what became of a message that was taken: it was sent; or, with an error, it is to be tried
-- again after `p_retry_after` seconds (null: given up). Safe to repeat.
create or replace function unstuck.outbox_end(
  p_message uuid,
  p_error text default null,
  p_retry_after double precision default null
) returns integer language plpgsql as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_count integer;
begin
  update unstuck.outbox o
  set error = p_error,
      request = null,
      due_at = coalesce(v_now + make_interval(secs => p_retry_after), o.due_at),
      ended_at = case when p_error is null or p_retry_after is null then v_now end,
      outcome = case
        when p_error is null then 'sent'
        when p_retry_after is null then 'given up'
      end
  where o.message = p_message
    and o.ended_at is null;
  get diagnostics v_count = row_count;
  if v_count > 0 and p_error is not null and p_retry_after is null then
    perform unstuck.notice(
      'undelivered',
      format('%s ends could not be told to %s: %s', count(*), max(o.address), p_error),
      max(o.address)
    )
    from unstuck.outbox o
    where o.message = p_message
      and o.state <> 'notice'
    having count(*) > 0;
  end if;
  return v_count;
end $$;

-- Tells each address that hears, but `p_except`, what is of no task: `p_code`, and a sentence.
create or replace function unstuck.notice(p_code text, p_text text, p_except text default null)
returns void language sql as $$
  insert into unstuck.outbox (
    watch, task_id, number, kind, reason, cause, state, address
  )
  select '', '', 0, '', p_code, p_text, 'notice', d.name
  from unstuck.addresses d
  where d.name not in ('callback', 'ping', 'worker', coalesce(p_except, ''))
    and unstuck.hears(d)
$$;

-- net: notifications, wake-ups and the ping of a check-in service by pg_net, for a database that
-- has no sweep outside. A request is queued in the transaction that marks its message, so neither
-- is there without the other; its answer is read by a later run. pg_net keeps its queue in unlogged
-- tables: what a crash of the server loses comes again, under the same id, when its lease is over.

-- Says where an address is: `select unstuck.notify_to('https://hooks.slack.com/...')`. A URL, and a
-- secret, may be `vault:NAME` of Supabase's Vault. Without a URL the address is removed. Names with
-- a meaning: `callback` (hosts that tasks may name, and the secret), `worker` (is told of tasks
-- that wait again), `ping` (is asked after each sweep that ended well).
create or replace function unstuck.notify_to(
  p_url text,
  p_name text default 'default',
  p_secret text default null,
  p_headers jsonb default '{}',
  p_hosts text[] default '{}'
) returns void language plpgsql as $$
begin
  if p_url !~ '^(https?://|vault:)' then
    raise exception 'the URL of an address begins with https:// or vault:'
      using errcode = 'invalid_parameter_value';
  end if;
  delete from unstuck.addresses d where d.name = p_name;
  insert into unstuck.addresses (name, url, secret, headers, hosts)
  select p_name, p_url, p_secret, p_headers, array(select lower(h) from unnest(p_hosts) h)
  where p_url is not null or p_hosts <> '{}';
end $$;

-- The text itself, or the secret of the Vault that it names.
create or replace function unstuck.opened(p_text text) returns text language plpgsql stable as $$
declare
  v_secret text;
begin
  if p_text like 'vault:%' then
    execute 'select s.decrypted_secret from vault.decrypted_secrets s where s.name = $1'
    into v_secret
    using substr(p_text, 7);
    return v_secret;
  end if;
  return p_text;
end $$;

-- HMAC with SHA-256 (RFC 2104), without pgcrypto.
create or replace function unstuck.hmac_sha256(p_key bytea, p_message bytea) returns bytea
language plpgsql immutable as $$
declare
  v_key   bytea := case when length(p_key) > 64 then sha256(p_key) else p_key end;
  v_inner bytea;
  v_outer bytea;
begin
  v_key := v_key || decode(repeat('00', 64 - length(v_key)), 'hex');
  v_inner := v_key;
  v_outer := v_key;
  for i in 0..63 loop
    v_inner := set_byte(v_inner, i, get_byte(v_key, i) # 54);
    v_outer := set_byte(v_outer, i, get_byte(v_key, i) # 92);
  end loop;
  return sha256(v_outer || sha256(v_inner || p_message));
end $$;

-- The headers of Standard Webhooks, as functions/sweep/notify.py makes them.
create or replace function unstuck.signed(p_secret text, p_id text, p_body text) returns jsonb
language sql stable as $$
  select jsonb_build_object('webhook-id', p_id, 'webhook-timestamp', s.at)
    || case when p_secret <> '' then jsonb_build_object(
      'webhook-signature',
      'v1,' || encode(unstuck.hmac_sha256(
        case
          when p_secret like 'whsec\_%' then decode(substr(p_secret, 7), 'base64')
          else convert_to(p_secret, 'UTF8')
        end,
        convert_to(concat(p_id, '.', s.at, '.', p_body), 'UTF8')
      ), 'base64')
    ) else '{}' end
  from (select floor(extract(epoch from clock_timestamp()))::bigint::text as at) s
$$;

-- A kind is data: it begins no line, and Slack must not read it as a link or a mention.
create or replace function unstuck.escaped(p_kind text) returns text language sql immutable as $$
  select case
    when p_kind ~ '^[A-Za-z0-9_-]{1,100}$' then p_kind
    else concat('`', replace(replace(replace(replace(
      left(regexp_replace(p_kind, '[^[:alnum:] -~]', '?', 'g'), 100), '`', ''''
    ), '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '`')
  end
$$;

-- What a receiver reads: the same as body() in functions/sweep/notify.py.
create or replace function unstuck.outbox_body(p_message jsonb) returns jsonb
language sql stable as $$
  with told as (
    select t.task, t.at, t.task ->> 'state' as state
    from jsonb_array_elements(p_message -> 'tasks') with ordinality as t (task, at)
  ), lines as (
    select
      row_number() over (order by count(*) desc, min(t.at)) as place,
      count(*) as count,
      format(
        '%s x %s of %s: %s',
        count(*),
        unstuck.escaped(t.task ->> 'kind'),
        t.task ->> 'watch',
        t.task ->> 'reason'
      ) as line
    from told t
    where t.state <> 'notice'
    group by t.task ->> 'watch', t.task ->> 'kind', t.task ->> 'reason'
  ), listed as (
    select t.task, t.at
    from told t
    where t.at <= 50 or p_message ->> 'address' = 'callback'
  )
  select jsonb_build_object(
    'text', concat_ws(
      E'\n',
      (
        select string_agg(n.text, E'\n' order by n.at)
        from (
          select coalesce(t.task ->> 'cause', t.task ->> 'reason') as text, min(t.at) as at
          from told t
          where t.state = 'notice'
          group by 1
        ) n
      ),
      (
        select string_agg(
          format('%s task%s %s', c.count, case when c.count > 1 then 's' end, c.state),
          ', ' order by c.place
        ) || ':'
        from (
          select s.state, s.place, count(*) as count
          from told t
          join unnest(array['failed', 'retried', 'cancelled', 'completed'])
            with ordinality as s (state, place) using (state)
          group by s.state, s.place
        ) c
      ),
      (select string_agg(l.line, E'\n' order by l.place) from lines l where l.place <= 10),
      (
        select format('and %s more', sum(l.count))
        from lines l
        where l.place > 10
        having count(*) > 0
      )
    ),
    'id', p_message -> 'message',
    'count', jsonb_array_length(p_message -> 'tasks'),
    'tasks', (select coalesce(jsonb_agg(l.task order by l.at), '[]') from listed l),
    'more', jsonb_array_length(p_message -> 'tasks') - (select count(*) from listed)
  )
$$;

-- Whether pg_net is here.
create or replace function unstuck.has_net() returns boolean language sql stable as $$
  select to_regclass('net.http_request_queue') is not null
    and to_regclass('net._http_response') is not null
$$;

-- Whether the host of a callback is one that the owner of the database allowed.
create or replace function unstuck.may_call(p_url text) returns boolean language sql stable as $$
  select exists (
    select
    from unstuck.addresses d, unnest(d.hosts) h,
      substring(lower(p_url) from '^https://([a-z0-9.-]+)(?::\d{1,5})?(?:[/?#][^\s\\]*)?$') as host
    where d.name = 'callback'
      and (host = h or h like '*.%' and right(host, length(h) - 1) = substr(h, 2))
  )
$$;

-- Reads the answers to what was sent. A message whose request still waits in pg_net's queue is not
-- sent again.
create or replace function unstuck.net_read() returns void language plpgsql as $$
declare
  v_sent   record;
  v_answer record;
begin
  for v_sent in
    select o.message, max(o.times) as times, max(o.request) as request
    from unstuck.outbox o
    where o.ended_at is null
      and o.request is not null
    group by o.message
  loop
    select r.status_code, r.error_msg, r.timed_out
    into v_answer
    from net._http_response r
    where r.id = v_sent.request;
    if found then
      perform unstuck.outbox_end(
        v_sent.message,
        case
          when v_answer.status_code between 200 and 299 then null
          when v_answer.status_code is not null then
            format('the receiver answered %s', v_answer.status_code)
          else concat(
            'the receiver cannot be reached: ',
            coalesce(v_answer.error_msg, case when v_answer.timed_out then 'timeout' end)
          )
        end,
        unstuck.outbox_pause(v_sent.times)
      );
    elsif exists (select from net.http_request_queue q where q.id = v_sent.request) then
      update unstuck.outbox o
      set due_at = clock_timestamp() + interval '1 minute'
      where o.message = v_sent.message
        and o.ended_at is null;
    end if;
  end loop;
end $$;

-- Sends what waits. Returns how many messages.
create or replace function unstuck.net_send(
  p_limit integer default 50,
  p_watches text[] default null
) returns integer language plpgsql as $$
declare
  v_addresses constant text[] := array(
    select d.name
    from unstuck.addresses d
    where d.name not in ('ping', 'worker')
      and (d.url is not null or d.name = 'callback' and d.hosts <> '{}')
  );
  v_message jsonb;
  v_id      uuid;
  v_to      unstuck.addresses;
  v_url     text;
  v_body    jsonb;
  v_request bigint;
begin
  for v_count in 0 .. p_limit - 1 loop
    v_message := case
      when v_addresses <> '{}' then unstuck.outbox_take(60, 500, p_watches, v_addresses)
    end;
    if v_message is null then
      return v_count;
    end if;
    v_id := v_message ->> 'message';
    select * into v_to from unstuck.addresses d where d.name = v_message ->> 'address';
    v_url := v_message ->> 'url';
    if v_url is not null and not unstuck.may_call(v_url) then
      perform unstuck.outbox_end(v_id, 'the host of the callback is not allowed');
      continue;
    end if;
    v_body := unstuck.outbox_body(v_message);
    begin
      v_request := net.http_post(
        url => coalesce(v_url, unstuck.opened(v_to.url)),
        body => v_body,
        headers => v_to.headers || '{"Content-Type": "application/json"}'
          || unstuck.signed(unstuck.opened(v_to.secret), v_id::text, v_body::text),
        timeout_milliseconds => 5000
      );
      -- pg_net counts anew after a crash of the server
      update unstuck.outbox o
      set request = case when o.message = v_id then v_request end
      where o.ended_at is null
        and (o.message = v_id or o.request = v_request);
    exception when others then
      perform unstuck.outbox_end(
        v_id, format('it could not be sent: %s', sqlstate), (v_message ->> 'retry_after')::float8
      );
    end;
  end loop;
  return p_limit;
end $$;

-- Wakes workers up: a POST for each task, with the body that the function `worker` takes. Which
-- task runs is chosen by the claim.
create or replace function unstuck.net_wake(p_watch text, p_ids text[]) returns void
language plpgsql as $$
begin
  perform net.http_post(
    url => unstuck.opened(d.url),
    body => jsonb_build_object('watch', p_watch, 'task_id', i),
    headers => d.headers || '{"Content-Type": "application/json"}',
    timeout_milliseconds => 5000
  )
  from unstuck.addresses d, unnest(p_ids) as i
  where d.name = 'worker';
end $$;

-- Asks the check-in service that misses the sweep when it does not come.
create or replace function unstuck.net_ping() returns void language plpgsql as $$
begin
  perform net.http_get(url => unstuck.opened(d.url), timeout_milliseconds => 5000)
  from unstuck.addresses d
  where d.name = 'ping';
end $$;

-- Tells that the sweep is silent, from another path than pg_cron: a claim, a create or a poll. Once
-- in each silence, and again each hour. It never fails who noticed.
create or replace function unstuck.tell_silence(p_installation text, p_last timestamptz)
returns void language plpgsql set lock_timeout = '100ms' as $$
begin
  perform
  from unstuck.watchdog w
  where w.installation = p_installation
    and (w.told_at is null or w.told_at < greatest(p_last, clock_timestamp() - interval '1 hour'))
  for update skip locked;
  if not found then
    return;
  end if;
  update unstuck.watchdog w
  set told_at = clock_timestamp()
  where w.installation = p_installation;
  perform unstuck.notice('sweep_silent', format(
    'The sweep has not run since %s UTC: tasks that are stuck stay so. See cron.job_run_details.',
    to_char(p_last at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')
  ));
  if unstuck.has_net() then
    perform unstuck.net_read();
    perform unstuck.net_send(10);
  end if;
exception when others then
  raise warning 'unstuck: the silence of the sweep could not be told: %', sqlerrm;
end $$;

-- heed: looks whether the sweep by pg_cron is older than three of its intervals, and has it told. A
-- poll calls it, and triggers that the schedule makes: on a claim, and on a new row. Where no
-- pg_cron was asked to sweep, it reads one empty table.
create or replace function unstuck.heed() returns void language plpgsql as $$
declare
  v_silent record;
begin
  for v_silent in
    select w.installation, coalesce(s.started_at, w.since) as at
    from unstuck.watchdog w
    left join lateral (
      select s.started_at
      from unstuck.sweeps s
      where s.installation = w.installation
      order by s.id desc
      limit 1
    ) s on true
    where coalesce(s.started_at, w.since) < clock_timestamp() - 3 * w.every
  loop
    if not current_setting('transaction_read_only')::boolean then
      perform unstuck.tell_silence(v_silent.installation, v_silent.at);
    end if;
  end loop;
end $$;

create or replace function unstuck.heeded() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform unstuck.heed();
  return null;
end $$;

-- metrics: what a Prometheus counts of the ledger, since no log line reaches it. Each count is of
-- one hour, in one of two slots: those of the even hours and those of the odd ones take turns, so
-- that the last count of an hour stands for another hour, and then begins anew at 0. A Prometheus
-- takes that for a restart, and the sum over both slots loses nothing, whatever retention deletes.

create or replace function unstuck.metrics(
  p_watches text[],
  p_installation text default '',
  p_now timestamptz default clock_timestamp()
) returns jsonb language sql stable as $$
  with slots as (
    select
      h.at as begins,
      least(h.at + interval '1 hour', p_now) as ends,
      (extract(epoch from h.at)::bigint / 3600 % 2)::integer as slot
    from unnest(array[
      date_trunc('hour', p_now), date_trunc('hour', p_now) - interval '1 hour'
    ]) as h (at)
  ), ended as (
    select
      s.slot,
      a.watch,
      a.kind,
      a.outcome,
      a.reason,
      case
        when a.sweep_id > 0 then 'sweep'
        when a.sweep_id = 0 then 'status'
        when a.worker is null then 'operator'
        else 'guard'
      end as by,
      extract(epoch from a.ended_at - least(a.lease_until, a.deadline_at))::float8 as late,
      a.sweep_id is not null and a.worker is not null as is_rescue
    from slots s
    join unstuck.attempts a on a.ended_at >= s.begins and a.ended_at < s.ends
    where a.watch = any (p_watches)
  ), runs as (
    select s.slot, r.ok, r.counts, r.ended_at, r.started_at
    from slots s
    join unstuck.sweeps r on r.started_at >= s.begins and r.started_at < s.ends
    where r.installation = p_installation
  )
  select jsonb_build_object(
    'ended', (
      select coalesce(jsonb_agg(g), '[]')
      from (
        select e.watch, e.kind, e.outcome, e.reason, e.by, e.slot, count(*)
        from ended e
        where e.outcome in ('completed', 'failed', 'cancelled', 'retried', 'released')
        group by e.watch, e.kind, e.outcome, e.reason, e.by, e.slot
      ) g
    ),
    'rescues', (
      select coalesce(jsonb_agg(g), '[]')
      from (
        select
          e.slot,
          count(*) as count,
          sum(greatest(e.late, 0)) as sum,
          array[
            count(*) filter (where e.late <= 10),
            count(*) filter (where e.late <= 30),
            count(*) filter (where e.late <= 60),
            count(*) filter (where e.late <= 120),
            count(*) filter (where e.late <= 300),
            count(*) filter (where e.late <= 900)
          ] as buckets
        from ended e
        where e.is_rescue
        group by e.slot
      ) g
    ),
    'refused', (
      select coalesce(jsonb_agg(g), '[]')
      from (
        select f.wanted, s.slot, count(*)
        from slots s
        join unstuck.refusals f on f.at >= s.begins and f.at < s.ends
        where f.watch = any (p_watches) and f.source = 'verb'
        group by f.wanted, s.slot
      ) g
    ),
    'sweeps', (
      select coalesce(jsonb_agg(g), '[]')
      from (
        select
          r.slot,
          count(*) filter (where r.ok) as ok,
          count(*) filter (where not r.ok) as error,
          count(*) filter (where not (r.counts ->> 'complete')::boolean) as incomplete,
          coalesce(sum((r.counts ->> 'suspended')::integer), 0) as suspended,
          coalesce(sum((r.counts ->> 'unsweepable')::integer), 0) as unsweepable,
          coalesce(sum((r.counts ->> 'redispatched')::integer), 0) as redispatched,
          coalesce(sum((r.counts ->> 'oldest_overdue_seconds')::float8), 0) as overdue,
          count(r.counts ->> 'oldest_overdue_seconds') as overdue_count,
          coalesce(sum((r.counts ->> 'oldest_pending_seconds')::float8), 0) as pending,
          count(r.counts ->> 'oldest_pending_seconds') as pending_count
        from runs r
        where r.ended_at is not null
        group by r.slot
      ) g
    ),
    'last_sweep', (
      select jsonb_build_object(
        'age', extract(epoch from p_now - r.started_at),
        'ok', r.ok
      )
      from unstuck.sweeps r
      where r.installation = p_installation
        and r.started_at <= p_now
        and r.ended_at is not null
      order by r.id desc
      limit 1
    ),
    'outbox', (
      select jsonb_build_object(
        'waiting', count(*),
        'oldest', coalesce(extract(epoch from p_now - min(o.at)), 0)
      )
      from unstuck.outbox o
      where o.ended_at is null
    )
  )
$$;

-- keep_trigger: makes the trigger `unstuck_...` of a watched table. Not where it is there already:
-- to make one anew locks the table, and all who write to it wait while it waits for its lock. The
-- definition is kept as the trigger's comment.
create or replace function unstuck.keep_trigger(
  p_table regclass,
  p_name text,
  p_definition text
) returns void language plpgsql as $$
begin
  if not exists (
    select from pg_trigger t
    where t.tgrelid = p_table
      and t.tgname = p_name
      and t.tgenabled <> 'D'
      and obj_description(t.oid, 'pg_trigger') = p_definition
  ) then
    execute format('create or replace trigger %I %s', p_name, p_definition);
    execute format('comment on trigger %I on %s is %L', p_name, p_table, p_definition);
  end if;
end $$;

-- Writes down that the tasks wait from now on; with `p_withdrawn` that they waited until now, and
-- are to stop.
drop function if exists unstuck.put_back(text, text[]);
create or replace function unstuck.put_back(
  p_watch text,
  p_ids text[],
  p_withdrawn boolean default false
) returns void language sql as $$
  insert into unstuck.observed as o (watch, task_id, status_at, touched_at, withdrawn)
  select p_watch, i.id, clock_timestamp(), clock_timestamp(), p_withdrawn
  from unnest(p_ids) as i (id)
  on conflict (watch, task_id) do update
  set status_at = excluded.status_at,
      touched_at = excluded.touched_at,
      withdrawn = excluded.withdrawn
$$;

-- verbs.tasks
-- tell: puts into the outbox what people are to be told of attempts that have ended, in the
-- transaction that ended them, whoever did: a row for each address that the policy names for the
-- kind and the end, and one for the task's own callback. Where the policy does not say `notify`,
-- nothing is put there before somebody asks for it.
create or replace function unstuck.tasks_tell(p_ids text[], p_numbers integer[]) returns void
language plpgsql set enable_seqscan = off set jit = off as $$
declare
  v_routes constant jsonb := '{"*": {"failed": ["default"]}, "image": {"failed": ["default"]}, "selection": {"failed": ["default"]}}';
begin
  insert into unstuck.outbox (watch, task_id, number, kind, reason, cause, state, address, url)
  select
    'tasks', a.task_id, a.number, a.kind, coalesce(a.reason, a.outcome), a.cause, a.outcome,
    r.address, r.url
  from unnest(p_ids, p_numbers) as e (task_id, number)
  join unstuck.attempts a
    on a.watch = 'tasks' and a.task_id = e.task_id and a.number = e.number
  left join "public"."tasks" t on t."id" = a.task_id::uuid
  cross join lateral (
    select n.name, null
    from jsonb_array_elements_text(coalesce(v_routes -> a.kind, v_routes -> '*') -> a.outcome)
      as n (name)
    where false
      or exists (select from unstuck.addresses d where d.name = n.name and unstuck.hears(d))
    union all
    select 'callback', t."callback_url"
    where a.outcome in ('completed', 'failed', 'cancelled')
      and t."callback_url" is not null
  ) as r (address, url);
end $$;

-- create: writes a pending task. The same idempotency key of the same owner finds the task that is
-- there; the caller may make the id, so that a create whose answer was lost can be repeated. The
-- limits of a user are checked under one lock for each owner, so that no race lets two through: at
-- most `p_per_minute` tasks in a minute, and one open task of a kind whose rule says `one_active`.
-- An index holds that one as well, for other writers of the column `one_active`. `p_at`: the time
-- before which it does not start, which a client gave; `p_delay`: seconds from now. Both by the
-- clock of the database alone. `due_in` of the answer says how long it waits. `p_callback`: the URL
-- that is told of its end.
drop function if exists unstuck.tasks_create(
  text, jsonb, text, text, integer, double precision, jsonb, uuid, jsonb, integer
);
drop function if exists unstuck.tasks_create(
  text, jsonb, text, text, integer, double precision, jsonb, uuid, jsonb, integer, timestamptz
);
create or replace function unstuck.tasks_create(
  p_kind text,
  p_input jsonb default '{}',
  p_owner text default null,
  p_key text default null,
  p_priority integer default 0,
  p_delay double precision default 0,
  p_metadata jsonb default '{}',
  p_id uuid default gen_random_uuid(),
  p_rules jsonb default '{}',
  p_per_minute integer default null,
  p_at timestamptz default null,
  p_callback text default null
) returns jsonb language plpgsql as $$
declare
  v_due    timestamptz;
  v_single    constant boolean :=
    coalesce((unstuck.rule(p_rules, p_kind) ->> 'one_active')::boolean, false);
  v_answer jsonb := '{}';
  v_obstacle  jsonb;
begin
  if v_single or p_owner is not null and p_per_minute is not null then
    -- a bounded number of locks: some owners share one
    perform unstuck.hold('create/' || (hashtext(format('%s/%s', 'tasks', p_owner)) & 1023));
    v_answer := coalesce(
      unstuck.tasks_same(p_kind, p_input, p_owner, p_key, p_id),
      unstuck.tasks_limited(p_owner, p_per_minute),
      case when v_single then unstuck.tasks_active(p_kind, p_owner, p_rules) end,
      '{}'
    );
    if v_answer ? 'verdict' then
      return v_answer;
    end if;
  end if;
  v_due := greatest(clock_timestamp(), p_at) + make_interval(secs => p_delay);
  loop
    begin
      insert into "public"."tasks" as t (
        id, kind, input, owner, idempotency_key, priority,
        scheduled_at, metadata, one_active, callback_url
      ) values (
        p_id, p_kind, p_input, p_owner, p_key, p_priority,
        v_due, p_metadata, v_single, p_callback
      );
      exit;
    exception when unique_violation then
      v_obstacle := coalesce(
        unstuck.tasks_same(p_kind, p_input, p_owner, p_key, p_id),
        unstuck.tasks_active(p_kind, p_owner, p_rules)
      );
      if v_obstacle is null then  -- a unique index of the table's owner: the error names it
        raise;
      elsif v_obstacle ? 'verdict' then
        return v_answer || v_obstacle;
      end if;
      v_answer := v_answer || v_obstacle;  -- what stood in the way is healed
    end;
  end loop;
  null;
  return v_answer
    || jsonb_build_object(
      'verdict', 'created',
      'task_id', p_id,
      'state', 'pending',
      'due_in', unstuck.due_in(v_due)
    );
end $$;

-- The task that is there by this id or key: verdict exists, or conflict when it is another one.
-- Null when there is none.
create or replace function unstuck.tasks_same(
  p_kind text,
  p_input jsonb,
  p_owner text,
  p_key text,
  p_id uuid
) returns jsonb language plpgsql stable as $$
begin
  return (
    select jsonb_build_object(
      'verdict', case
        when t.kind = p_kind and t.input = p_input then 'exists'
        else 'conflict'
      end,
      'task_id', t.id,
      'state', case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end,
      'due_in', unstuck.due_in(t."scheduled_at")
    )
    from "public"."tasks" t
    where t.id = p_id
      or coalesce(t.owner, '') = coalesce(p_owner, '') and t.idempotency_key = p_key
  );
end $$;

-- Verdict limited, with the seconds until the oldest of the last minute's tasks has left it. Null
-- when there is room.
create or replace function unstuck.tasks_limited(p_owner text, p_per_minute integer)
returns jsonb language plpgsql as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  return (
    select jsonb_build_object(
      'verdict', 'limited',
      'retry_after', extract(epoch from t.created_at + interval '1 minute' - v_now)
    )
    from "public"."tasks" t
    where p_per_minute is not null
      and t.owner = p_owner
      and t.created_at > v_now - interval '1 minute'
    order by t.created_at desc
    offset p_per_minute - 1
    limit 1
  );
end $$;

-- Verdict active, with the open task of that kind. One that is overdue is healed first: it must not
-- lock its user out. Null when there is none.
create or replace function unstuck.tasks_active(p_kind text, p_owner text, p_rules jsonb)
returns jsonb language plpgsql as $$
declare
  v_id      uuid;
  v_state   text;
  v_rescued json;
begin
  select t.id
  into v_id
  from "public"."tasks" t
  where t.one_active
    and (t."status" = 'pending' or t."status" = 'processing')
    and t.kind = p_kind
    and coalesce(t.owner, '') = coalesce(p_owner, '');
  if not found then
    return null;
  end if;
  v_rescued := unstuck.tasks_sweep(p_rules, 1, null, v_id::text) -> 'rescued';
  select case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end
  into v_state
  from "public"."tasks" t
  where t.id = v_id;
  if v_state in ('pending', 'running') then
    return jsonb_build_object(
      'verdict', 'active', 'task_id', v_id, 'state', v_state, 'rescued', v_rescued
    );
  end if;
  return jsonb_build_object('rescued', v_rescued);
end $$;

-- turn: gives a task of an owner its turn, whoever creates it: after the owner's others, a second
-- apart; where none of them waits, beside what is next now. So each owner who waits is next once
-- before another is next twice. What is next is so of its kind. Where nothing of its kind waits, it
-- is so of all kinds, and no earlier than what runs, since a limit or a pause may hold up what is;
-- then it comes after the owner's last of this kind too, so that who asks again and again has not
-- each turn. The claim itself reads an index in that order and nothing more.
create or replace function unstuck.tasks_turn() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_turn  timestamptz;
  v_front timestamptz;
begin
  select coalesce(t.turn, t.scheduled_at) + interval '1 second'
  into v_turn
  from "public"."tasks" t
  where t."status" = 'pending'
    and t.kind = new.kind
    and coalesce(t.owner, '') = new.owner
    and t.priority = new.priority
  order by
    t.kind desc,
    coalesce(t.owner, '') desc,
    t.priority,
    coalesce(t.turn, t.scheduled_at) desc
  limit 1;
  if not found then
    select coalesce(t.turn, t.scheduled_at)
    into v_turn
    from "public"."tasks" t
    where t."status" = 'pending'
      and t.kind = new.kind
      and t.priority = new.priority
    order by t.kind, t.priority desc, coalesce(t.turn, t.scheduled_at)
    limit 1;
    if not found then
      select max(coalesce(r.turn, r.scheduled_at))
      into v_front
      from (
        select t.turn, t.scheduled_at, t.priority
        from "public"."tasks" t
        where t."status" = 'processing'
        order by t.updated_at desc
        limit 4
      ) r
      where r.priority = new.priority;
      select coalesce(t.turn, t.scheduled_at)
      into v_turn
      from "public"."tasks" t
      where t."status" = 'pending'
        and t.priority = new.priority
        and coalesce(t.turn, t.scheduled_at) >= coalesce(v_front, '-infinity')
      order by t.priority desc, coalesce(t.turn, t.scheduled_at)
      limit 1;
      select case
        when v_turn is not null then
          greatest(v_turn, max(coalesce(o.turn, o.scheduled_at)) + interval '1 second')
      end
      into v_turn
      from (
        select t.turn, t.scheduled_at, t.kind, t.priority
        from "public"."tasks" t
        where t.owner = new.owner
        order by t.created_at desc
        limit 4
      ) o
      where o.kind = new.kind and o.priority = new.priority;
    end if;
    v_turn := least(v_turn, v_now);
  end if;
  -- one for later is in the queue from then
  new.turn := greatest(v_turn, case when new.scheduled_at > v_now then new.scheduled_at end);
  return new;
end $$;

select unstuck.keep_trigger('"public"."tasks"', 'unstuck_turn', $trigger$
before insert on "public"."tasks"
for each row when (new.owner is not null and new.turn is null and (new."status" = 'pending'))
execute function unstuck.tasks_turn()
$trigger$);

-- claim: makes one attempt the holder of one given task (`p_task`), or of the next one; with
-- `p_kinds` only of a task of these kinds. With `p_chooses` the given task is a wake-up: where it
-- may start now, or somebody else has it, the claim takes the next task of all that may.
-- Three short steps: lock the task; read its last attempt, by a statement of its own, which sees
-- what was committed before the lock; add the new attempt and move the task. The next task is one
-- that may still wait: only rows younger than `pending_at_most` are taken, so that a mass of stale
-- rows is not walked through. The plans are generic: each search is by a key or in the order of an
-- index (never by a sort: that would read all that waits), and to plan it anew took half of the
-- time. Each setting and each expression is paid for by every claim: so what few of them need is in
-- functions of its own.
-- The caller makes the token, so that a claim whose answer was lost can be asked for again
-- (`p_again`). `p_trace` is that of the request that claims; what is no trace is not kept. No lock
-- is waited for longer than the caller waits for the answer: a claim that comes through when nobody
-- listens would burn a try.
-- What is paused or at its limit stays as it is (pauses.sql, limits.sql); where nothing is, a claim
-- reads nothing for it but that no pause is there.
-- Names between at signs stand for what differs by table: see functions/install/render.py.
drop function if exists unstuck.tasks_claim(text, text, jsonb, uuid, boolean, text[]);
drop function if exists unstuck.tasks_claim(
  text, text, jsonb, uuid, boolean, text[], boolean
);
create or replace function unstuck.tasks_claim(
  p_task text,
  p_worker text,
  p_rules jsonb,
  p_token uuid default gen_random_uuid(),
  p_again boolean default false,
  p_kinds text[] default null,
  p_chooses boolean default false,
  p_trace text default null
) returns jsonb
language plpgsql set plan_cache_mode = force_generic_plan set lock_timeout = '2s'
set enable_sort = off  as $$
declare
  v_key     constant uuid := p_task::uuid;
  v_now     constant timestamptz := clock_timestamp();
  -- whether this claim is all that its transaction writes
  v_alone   constant boolean := pg_current_xact_id_if_assigned() is null;
  v_named   boolean := p_task is not null;  -- whether no other task will do
  v_tried   boolean := not p_chooses;  -- whether that was tried
  -- whether what is next has to be looked for in each kind apart
  v_by_kind boolean := p_kinds is not null
    or p_rules -> '*' ? 'some_limited'
    or p_chooses and p_rules -> '*' ? 'some_named';
  v_kinds   text[] := p_kinds;
  -- what has to be asked before the search: a pause, a clock that was set, a pause that has ended
  v_marks   text[] := array['tasks', '', '/tasks'];
  v_still   interval;
  v_aged    timestamptz := v_now;  -- now, less the time for which nothing grew older
  v_task    record;
  v_last    record;
  v_attempt record;
  v_taken   boolean;
  v_checkpoint jsonb;
  v_answer  jsonb;
  v_refusal jsonb;  -- the answer where no other task can be had either
  v_gate    jsonb;  -- the slots, the pause and the rescue to which the claim has to be told
  v_held    uuid[] := '{}';
  v_starved uuid;  -- a task that waits for too long behind more urgent ones
  v_turn    jsonb;  -- the task of the owner whose turn it is
  v_pass    text;
begin
  null;
  if false then
    raise exception
      'the watch % has no word for completed: its tasks can be swept, but not run in the guard',
      'tasks' using errcode = 'wrong_object_type';
  end if;
  if p_rules -> '*' ?& array[
    'pending_for', 'longest_pending_for', 'run_for', 'silent_for', 'attempts', 'lease', 'on_lost',
    'backoff_first', 'backoff_factor', 'backoff_max'
  ] is not true then
    raise exception 'the rules are not those of a policy: "*" lacks some'
      using errcode = 'invalid_parameter_value',
        hint = 'Send what `unstuck sql --rules` prints.';
  end if;
  if p_task is null or p_chooses then  -- the first call may still run, with any task
    v_pass := pg_advisory_xact_lock(hashtextextended(p_token::text, 0)) is null;
  end if;
  if p_again then
    v_answer := unstuck.tasks_claimed(case when not p_chooses then p_task end, p_token);
    if v_answer is not null then
      return v_answer;
    end if;
  end if;
  if p_chooses and v_named then
    select false
    into v_named
    from "public"."tasks" t
    where t."id" = v_key
      and t."status" = 'pending'
      and (t."scheduled_at" > v_now) is not true
      and unstuck.is_chosen(p_rules, t."kind");
    v_named := v_named is null;
  end if;
  if p_chooses and p_rules -> '*' ? 'some_named' then
    v_kinds := array(
      select k.kind
      from unnest(coalesce(p_kinds, unstuck.tasks_waiting_kinds())) as k (kind)
      where unstuck.is_chosen(p_rules, k.kind)
    );
  end if;
  if true and not v_named and get_byte(uuid_send(p_token), 15) % 4 = 0 and (
    select t."scheduled_at"
    from "public"."tasks" t
    where t."status" = 'pending'
    order by t."scheduled_at"
    limit 1
  ) <= v_now - unstuck.rule_seconds(p_rules, '*', 'ageing') then
    v_starved := unstuck.tasks_starved(v_kinds, v_now, p_rules);
  end if;

  loop
    v_turn := null;
    if false and not v_named and v_starved is null then
      v_turn := unstuck.tasks_rotate(
        v_kinds, coalesce(md5(p_kinds::text), '*'), v_held, v_now, p_rules
      );
    end if;
    if v_named then
      v_tried := true;
      select
        t."id" as key, t."id"::text as id, t."kind" as kind, t."input" as input, t."owner" as owner, null::integer as counted,
        t."status" = 'pending' and (t."scheduled_at" > v_now) is not true as ready,
        exists (
          select from unstuck.pauses p where p.watch = 'tasks' and p.ended_at is null
        ) as paused
      into v_task
      from "public"."tasks" t
      where t."id" = v_key
      for update;
      if v_by_kind or v_task.paused or v_task.ready is not true then
        v_gate := unstuck.tasks_admit(
          p_task, v_task.kind, v_task.owner, coalesce(v_task.ready, false), p_kinds, p_rules, v_now
        );
        if v_gate ? 'verdict' then
          if v_refusal is not null  -- nothing else was to be had
            or not p_chooses
            or v_gate ->> 'verdict' = 'early'
            or not unstuck.is_chosen(p_rules, v_task.kind)
          then
            return v_gate;
          end if;
          v_refusal := v_gate;
          v_gate := null;
          v_named := false;
          continue;
        end if;
      end if;
    elsif v_starved is not null then
      select t."id" as key, t."id"::text as id, t."kind" as kind, t."input" as input, t."owner" as owner, null::integer as counted
      into v_task
      from "public"."tasks" t
      where t."id" = v_starved
        and t."status" = 'pending'
      for update skip locked;
      v_taken := found;
      v_starved := null;
      continue when not v_taken;
      v_gate := unstuck.tasks_gate(v_task.kind, v_task.owner, p_rules);
      if v_gate ? 'verdict' then
        v_gate := null;
        continue;
      end if;
    elsif v_turn is null and not v_by_kind then
      select t."id" as key, t."id"::text as id, t."kind" as kind, t."input" as input, t."owner" as owner, null::integer as counted
      into v_task
      from "public"."tasks" t
      where t."status" = 'pending'
        and t."scheduled_at" <= v_now
        and t."scheduled_at" > v_aged - unstuck.rule_seconds(p_rules, '*', 'longest_pending_for')
        and t."scheduled_at" > v_aged - unstuck.pending_at_most(p_rules, t."kind")
        and t."id" <> all (v_held)
        and not exists (
          select from unstuck.pauses p where p.watch = any (v_marks) and p.ended_at is null
        )
      order by t."priority" desc, coalesce(t.turn, t."scheduled_at")
      limit 1
      for update skip locked;
      v_taken := found;
      if not v_taken and v_marks <> '{}' then
        v_marks := '{}';
        v_still := unstuck.stood_still('tasks', null, p_rules);
        v_aged := v_now - coalesce(v_still, '0');
        v_by_kind := exists (
          select from unstuck.pauses p where p.watch = 'tasks' and p.ended_at is null
        );
        continue when v_by_kind
          or v_still is not null
          or unstuck.forget_resumed('tasks', p_rules);
      end if;
    else
      v_gate := coalesce(v_turn, unstuck.tasks_choose(v_kinds, v_held, v_now, p_rules));
      v_taken := coalesce(v_gate ? 'key', false);
      if v_taken then
        select t."id" as key, t."id"::text as id, t."kind" as kind, t."input" as input, t."owner" as owner, null::integer as counted
        into v_task
        from "public"."tasks" t
        where t."id" = (v_gate ->> 'key')::uuid;
      elsif v_gate ? 'verdict' then
        v_refusal := unstuck.sooner(v_refusal, v_gate);
      end if;
    end if;
    if not v_named and not v_taken then
      if v_tried then
        return coalesce(v_refusal, '{"verdict": "none"}');
      end if;
      v_named := true;  -- then the given one says why
      v_gate := null;
      v_refusal := '{"verdict": "none"}';
      continue;
    end if;
    select a.number, a.tries, a.outcome, a.checkpoint
    into v_last
    from unstuck.attempts a
    where a.watch = 'tasks'
      and a.task_id = v_task.id
    order by a.number desc
    limit 1;
    exit when v_last.number is null or v_last.outcome is not null;
    if v_named then  -- somebody put a held task back; its attempt ends first
      return jsonb_build_object(
        'verdict', 'held',
        'task_id', v_task.id,
        'kind', v_task.kind,
        'state', 'pending',
        'retry_after', 1
      );
    end if;
    v_gate := null;
    v_held := v_held || v_task.key;
  end loop;

  -- A crash of the database may forget the claim of a task that may be repeated: then it is still
  -- pending, and nobody knows the token. So this commit does not wait for the disk, which takes
  -- longer than all the rest. The settle waits, and for both.
  if v_alone
    and v_gate ->> 'rescued' is null
    and unstuck.rule_value(p_rules, v_task.kind, 'on_lost') = 'retry'
  then
    v_pass := set_config('synchronous_commit', 'off', true);
  end if;
  insert into unstuck.attempts (
    watch, task_id, number, tries, kind, token, worker,
    started_at, beat_at, lease, lease_until, deadline_at, trace, checkpoint
  )
  select
    'tasks',
    v_task.id,
    coalesce(v_last.number, 0) + 1,
    case
      -- its table may have counted tries outside the guard
      when v_last.number is null then greatest(1, v_task.counted + 1)
      -- it had ended: a person started it again
      when v_last.outcome in ('completed', 'failed', 'cancelled') then 1
      when v_last.outcome = 'released' then greatest(v_last.tries, 1)
      else v_last.tries + 1
    end,
    v_task.kind, p_token, p_worker,
    v_now, v_now, r.lease, v_now + r.lease, v_now + r.lease + r.run_for,
    substring(p_trace from '^[0-9a-f]{32}$'),
    -- checkpoints as an older release wrote them: all in one value
    case when v_last.outcome in ('retried', 'released', 'overtaken') then v_last.checkpoint
    else '{}' end
  from (
    select
      unstuck.rule_seconds(p_rules, v_task.kind, 'lease') as lease,
      unstuck.rule_seconds(p_rules, v_task.kind, 'run_for') as run_for
  ) r
  returning number, tries, checkpoint
  into v_attempt;
  if false then
    v_pass := set_config('unstuck.override', 'tasks' || '/' || pg_trigger_depth(), true);
  end if;
  update "public"."tasks" t
  set "status" = 'processing', "started_at" = v_now, "updated_at" = v_now
  where t."id" = v_task.key;
  if false then
    v_pass := set_config('unstuck.override', '', true);
  end if;
  if v_gate is not null then
    perform unstuck.tasks_pass(v_gate, v_task.id, v_attempt.number);
  end if;
  v_checkpoint := v_attempt.checkpoint;
  if v_last.outcome in ('retried', 'released', 'overtaken') then
    v_checkpoint := v_checkpoint || unstuck.saved('tasks', v_task.id, v_last.number);
  end if;

  return jsonb_build_object(
    'verdict', 'claimed',
    'task_id', v_task.id,
    'kind', v_task.kind,
    'state', 'running',
    'token', p_token,
    'number', v_attempt.number,
    'tries', v_attempt.tries,
    'input', v_task.input,
    'rescued', v_gate -> 'rescued',
    'checkpoint', v_checkpoint
  );
end $$;

-- Whether a given task that `claim` has locked may start now: the gate through which it goes; or
-- the answer, which says why not. A task that is overdue is rescued, and may start.
create or replace function unstuck.tasks_admit(
  p_task text,
  p_kind text,
  p_owner text,
  p_ready boolean,
  p_kinds text[],
  p_rules jsonb,
  p_now timestamptz
) returns jsonb language plpgsql set jit = off as $$
declare
  v_answer  jsonb;
  v_rescued jsonb;
begin
  if not p_ready then
    v_answer := unstuck.tasks_unready(p_task, p_rules, p_now);
    if v_answer ->> 'verdict' <> 'rescued' then
      return v_answer;
    end if;
    v_rescued := v_answer -> 'rescued';
  end if;
  if p_kind <> all (p_kinds) then  -- the caller cannot do it
    v_answer := '{"verdict": "elsewhere"}';
  else
    v_answer := unstuck.tasks_gate(p_kind, p_owner, p_rules);
  end if;
  if v_answer ? 'verdict' then
    v_answer := v_answer || jsonb_build_object(
      'task_id', p_task,
      'kind', p_kind,
      'state', 'pending'
    );
  end if;
  return v_answer || jsonb_build_object('rescued', v_rescued);
end $$;

-- Locks the next task, kind by kind, in the order of what is next of each: a search over all
-- pending tasks would walk past those of the other kinds. Returns its key and the gate through
-- which it goes; or the refusal after which to ask again the soonest, or null.
create or replace function unstuck.tasks_choose(
  p_kinds text[],
  p_held uuid[],
  p_now timestamptz,
  p_rules jsonb
) returns jsonb language plpgsql set jit = off as $$
declare
  v_still   constant interval := unstuck.stood_still('tasks', null, p_rules);
  v_limited constant boolean := p_rules -> '*' ? 'some_limited';
  v_next    record;
  v_owner   text;
  v_key     uuid;
  v_gate    jsonb;
  v_slots   jsonb;
  v_refusal jsonb;
begin
  for v_next in
    select
      k.kind,
      k.aged,
      v_limited and unstuck.rule_value(p_rules, k.kind, 'limited') is not null
        or exists (
          select from unstuck.pauses p where p.watch = 'tasks' and p.ended_at is null
        ) as gated
    from (
      select
        w.kind,
        case
          when v_still is null then p_now
          else p_now - coalesce(unstuck.stood_still('tasks', w.kind, p_rules), '0')
        end as aged
      from unnest(coalesce(p_kinds, unstuck.tasks_waiting_kinds())) as w (kind)
      offset 0
    ) k
    cross join lateral (
      select t.*
      from "public"."tasks" t
      where t."status" = 'pending'
        and t."scheduled_at" <= p_now
        and t."scheduled_at" > k.aged - unstuck.pending_at_most(p_rules, k.kind)
        and t."kind" = k.kind
        and t."id" <> all (p_held)
      order by t."priority" desc, coalesce(t.turn, t."scheduled_at")
      limit 1
    ) h
    order by h."priority" desc, coalesce(h.turn, h."scheduled_at")
  loop
    v_gate := '{}';
    if v_next.gated then
      v_gate := unstuck.tasks_gate(v_next.kind, null, p_rules);
      if v_gate ? 'verdict' then
        v_refusal := unstuck.sooner(v_refusal, v_gate);
        continue;
      end if;
    end if;
    if v_next.gated and unstuck.limits_owners(p_rules, v_next.kind) then
      -- Owner by owner, for the same reason: one who is at the limit may have a million.
      for v_owner in
        select o.owner from unstuck.tasks_waiting_owners(v_next.kind, p_now) o
      loop
        v_slots := unstuck.slots_for('tasks', p_rules, v_next.kind, nullif(v_owner, ''), true);
        if v_slots ? 'full' then
          v_refusal := unstuck.sooner(v_refusal, v_slots || '{"verdict": "limited"}');
          continue;
        end if;
        select t."id"
        into v_key
        from "public"."tasks" t
        where t."status" = 'pending'
          and t."scheduled_at" <= p_now
          and t."scheduled_at" > v_next.aged - unstuck.pending_at_most(p_rules, v_next.kind)
          and t."kind" = v_next.kind
          and coalesce(t."owner", '') = v_owner
          and t."id" <> all (p_held)
        order by t."priority" desc, coalesce(t.turn, t."scheduled_at")
        limit 1
        for update skip locked;
        if found then
          v_slots := v_gate -> 'slots' || v_slots;
          return v_gate || jsonb_build_object('key', v_key, 'slots', v_slots);
        end if;
      end loop;
      continue;
    end if;
    select t."id"
    into v_key
    from "public"."tasks" t
    where t."status" = 'pending'
      and t."scheduled_at" <= p_now
      and t."scheduled_at" > v_next.aged - unstuck.pending_at_most(p_rules, v_next.kind)
      and t."kind" = v_next.kind
      and t."id" <> all (p_held)
    order by t."priority" desc, coalesce(t.turn, t."scheduled_at")
    limit 1
    for update skip locked;
    if found then
      return v_gate || jsonb_build_object('key', v_key);
    end if;
  end loop;
  return v_refusal;
end $$;

-- Tells the slots, and the pause that lets one task through, which attempt has come through.
create or replace function unstuck.tasks_pass(p_gate jsonb, p_task text, p_number integer)
returns void language plpgsql as $$
begin
  if p_gate -> 'slots' <> '{}' then
    perform unstuck.fill_slots('tasks', p_gate -> 'slots', p_task, p_number);
  end if;
  if p_gate ->> 'probe' is not null then
    update unstuck.pauses p
    set probe = p_task,
        probe_number = p_number
    where p.id = (p_gate ->> 'probe')::bigint;
  end if;
end $$;

-- Whether a task of a kind may start now: the slots that it gets, those of its owner too where one
-- is given; or verdict paused or limited, with the seconds after which to ask again.
create or replace function unstuck.tasks_gate(p_kind text, p_owner text, p_rules jsonb)
returns jsonb language plpgsql as $$
declare
  v_closed jsonb;
  v_slots  jsonb := '{}';
  v_more   jsonb;
begin
  if exists (select from unstuck.pauses p where p.watch = 'tasks' and p.ended_at is null) then
    v_closed := unstuck.closed('tasks', p_kind, p_rules);
    if (v_closed -> 'closed')::boolean then
      return v_closed || '{"verdict": "paused"}';
    end if;
  end if;
  if p_rules -> '*' ? 'some_limited' then
    v_slots := unstuck.slots_for('tasks', p_rules, p_kind, p_owner, false);
    if not v_slots ? 'full' and p_owner is not null then
      v_more := unstuck.slots_for('tasks', p_rules, p_kind, p_owner, true);
      v_slots := v_slots || v_more;
    end if;
    if v_slots ? 'full' then
      return v_slots || '{"verdict": "limited"}';
    end if;
  end if;
  return jsonb_build_object('slots', v_slots, 'probe', v_closed -> 'probe');
end $$;

-- The oldest of the tasks that wait for longer than `ageing` behind a more urgent one; null where
-- none does. Looks at the oldest 100.
create or replace function unstuck.tasks_starved(
  p_kinds text[],
  p_now timestamptz,
  p_rules jsonb
) returns uuid language plpgsql stable
set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off as $$
begin
  return (
    select t."id"
    from (
      select t.*
      from "public"."tasks" t
      where t."status" = 'pending'
        and t."scheduled_at" <= p_now - unstuck.rule_seconds(p_rules, '*', 'ageing')
      order by t."scheduled_at"
      limit 100
    ) t
    cross join (
      select h.*
      from "public"."tasks" h
      where h."status" = 'pending'
      order by h."priority" desc, coalesce(h.turn, h."scheduled_at")
      limit 1
    ) h
    where t."priority" < h."priority"
      and (t."scheduled_at" > p_now) is not true
      and t."scheduled_at" > p_now - unstuck.pending_at_most(p_rules, t."kind")
      and (p_kinds is null or t."kind" = any (p_kinds))
    order by t."scheduled_at"
    limit 1
  );
end $$;

-- The kinds that wait, at most 500: each is found by the index that a claim by kind needs.
create or replace function unstuck.tasks_waiting_kinds() returns text[]
language plpgsql stable as $$
begin
  return (
    with recursive waiting as (
      (
        select t."kind" as kind
        from "public"."tasks" t
        where t."status" = 'pending'
        order by t."kind"
        limit 1
      )
      union all
      (
        select (
          select t."kind"
          from "public"."tasks" t
          where t."status" = 'pending' and t."kind" > w.kind
          order by t."kind"
          limit 1
        )
        from waiting w
        where w.kind is not null
      )
    )
    select coalesce(array_agg(l.kind), '{}')
    from (select w.kind from waiting w where w.kind is not null limit 500) l
  );
end $$;

-- The owners of the tasks of a kind that may start, at most 1,000, in the order of what is next of
-- each; '' for those without an owner. In our own table each is found by an index.
create or replace function unstuck.tasks_waiting_owners(p_kind text, p_now timestamptz)
returns table (owner text) language plpgsql stable as $$
#variable_conflict use_column
begin
  if not true then
    return query
      select coalesce(h."owner", '')
      from (
        select distinct on (coalesce(t."owner", '')) t.*
        from "public"."tasks" t
        where t."status" = 'pending'
          and t."scheduled_at" <= p_now
          and t."kind" = p_kind
        order by coalesce(t."owner", ''), t."priority" desc, coalesce(t.turn, t."scheduled_at")
      ) h
      order by h."priority" desc, coalesce(h.turn, h."scheduled_at")
      limit 1000;
    return;
  end if;
  return query
    with recursive waiting as (
      (
        select coalesce(t."owner", '') as owner
        from "public"."tasks" t
        where t."status" = 'pending' and t."kind" = p_kind
        order by coalesce(t."owner", '')
        limit 1
      )
      union all
      (
        select (
          select coalesce(t."owner", '')
          from "public"."tasks" t
          where t."status" = 'pending' and t."kind" = p_kind and coalesce(t."owner", '') > w.owner
          order by coalesce(t."owner", '')
          limit 1
        )
        from waiting w
        where w.owner is not null
      )
    )
    select l.owner
    from (select w.owner from waiting w where w.owner is not null limit 1000) l
    cross join lateral (
      select t.*
      from "public"."tasks" t
      where t."status" = 'pending'
        and t."scheduled_at" <= p_now
        and t."kind" = p_kind
        and coalesce(t."owner", '') = l.owner
      order by t."priority" desc, coalesce(t.turn, t."scheduled_at")
      limit 1
    ) h
    order by h."priority" desc, coalesce(h.turn, h."scheduled_at");
end $$;

-- The answer of an earlier claim with the same token, or null.
create or replace function unstuck.tasks_claimed(p_task text, p_token uuid) returns jsonb
language plpgsql as $$
begin
  -- that call may still run
  perform 1 from "public"."tasks" t where t."id" = p_task::uuid for update;
  return (
    select jsonb_build_object(
      'verdict', 'claimed',
      'task_id', a.task_id,
      'kind', a.kind,
      'state', 'running',
      'token', a.token,
      'number', a.number,
      'tries', a.tries,
      'input', t."input",
      'rescued', null,
      'checkpoint', a.checkpoint || unstuck.saved('tasks', a.task_id, a.number)
    )
    from unstuck.attempts a
    join "public"."tasks" t on t."id" = a.task_id::uuid
    where a.watch = 'tasks'
      and a.ended_at is null
      and a.token = p_token
  );
end $$;

-- Why a given task that `claim` has locked cannot be claimed: missing, early, held, resting or
-- ended. Where its attempt is overdue the task is rescued, and may then be taken at once; a live
-- attempt is left alone. A waiting task whose user asked to stop it is cancelled.
create or replace function unstuck.tasks_unready(
  p_task text,
  p_rules jsonb,
  p_now timestamptz
) returns jsonb language plpgsql as $$
declare
  v_task    record;
  v_rescued json;
begin
  select
    t."id"::text as id,
    case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end as state,
    t."kind" as kind,
    t."scheduled_at" as due,
    false as stopping
  into v_task
  from "public"."tasks" t
  where t."id" = p_task::uuid;
  if not found then
    return '{"verdict": "missing"}';
  end if;
  if v_task.state = 'pending' and v_task.stopping then
    v_rescued := unstuck.tasks_sweep(p_rules, 1, null, p_task) -> 'rescued';
    select case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end
    into v_task.state
    from "public"."tasks" t
    where t."id" = p_task::uuid;
  end if;
  if v_task.state = 'pending' then
    return jsonb_build_object(
      'verdict', 'early',
      'task_id', v_task.id,
      'kind', v_task.kind,
      'state', 'pending',
      'retry_after', coalesce(extract(epoch from unstuck.finite(v_task.due) - p_now), 86400)
    );
  end if;
  if v_task.state = 'running' then
    v_rescued := unstuck.tasks_sweep(p_rules, 1, null, p_task) -> 'rescued';
    select case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end
    into v_task.state
    from "public"."tasks" t
    where t."id" = p_task::uuid;
    -- rows that are born running and that nobody holds are as good as pending
    if false and v_task.state = 'running' and not exists (
      select from unstuck.attempts a
      where a.watch = 'tasks' and a.task_id = v_task.id and a.ended_at is null
    ) then
      v_task.state := 'pending';
    end if;
  end if;
  return jsonb_build_object(
    'task_id', v_task.id,
    'kind', v_task.kind,
    'state', v_task.state,
    'rescued', v_rescued,
    'verdict', case v_task.state
      when 'pending' then 'rescued'
      when 'running' then 'held'
      when 'resting' then 'resting'
      else 'ended'
    end,
    'retry_after', (
      select greatest(1, extract(
        epoch from unstuck.lives_until(a, (select unstuck.ready_after())) - p_now
      ))
      from unstuck.attempts a
      where a.watch = 'tasks'
        and a.task_id = v_task.id
        and a.ended_at is null
    )
  );
end $$;

-- settle: ends an attempt and moves its task, together or not at all. Safe to repeat: the token is
-- the key. `p_outcome` is what the worker asks for:
--   complete, fail
--   retry    counts against the attempts
--   release  does not, since the worker was shut down
--   return   the handler had not begun, so that nothing is uncertain. Counts unless the worker was
--            shut down, has no such handler, or could not import it
-- `p_reason` is why, in a code; `p_delay` is the wait before the next attempt, in seconds.
-- Names between at signs stand for what differs by table: see functions/install/render.py.
create or replace function unstuck.tasks_settle(
  p_task text,
  p_token uuid,
  p_outcome text,
  p_rules jsonb,
  p_result jsonb default null,
  p_reason text default null,
  p_error text default null,
  p_detail text default null,
  p_delay double precision default null
) returns jsonb language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  -- A table without a pending status cannot take a task back, so there a release counts as a try:
  -- a task that ends its worker each time would live for ever.
  v_free_releases constant integer := case when false then 0 else 10 end;
  v_attempt record;
  v_rule    jsonb;
  v_state   text := case p_outcome
    when 'complete' then 'completed'
    when 'fail' then 'failed'
    when 'retry' then 'pending'
    when 'release' then 'pending'
    when 'return' then 'pending'
  end;
  v_cause   text := coalesce(p_reason, case p_outcome when 'release' then 'shutdown' end);
  v_free    boolean;
  v_outcome text := v_state;
  v_reason  text := p_reason;
  v_error   text := p_error;
  v_retry_at timestamptz;
  v_pass    text;
  v_callback text;
begin
  null;
  if v_state is null then
    raise exception 'unknown outcome: %', p_outcome using errcode = 'invalid_parameter_value';
  end if;
  if v_state <> 'completed' then
    select a.kind, a.tries
    into v_attempt
    from unstuck.attempts a
    where a.watch = 'tasks'
      and a.task_id = p_task
      and a.token = p_token
      and a.ended_at is null
    for update;
    if v_state = 'pending' and exists (  -- its user asked to stop it
      select from "public"."tasks" t where t."id" = p_task::uuid and false
    ) then
      v_state := 'cancelled';
      v_outcome := v_state;
      v_reason := v_state;
    elsif v_state = 'pending' then
      v_rule := unstuck.rule_of_row(
        unstuck.rule(p_rules, v_attempt.kind),
        (select null::integer from "public"."tasks" t where t."id" = p_task::uuid)
      );
      -- The handler had not begun: even work that must not be done twice may be tried again.
      if p_outcome = 'return' and v_rule ->> 'on_lost' = 'uncertain' then
        v_rule := v_rule || '{"on_lost": "retry"}';
      end if;
      -- Whether the attempt counts for nothing.
      v_free := case p_outcome
        when 'release' then v_rule ->> 'on_lost' = 'retry'
        else p_outcome = 'return' and p_reason in ('shutdown', 'no_handler', 'transient')
      end;
      if v_free and v_free_releases > (
        select count(*) filter (where a.outcome = 'released' and a.number > coalesce(e.number, 0))
        from unstuck.attempts a, (
          select max(number) as number  -- the last end: a task that was put back begins anew
          from unstuck.attempts
          where watch = 'tasks'
            and task_id = p_task
            and outcome in ('completed', 'failed', 'cancelled')
        ) e
        where a.watch = 'tasks'
          and a.task_id = p_task
      ) then
        v_outcome := 'released';
        v_retry_at := v_now + make_interval(secs => coalesce(p_delay, 0));
      else
        v_state := unstuck.next_state(v_rule, v_cause, v_attempt.tries);
        v_outcome := case v_state when 'pending' then 'retried' else v_state end;
        v_reason := unstuck.next_reason(v_rule, v_cause, v_attempt.tries);
        v_retry_at := case v_state when 'pending' then v_now + coalesce(
          make_interval(secs => p_delay),
          unstuck.backoff(v_rule, v_attempt.tries)
        ) end;
      end if;
    end if;
    v_error := coalesce(p_error, unstuck.sentence(v_reason, p_reason, v_attempt.tries));
  end if;

  update unstuck.attempts a
  set ended_at = v_now,
      outcome = v_outcome,
      reason = v_reason,
      cause = p_reason,
      error = v_error,
      detail = p_detail,
      retry_at = v_retry_at
  where a.watch = 'tasks'
    and a.task_id = p_task
    and a.token = p_token
    and a.ended_at is null
  returning a.number, a.tries, a.kind, a.started_at into v_attempt;
  if not found then
    return unstuck.tasks_refuse(p_task, p_token, p_outcome);
  end if;
  if v_cause = 'transient' and v_rule ? 'breaker_failures' then
    perform unstuck.trip('tasks', v_attempt.kind, v_rule);
  end if;
  -- the fence lets this statement pass
  v_pass := set_config('unstuck.override', 'tasks' || '/' || pg_trigger_depth(), true);
  -- coalesce() keeps the planner from the partial index on running rows: the primary key is faster.
  if v_state = 'completed' then  -- apart: with a constant state the planner drops the cases
    update "public"."tasks" t
    set "status" = case x.state when 'pending' then 'pending' when 'completed' then 'completed' when 'cancelled' then 'cancelled' else 'failed' end,
    "error_message" = case x.state when 'failed' then x.error end,
    "reason" = case x.state when 'failed' then x.reason end,
    "result" = case x.state when 'completed' then x.result else t."result" end,
    "scheduled_at" = coalesce(x.retry_at, t."scheduled_at"),
    "turn" = case when x.state = 'pending' and t."status" in ('completed', 'failed', 'cancelled') then null else t.turn end,
    "finished_at" = case when x.state <> 'pending' then clock_timestamp() end,
    "updated_at" = clock_timestamp()
    from (
      select
        'completed' as state,
        p_result as result,
        v_reason as reason,
        v_error as error,
        v_retry_at as retry_at
    ) x
    where t."id" = p_task::uuid
      and coalesce(t."status" = 'processing', false)
    returning t."callback_url" into v_callback;
  else
    update "public"."tasks" t
    set "status" = case x.state when 'pending' then 'pending' when 'completed' then 'completed' when 'cancelled' then 'cancelled' else 'failed' end,
    "error_message" = case x.state when 'failed' then x.error end,
    "reason" = case x.state when 'failed' then x.reason end,
    "result" = case x.state when 'completed' then x.result else t."result" end,
    "scheduled_at" = coalesce(x.retry_at, t."scheduled_at"),
    "turn" = case when x.state = 'pending' and t."status" in ('completed', 'failed', 'cancelled') then null else t.turn end,
    "finished_at" = case when x.state <> 'pending' then clock_timestamp() end,
    "updated_at" = clock_timestamp()
    from (
      select
        v_state as state,
        null::jsonb as result,
        v_reason as reason,
        v_error as error,
        v_retry_at as retry_at
    ) x
    where t."id" = p_task::uuid
      and coalesce(t."status" = 'processing', false)
    returning t."callback_url" into v_callback;
  end if;
  v_pass := set_config('unstuck.override', '', true);
  if not found then  -- moved without the guard: the task is theirs, the attempt ends
    update unstuck.attempts a
    set outcome = 'overtaken'
    where a.watch = 'tasks'
      and a.task_id = p_task
      and a.number = v_attempt.number;
    return unstuck.tasks_refuse(p_task, p_token, p_outcome);
  end if;
  if v_state = 'completed' then
    null;
  elsif v_state = 'failed' then
    null;
  end if;
  if v_callback is not null or v_outcome in ('failed') then
    perform unstuck.tasks_tell(array[p_task], array[v_attempt.number]);
  end if;
  return jsonb_build_object(
    'verdict', 'settled',
    'state', v_state,
    'reason', v_reason,
    'error', v_error,
    'number', v_attempt.number,
    'tries', v_attempt.tries,
    'kind', v_attempt.kind,
    'took', extract(epoch from v_now - v_attempt.started_at),
    'retry_after', extract(epoch from v_retry_at - v_now)
  );
end $$;

-- The answer to a settle whose attempt is not live: it was settled so before (`repeat`), or the
-- attempt is lost. A lost one is recorded.
create or replace function unstuck.tasks_refuse(p_task text, p_token uuid, p_outcome text)
returns jsonb language plpgsql as $$
declare
  v_attempt record;
begin
  select
    a.outcome, a.reason, a.error, a.number, a.tries, a.kind, a.sweep_id,
    a.ended_at - a.started_at as took
  into v_attempt
  from unstuck.attempts a
  where a.watch = 'tasks'
    and a.task_id = p_task
    and a.token = p_token;
  if v_attempt.sweep_id is null
    and v_attempt.outcome is not null
    and (p_outcome, v_attempt.outcome) in (
      ('complete', 'completed'),
      ('fail', 'failed'),
      ('retry', 'retried'),
      ('retry', 'failed'),
      ('release', 'released'),
      ('release', 'retried'),
      ('release', 'failed'),
      ('return', 'released'),
      ('return', 'retried'),
      ('return', 'failed')
    )
  then
    return jsonb_build_object(
      'verdict', 'settled',
      'repeat', true,
      'reason', v_attempt.reason,
      'error', v_attempt.error,
      'number', v_attempt.number,
      'tries', v_attempt.tries,
      'kind', v_attempt.kind,
      'took', extract(epoch from v_attempt.took),
      'retry_after', 0,
      'state', case
        when v_attempt.outcome in ('retried', 'released') then 'pending'
        else v_attempt.outcome
      end
    );
  end if;
  return unstuck.lost('tasks', p_task, p_token, p_outcome);
end $$;

-- sweep: settles what is overdue, one batch for each call. Two sweeps at once are harmless: each
-- skips the rows that the other has locked.
--   overdue  finds and locks the rows, and decides; writes nothing. Each search is in the order of
--            its index: without an order the limit makes a scan of the whole table look cheap to
--            the planner, and each batch would do one. What no index knows is asked in a CASE,
--            which the planner takes to be true of half of the rows: it took other conditions to
--            be true of one row, and each batch read and sorted all that was overdue
--   apply    writes the decisions, guarded again by status
--   sweep    does both; where the batch fails it goes row by row, so that one bad row never stops
--            the others, whether it is wrong, locked or slow
-- No sequential scans in overdue and apply: a plan that was made while a table was small would be
-- kept while it grows (30 times slower seen). And no JIT: up to PostgreSQL 17 a plan that cannot do
-- without such a scan is taken to be so dear that each run of it is compiled (105 to 434 ms of CPU
-- for a batch of 500, and 23 to 32 without).
-- Names between at signs stand for what differs by table: see functions/install/render.py.

-- What workers did last, by kind, and in '*' of all kinds: `held`, when one last held a task;
-- `claimed`, when one last claimed one; `front`, where they are in the queue: half of the claims
-- were of tasks that were queued later. Attempts that a sweep ended do not count. Looks back by the
-- longest time that rule `p_name` has, over at most 5,000 ended attempts; `front` is by a sample of
-- about 100 claims of a kind, since each costs a search for its task. Empty where no task waits for
-- so long: then nobody needs it.
create or replace function unstuck.tasks_turns(
  p_now timestamptz,
  p_rules jsonb,
  p_name text
) returns jsonb language plpgsql stable
set enable_seqscan = off set jit = off
set enable_hashjoin = on
set max_parallel_workers_per_gather = 0
set plan_cache_mode = force_generic_plan as $$
declare
  v_window constant interval := (
    select make_interval(secs => max((value ->> p_name)::float8)) from jsonb_each(p_rules)
  );
  v_longest constant timestamptz := p_now - unstuck.shortest(p_rules, p_name);
begin
  -- In the order of its index, which an EXISTS ignores: with another one it walks past all that
  -- waited since the last vacuum.
  if (
    select true
    from "public"."tasks" t
    where t."status" = 'pending' and t."scheduled_at" <= v_longest
    order by t."scheduled_at"
    limit 1
  ) is null then
    return '{}';
  end if;
  return unstuck.with_pauses('tasks', p_now, p_rules, coalesce((
    with claims as materialized (
      (
        select
          a.kind,
          case
            when unstuck.lives_until(a, (select unstuck.ready_after())) > p_now then p_now
            else a.beat_at
          end as held,
          a.started_at,
          a.task_id
        from unstuck.attempts a
        where a.watch = 'tasks' and a.ended_at is null
      )
      union all
      (
        select
          a.kind,
          a.ended_at,
          a.started_at,
          a.task_id
        from unstuck.attempts a
        where a.watch = 'tasks'
          and coalesce(a.ended_at, 'infinity') > p_now - v_window
          and a.ended_at is not null
          and a.worker is not null
          and a.sweep_id is null
        order by coalesce(a.ended_at, 'infinity') desc  -- its index
        limit 5000
      )
    ), kinds as materialized (
      select c.kind, max(c.held) as held, max(c.started_at) as claimed, count(*) as claims
      from claims c
      group by c.kind
    ), total as materialized (
      select max(k.held) as held, max(k.claimed) as claimed, sum(k.claims)::float8 as claims
      from kinds k
    ), sample as materialized (
      select d.kind, d.is_of_all, q.queued
      from (
        select
          c.kind,
          c.task_id,
          k.claims * unstuck.draw(c.task_id) < 100 as is_of_kind,
          n.claims * unstuck.draw(c.task_id) < 100 as is_of_all
        from claims c
        join kinds k on k.kind = c.kind
        cross join total n
      ) d
      cross join lateral (
        select t."scheduled_at" as queued
        from "public"."tasks" t
        where t."id" = d.task_id::uuid
        limit 1  -- each by its key: the planner would read the whole table to join it
      ) q
      where d.is_of_kind
    )
    select jsonb_object_agg(k.kind, jsonb_build_object(
      'held', k.held, 'claimed', k.claimed, 'front', f.front
    ))
    from (
      select k.kind, k.held, k.claimed from kinds k
      union all
      select '*', n.held, n.claimed from total n
    ) k
    left join (
      select s.kind, percentile_disc(0.5) within group (order by s.queued) as front
      from (
        select s.kind, s.queued from sample s
        union all
        select '*', s.queued from sample s where s.is_of_all
      ) s
      group by s.kind
    ) f on f.kind = k.kind
    where k.held is not null
  ), '{}'));
end $$;

-- What is overdue now, and the decision about each task. `p_task`: only that one; null: all.
create or replace function unstuck.tasks_overdue(
  p_now timestamptz,
  p_rules jsonb,
  p_limit integer,
  p_task text,
  p_skip text[]
) returns unstuck.overdue[]
language plpgsql set plan_cache_mode = auto  -- whatever a claim has set, and until the end
set enable_seqscan = off set jit = off
set enable_memoize = off as $$  -- each task is asked for once
declare
  v_rules   constant jsonb := unstuck.complete_rules(p_rules);
  v_pushes  constant boolean := coalesce((p_rules -> '*' ->> 'pushes')::boolean, false);
  v_sent    constant boolean := exists (
    select from unstuck.dispatches p where p.watch = 'tasks'
  );
  v_jump    record;
  v_turns   jsonb;
  v_before  timestamptz;
  v_kinds   text[];  -- that have a rule or were worked on, '' for all others; in this order:
  v_for     interval[];  -- how long they may wait,
  v_most    interval[];  -- whatever goes on,
  v_again   interval[];  -- when a push was sent again,
  v_held    timestamptz[];  -- and when a worker last held one of them
  v_all     record;
  v_lost    unstuck.overdue[];
  v_asked   unstuck.overdue[];
  v_waiting unstuck.overdue[];
  v_silent  unstuck.overdue[];
begin
  -- To plan the searches of all overdue tasks anew in each run took four times as long as to run
  -- them. The search for one task is planned for its key.
  if p_task is null then
    perform set_config('plan_cache_mode', 'force_generic_plan', true);
  end if;
  select * into v_jump from unstuck.last_jump();
  -- Attempts whose lease or deadline has passed. Live attempts are few: all are read. Where
  -- somebody else moved the task (overtaken), the attempt ends and the task is theirs.
  select array_agg(unstuck.decided(
    d.task_id, d.kind, true, d.number, d.tries, d.worker, d.rule, d.cause, d.held,
    p_now - unstuck.finite(d.until)
  ))
  into v_lost
  from (
    select
      a.task_id,
      a.kind,
      a.number,
      a.tries,
      a.worker,
      unstuck.rule_of_row(coalesce(v_rules -> a.kind, v_rules -> '*'), null::integer) as rule,
      t."status" = 'processing' as held,
      case
        when false then 'cancelled'
        when a.deadline_at <= p_now then 'deadline'
        else 'lease_lost'
      end as cause,
      unstuck.lives_until(a, (select unstuck.ready_after())) as until
    from unstuck.attempts a
    join "public"."tasks" t on t."id" = a.task_id::uuid
    where a.watch = 'tasks'
      and a.ended_at is null
      and least(a.lease_until, a.deadline_at) <= p_now
      and unstuck.lives_until(a, (select unstuck.ready_after())) <= p_now
      and (p_task is null or a.task_id = p_task)
      and a.task_id <> all (p_skip)
    order by a.task_id
    limit p_limit
    for update of a, t skip locked
  ) d;
  p_limit := p_limit - coalesce(cardinality(v_lost), 0);

  -- Waiting, or waited, although its user asked to stop it. Of all that wait the oldest are read.
  if false and p_limit > 0 then
    select array_agg(unstuck.withdrawn(d.task_id, d.kind, l.number, l.tries, d.was))
    into v_asked
    from (
      select
        t."id"::text as task_id,
        t."kind" as kind,
        case when t."status" = 'pending' then 'pending' else 'running' end as was
      from "public"."tasks" t
      where false
        and case
          when p_task is null then t."id" in (select q."id" from (select w.* from "public"."tasks" w where w."status" = 'pending' order by w."scheduled_at" limit 20000) q where false)
          else t."id" = p_task::uuid
        end
        and not exists (
          select from unstuck.attempts a
          where a.watch = 'tasks' and a.task_id = t."id"::text and a.ended_at is null
        )
        and t."id"::text <> all (p_skip)
      limit p_limit
      for update skip locked
    ) d
    left join lateral unstuck.last_attempt('tasks', d.task_id) l on true;
    p_limit := p_limit - coalesce(cardinality(v_asked), 0);
  end if;

  if p_limit > 0 then
    -- Pending for longer than the rule, and not waiting for its turn. Where workers are pushed to,
    -- not before its push was sent again; and not where that was only just now, for the first time
    -- or after the rule's time was over.
    v_turns := coalesce(
      nullif(current_setting('unstuck.turns', true), '')::jsonb,  -- of `batch`
      unstuck.tasks_turns(p_now, p_rules, 'pending_for')
    );
    v_before := unstuck.overdue_before(p_now, p_rules, v_turns);
    -- what JSON says is read once, not for each row
    select
      array_agg(k.kind),
      array_agg(unstuck.rule_seconds(p_rules, k.kind, 'pending_for')),
      array_agg(unstuck.pending_at_most(p_rules, k.kind)),
      array_agg(unstuck.rule_seconds(p_rules, k.kind, 'redispatch_after')),
      array_agg((v_turns -> k.kind ->> 'held')::timestamptz)
    into v_kinds, v_for, v_most, v_again, v_held
    from (
      select n.kind
      from (select jsonb_object_keys(p_rules || v_turns) as kind union select '') n
      where n.kind <> '*'
      order by n.kind <> ''
    ) k;
    select
      (v_turns -> '*' ->> 'held')::timestamptz as held,
      (v_turns -> '*' ->> 'front')::timestamptz as front,
      v_turns -> '*' -> 'pauses' as pauses
    into v_all;
    select array_agg(unstuck.unclaimed(
      d.task_id, d.kind, d.number, d.tries, d.had_turns, p_now - unstuck.finite(d.until)
    ))
    into v_waiting
    from (
      select
        q.task_id,
        t."kind" as kind,
        l.number,
        l.tries,
        c.until,
        c.until = q.at + v_most[q.kind_number] and c.until > q.at + v_for[q.kind_number]
          as had_turns
      from "public"."tasks" t
      cross join lateral (
        select
          t."id"::text as task_id,
          coalesce(array_position(v_kinds, t."kind"), 1) as kind_number,
          t."scheduled_at" + case when t."scheduled_at" < v_jump.at then v_jump.ahead else '0' end as at
        offset 0  -- computed once
      ) q
      cross join lateral (
        select unstuck.waits_until(
          q.at,
          case
            when v_all.pauses is not null then unstuck.paused_time(
              t."kind", least(q.at, '9999-12-31'), statement_timestamp(), v_all.pauses
            )
            else '0'
          end,
          v_for[q.kind_number],
          v_most[q.kind_number],
          v_held[q.kind_number],
          v_all.held,
          v_all.front
        ) as until
        offset 0
      ) c
      left join lateral (
        select p.at, p.times
        from unstuck.dispatches p
        where v_sent and p.watch = 'tasks' and p.task_id = q.task_id
        offset 0  -- asked by its key: what was small when the plan was made may grow
      ) p on true
      left join lateral (
        select a.number, a.tries, a.ended_at
        from unstuck.attempts a
        where a.watch = 'tasks' and a.task_id = q.task_id
        order by a.number desc
        limit 1
      ) l on true
      where t."status" = 'pending'
        and t."scheduled_at" <= v_before
        and case when p_task is null then true else t."id" = p_task::uuid end
        and case when q.task_id <> all (p_skip)
          and c.until <= p_now
          -- A poll ends it all the same: it may be the only path to an end while no scheduler runs.
          and (not v_pushes or p_task is not null or p.at >= t."scheduled_at")
          and (
            (p.times = 1 or p.at >= c.until) and p.at > p_now - v_again[q.kind_number]
          ) is not true
          and (l.number is null or l.ended_at is not null)
        then true end
      order by t."scheduled_at"
      limit p_limit
      for update of t skip locked
    ) d;
    p_limit := p_limit - coalesce(cardinality(v_waiting), 0);

    -- Running without a live attempt: a worker that does not use the guard. Judged by the clocks of
    -- the table.
    select array_agg(unstuck.decided(
      d.task_id,
      d.kind,
      false,
      coalesce(l.number, 0) + 1,
      unstuck.lost_try(l.outcome, l.tries, d.counted),
      null,
      d.rule,
      d.cause,
      true,
      p_now - unstuck.finite(d.until)
    ))
    into v_silent
    from (
      select
        t."id"::text as task_id,
        t."kind" as kind,
        unstuck.rule_at_age(
          unstuck.rule_of_row(coalesce(v_rules -> t."kind", v_rules -> '*'), null::integer),
          t."updated_at",
          p_now
        ) as rule,
        null::integer as counted,
        case when false then 'cancelled' else 'stale' end as cause,
        t."updated_at" + unstuck.rule_seconds(p_rules, t."kind", 'silent_for') as until
      from "public"."tasks" t
      where t."status" = 'processing'
        and t."updated_at" <= p_now - unstuck.shortest(p_rules, 'silent_for')
        and case when p_task is null then true else t."id" = p_task::uuid end
        and case when t."id"::text <> all (p_skip)
          and t."updated_at" <= p_now
            - unstuck.rule_seconds(p_rules, t."kind", 'silent_for')
            - case when t."updated_at" < v_jump.at then v_jump.ahead else '0' end
          and not exists (
            select from unstuck.attempts a
            where a.watch = 'tasks' and a.task_id = t."id"::text and a.ended_at is null
            offset 0
          )
          and not (false)
        then true end
      order by t."updated_at"
      limit p_limit
      for update skip locked
    ) d
    left join lateral unstuck.last_attempt('tasks', d.task_id) l on true;
  end if;

  -- Running, with a sign of life that lies in the future: that counts as now when it was first seen
  -- (`orphans` wrote it down).
  if p_task is not null and (v_lost || v_asked || v_waiting || v_silent) is null then
    select array_agg(unstuck.decided(
      d.task_id,
      d.kind,
      false,
      coalesce(l.number, 0) + 1,
      unstuck.lost_try(l.outcome, l.tries, d.counted),
      null,
      d.rule,
      'stale',
      true,
      p_now - d.until
    ))
    into v_silent
    from (
      select
        t."id"::text as task_id,
        t."kind" as kind,
        unstuck.rule_of_row(
          coalesce(v_rules -> t."kind", v_rules -> '*'), null::integer
        ) as rule,
        null::integer as counted,
        u.since + unstuck.rule_seconds(p_rules, t."kind", 'silent_for') as until
      from "public"."tasks" t
      join unstuck.unsweepable u
        on u.watch = 'tasks' and u.task_id = t."id"::text and u.code = 'clock'
      where t."id" = p_task::uuid
        and t."status" = 'processing'
        and t."updated_at" > p_now
        and u.since <= p_now - unstuck.rule_seconds(p_rules, t."kind", 'silent_for')
        and not exists (
          select from unstuck.attempts a
          where a.watch = 'tasks' and a.task_id = t."id"::text and a.ended_at is null
        )
      for update of t skip locked
    ) d
    left join lateral unstuck.last_attempt('tasks', d.task_id) l on true;
  end if;

  return v_lost || v_asked || v_waiting || v_silent;
end $$;

-- Writes the decisions: ends live attempts, adds an attempt that holds the reason where there was
-- none, and moves the tasks.
create or replace function unstuck.tasks_apply(
  p_now timestamptz,
  p_found unstuck.overdue[],
  p_sweep bigint
) returns void language plpgsql set enable_seqscan = off set jit = off as $$
declare
  v_called text[];  -- tasks whose own callback is to be told
begin
  null;
  update unstuck.attempts a
  set ended_at = p_now,
      outcome = case x.state when 'pending' then 'retried' else x.state end,
      reason = x.reason,
      cause = x.cause,
      error = x.error,
      retry_at = p_now + make_interval(secs => x.retry_after),
      sweep_id = coalesce(p_sweep, 0)
  from unnest(p_found) x
  where x.live
    and a.watch = 'tasks'
    and a.task_id = x.task_id
    and a.number = x.number
    and a.ended_at is null;

  insert into unstuck.attempts (
    watch, task_id, number, tries, kind, token,
    started_at, lease, lease_until, deadline_at, beat_at, ended_at,
    outcome, reason, cause, error, retry_at, sweep_id, checkpoint
  )
  select
    'tasks', x.task_id, x.number, x.tries, x.kind, '00000000-0000-0000-0000-000000000000',
    p_now, '0', p_now, p_now, p_now, p_now,
    case x.state when 'pending' then 'retried' else x.state end,
    x.reason,
    x.cause,
    x.error,
    p_now + make_interval(secs => x.retry_after),
    coalesce(p_sweep, 0),
    case when x.state = 'pending' then coalesce((  -- the next attempt starts with what is done
      select a.checkpoint
      from unstuck.attempts a
      where a.watch = 'tasks'
        and a.task_id = x.task_id
        and a.number = x.number - 1
        and a.outcome not in ('completed', 'failed', 'cancelled')
    ), '{}') else '{}' end
  from unnest(p_found) x
  where not x.live;

  perform set_config('unstuck.override', 'tasks' || '/' || pg_trigger_depth(), true);
  with moved as (
    update "public"."tasks" t
    set "status" = case x.state when 'pending' then 'pending' when 'completed' then 'completed' when 'cancelled' then 'cancelled' else 'failed' end,
    "error_message" = case x.state when 'failed' then x.error end,
    "reason" = case x.state when 'failed' then x.reason end,
    "result" = case x.state when 'completed' then x.result else t."result" end,
    "scheduled_at" = coalesce(x.retry_at, t."scheduled_at"),
    "turn" = case when x.state = 'pending' and t."status" in ('completed', 'failed', 'cancelled') then null else t.turn end,
    "finished_at" = case when x.state <> 'pending' then clock_timestamp() end,
    "updated_at" = clock_timestamp()
    from (
      select
        u.*,
        p_now + make_interval(secs => u.retry_after) as retry_at,
        null::jsonb as result
      from unnest(p_found) u
    ) x
    where x.state <> 'overtaken'
      and t."id" = x.task_id::uuid
      and case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end = x.was
    returning x.task_id, x.state, t."callback_url" as callback
  )
  select array_agg(m.task_id)
  into v_called
  from moved m
  where m.state in ('failed', 'cancelled') and m.callback is not null;
  perform set_config('unstuck.override', '', true);

  null;
  null;
  -- Mostly nobody is to be told: then no row is read for it.
  if v_called is not null
    or (false or exists (select from unstuck.addresses d where unstuck.hears(d)))
    and exists (
      select from unnest(p_found) x
      where replace(x.state, 'pending', 'retried') in ('failed')
    )
  then
    perform unstuck.tasks_tell(array_agg(x.task_id), array_agg(x.number))
    from unnest(p_found) x
    where x.task_id = any (v_called)
      or replace(x.state, 'pending', 'retried') in ('failed');
  end if;
end $$;

-- One batch: finds, decides and writes. Answers the tasks that it moved, those that it could not
-- move, and whether there are more. Where the batch fails it goes row by row. A row that fails
-- alone is written down as unsweepable, and comes again when nothing else is left: once in each
-- run. No lock is waited for longer than a small part of a run's budget: a row or an account that
-- somebody has locked must not keep the others.
create or replace function unstuck.tasks_sweep(
  p_rules jsonb,
  p_limit integer default 500,
  p_sweep bigint default null,
  p_task text default null,
  p_skip text[] default '{}'
) returns json language plpgsql set lock_timeout = '200ms' as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_until timestamptz;
  v_passed text[] := '{}';
  v_ids   text[];
  v_id    text;
  v_batch unstuck.overdue[];
  v_task   unstuck.overdue[];
  v_settled  unstuck.overdue[] := '{}';
  v_bad   json[] := '{}';
  v_more  boolean := false;
begin
  if p_task is null then
    v_passed := array(select u.task_id from unstuck.unsweepable u where u.watch = 'tasks');
  else
    perform unstuck.forgive_silence();
  end if;
  perform unstuck.bridge('tasks', p_task);
  -- Locks and writes are in one subtransaction: a row that was locked outside of it gets a
  -- multixact when it is written.
  begin
    v_batch := unstuck.tasks_overdue(v_now, p_rules, p_limit, p_task, p_skip || v_passed);
    v_more := v_batch is not null
      and (cardinality(v_batch) >= p_limit or v_passed <> '{}' and p_sweep is not null);
    if v_batch is not null then
      perform unstuck.tasks_apply(v_now, v_batch, p_sweep);
      return json_build_object(
        'rescued', to_json(v_batch), 'unsweepable', v_bad, 'more', v_more
      );
    end if;
  exception when others then
    if v_batch is null or unstuck.stops_batch(sqlstate) then
      raise;
    end if;
  end;
  if v_batch is null then
    v_ids := array(
      select u.task_id
      from unstuck.unsweepable u
      where u.watch = 'tasks'
        and u.task_id = any (v_passed)
        and u.task_id <> all (p_skip)
        and (p_sweep is null or u.sweep_id is distinct from p_sweep)
      order by u.tried_at
      limit p_limit
    );
    v_more := p_sweep is not null and cardinality(v_ids) >= p_limit;
  else
    v_ids := array(select f.task_id from unnest(v_batch) f);
  end if;
  if v_ids = '{}' then
    return json_build_object('rescued', v_settled, 'unsweepable', v_bad, 'more', false);
  end if;

  v_until := v_now + unstuck.half_of_limit();
  perform set_config('lock_timeout', '100ms', true);
  foreach v_id in array v_ids loop
    if clock_timestamp() >= v_until then  -- what was done so far must come to its commit
      v_more := true;
      exit;
    end if;
    v_task := null;
    begin
      v_task := unstuck.tasks_overdue(v_now, p_rules, 1, v_id, '{}');
      if v_task is null then  -- settled or locked by somebody, in the meantime
        delete from unstuck.unsweepable u
        using "public"."tasks" t
        where u.watch = 'tasks'
          and u.task_id = v_id
          and u.code = 'clock'
          and t."id" = v_id::uuid
          and t."updated_at" <= v_now;
        update unstuck.unsweepable u
        set sweep_id = p_sweep
        where u.watch = 'tasks' and u.task_id = v_id;
        v_bad := v_bad || array(
          select json_build_object(
            'task_id', u.task_id,
            'kind', u.kind,
            'since', u.since,
            'code', u.code,
            'error', u.error
          )
          from unstuck.unsweepable u
          where u.watch = 'tasks' and u.task_id = v_id and u.code = 'clock'
        );
      else
        perform unstuck.tasks_apply(v_now, v_task, p_sweep);
        delete from unstuck.unsweepable u where u.watch = 'tasks' and u.task_id = v_id;
        v_settled := v_settled || v_task;
      end if;
    exception when others then
      if unstuck.stops_batch(sqlstate) then
        raise;
      end if;
      v_bad := v_bad || unstuck.pass_over(
        'tasks', v_id, v_task[1].kind, p_sweep, sqlstate, sqlerrm
      );
    end;
  end loop;
  return json_build_object(
    'rescued', to_json(v_settled), 'unsweepable', to_json(v_bad), 'more', v_more
  );
end $$;

-- Writes down the next overdue task as unsweepable, for a caller whose batch of one was stopped by
-- a time limit: nothing of such a batch is kept. Null where none is overdue.
create or replace function unstuck.tasks_pass_over(
  p_rules jsonb,
  p_sweep bigint,
  p_code text,
  p_error text
) returns json language plpgsql as $$
declare
  v_passed constant text[] := array(
    select u.task_id from unstuck.unsweepable u where u.watch = 'tasks'
  );
  v_next  unstuck.overdue := (
    unstuck.tasks_overdue(clock_timestamp(), p_rules, 1, null, v_passed)
  )[1];
begin
  if v_next.task_id is null then  -- then it was one of those that are known
    select u.task_id, u.kind
    into v_next.task_id, v_next.kind
    from unstuck.unsweepable u
    where u.watch = 'tasks'
      and u.sweep_id is distinct from p_sweep
    order by u.tried_at
    limit 1;
  end if;
  if v_next.task_id is null then
    return null;
  end if;
  return unstuck.pass_over(
    'tasks', v_next.task_id, v_next.kind, p_sweep, p_code, p_error
  );
end $$;

-- Pending tasks whose push seems lost, to be sent again: once in each `redispatch_after`, and ever
-- more rarely while workers take other tasks. Not those that only wait for their turn, unless they
-- waited for the end of a pause: that may have outlasted their pushes. However many wait, it reads
-- the 20,000 oldest, and 20,000 from a time that is drawn anew in each call: behind so many others
-- there is little that a push could still win.
create or replace function unstuck.tasks_redispatch(p_rules jsonb, p_limit integer default 500)
returns json language plpgsql set enable_seqscan = off set jit = off as $$
declare
  v_now    constant timestamptz := clock_timestamp();
  v_late   constant jsonb := unstuck.tasks_turns(v_now, p_rules, 'pending_for');
  v_turns  constant jsonb := unstuck.tasks_turns(v_now, p_rules, 'redispatch_after');
  v_resumed constant jsonb := unstuck.resumed(v_now, p_rules, v_turns);
  v_before constant timestamptz := v_now - unstuck.shortest(p_rules, 'redispatch_after');
  v_from   timestamptz;
  v_busy   text[];
  v_front  timestamptz;
  v_sent   json;
begin
  v_from := unstuck.finite((
    select t."scheduled_at"
    from "public"."tasks" t
    where t."status" = 'pending' and t."scheduled_at" <= v_before
    order by t."scheduled_at"
    limit 1
  ));
  v_from := v_from + (v_before - v_from) * random();
  -- What is surely in turn is passed over without a look at its rule: a long queue is mostly that.
  select array_agg(k.kind), max((v_turns -> k.kind ->> 'front')::timestamptz)
  into v_busy, v_front
  from jsonb_object_keys(v_turns) as k (kind)
  where k.kind <> '*'
    and unstuck.in_turn(
      'infinity', k.kind, v_now - unstuck.rule_seconds(p_rules, k.kind, 'redispatch_after'), v_turns
    );
  with waiting as (
    (
      select t."id"::text as task_id, t."kind" as kind, t."scheduled_at" as queued
      from "public"."tasks" t
      where t."status" = 'pending' and t."scheduled_at" <= v_before
      order by t."scheduled_at"
      limit 20000
    )
    union all
    (
      select t."id"::text, t."kind", t."scheduled_at"
      from "public"."tasks" t
      where t."status" = 'pending' and t."scheduled_at" between v_from and v_before
      order by t."scheduled_at"
      limit 20000
    )
  ), silent as (
    select w.task_id, w.kind, w.queued
    from waiting w
    cross join lateral (
      select unstuck.resumed_at(w.kind, v_resumed, v_turns) as at
    ) r
    left join lateral (
      select p.at, p.times
      from unstuck.dispatches p
      where p.watch = 'tasks' and p.task_id = w.task_id
      offset 0
    ) d on (w.kind = any (v_busy) and w.queued >= greatest(v_front, r.at)) is not true
    where (w.kind = any (v_busy) and w.queued >= greatest(v_front, r.at)) is not true
      and w.queued <= v_now - unstuck.rule_seconds(p_rules, w.kind, 'redispatch_after')
      and (
        d.at is null
        or d.at < w.queued
        or d.at > v_now  -- the clock was set back since
        or w.queued < r.at and d.at < r.at
        or d.at <= v_now
            - unstuck.rule_seconds(p_rules, w.kind, 'redispatch_after')
              * unstuck.push_factor(d.times, w.kind, v_now, p_rules, v_turns)
          and unstuck.pending_until(w.queued, w.kind, p_rules, v_late) > v_now
      )
      and (
        w.queued < r.at and coalesce(d.at < r.at, true)
        or not unstuck.in_turn(
          w.queued,
          w.kind,
          v_now - unstuck.rule_seconds(p_rules, w.kind, 'redispatch_after'),
          v_turns
        )
      )
    group by w.task_id, w.kind, w.queued
    order by w.queued
    limit p_limit
  ), quiet as (
    select
      w.task_id,
      w.kind,
      coalesce(extract(epoch from v_now - unstuck.finite(w.queued)), 0) as age
    from silent w
    join "public"."tasks" t on t."id" = w.task_id::uuid
    where t."status" = 'pending'
    for update of t skip locked
  ), sent as (
    insert into unstuck.dispatches as d (watch, task_id, at)
    select 'tasks', q.task_id, v_now
    from quiet q
    on conflict (watch, task_id) do update
    set at = v_now,
        times = d.times + 1
    returning d.task_id, d.times
  )
  select json_agg(json_build_object(
    'task_id', s.task_id,
    'kind', q.kind,
    'times', s.times,
    'age', q.age,
    'number', coalesce(l.number, 0) + 1
  ))
  into v_sent
  from sent s
  join quiet q using (task_id)
  left join lateral unstuck.last_attempt('tasks', s.task_id) l on true;
  return coalesce(v_sent, '[]');
end $$;

-- Ends attempts whose task row was deleted, and forgets what a trigger saw of a row that is open
-- no more, since a truncate tells a trigger nothing; once in each run. Also calls on_swept, the
-- hook in which users look for changes that were made without our functions. What was unsweepable
-- and is open no more is forgotten. Returns how many attempts it ended.
create or replace function unstuck.tasks_orphans(p_sweep bigint) returns integer
language plpgsql set plan_cache_mode = force_generic_plan
set enable_seqscan = off set jit = off as $$
declare
  v_before constant timestamptz := clock_timestamp() - interval '30 days';
  v_count  integer;
begin
  update unstuck.attempts a
  set ended_at = clock_timestamp(),
      outcome = 'overtaken',
      reason = 'cancelled',
      error = 'The task was deleted.',
      sweep_id = p_sweep
  where a.ctid = any (array(
    select l.ctid
    from unstuck.attempts l
    where l.watch = 'tasks'
      and l.ended_at is null
      and unstuck.lives_until(l, (select unstuck.ready_after())) <= clock_timestamp()
      and not exists (select from "public"."tasks" t where t."id" = l.task_id::uuid)
    for update skip locked
  ));
  get diagnostics v_count = row_count;
  delete from unstuck.unsweepable u
  where u.watch = 'tasks'
    and not exists (
      select from "public"."tasks" t
      where t."id" = u.task_id::uuid
        and (t."status" = 'pending' or t."status" = 'processing')
    )
    and not exists (
      select from unstuck.attempts a
      where a.watch = 'tasks' and a.task_id = u.task_id and a.ended_at is null
    );
  -- A sign of life in the future would keep a dead task from every sweep, and from every count.
  insert into unstuck.unsweepable (watch, task_id, kind, code, error)
  select
    'tasks',
    t."id"::text,
    coalesce(t."kind", ''),
    'clock',
    'Its last sign of life lies in the future; it counts as seen now.'
  from "public"."tasks" t
  where t."status" = 'processing'
    and t."updated_at" > clock_timestamp() + interval '1 hour'
    and t."updated_at" < 'infinity'
    and not exists (
      select from unstuck.attempts a
      where a.watch = 'tasks' and a.task_id = t."id"::text and a.ended_at is null
    )
  order by t."updated_at" desc
  limit 500
  on conflict (watch, task_id) do nothing;
  delete from unstuck.observed o
  where o.ctid = any (array(
    select l.ctid
    from (
      select ctid, task_id
      from unstuck.observed
      where watch = 'tasks'
        and status_at < v_before
      order by status_at
      limit 500
      for update skip locked  -- a statement of the application may hold some, in its own order
    ) l
    where not exists (
      select from "public"."tasks" t
      where t."id" = l.task_id::uuid
        and (t."status" = 'pending' or t."status" = 'processing')
    )
  ));
  null;
  return v_count;
end $$;

-- retain: the retention of ended tasks, a bounded number in each run of the sweep: the result of a
-- task first, its row later, each when the rule of its kind says so. What a rule does not name
-- stays. A row that the database refuses to delete, such as one to which another table refers, is
-- written down as kept and left for a day: it must not keep the others. Each search is in the order
-- of its index: any other plan reads again what was deleted since the last vacuum. Answers how many
-- results and rows went.
create or replace function unstuck.tasks_retain(p_rules jsonb, p_limit integer default 500)
returns jsonb language plpgsql set plan_cache_mode = force_generic_plan
set enable_seqscan = off set jit = off set enable_bitmapscan = off set enable_sort = off as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_results integer := 0;
  v_rows    integer := 0;
  v_until   timestamptz;
  v_keys    uuid[];
  v_tried   uuid[] := '{}';
begin
  if not true or not unstuck.names_retention(p_rules) then
    return jsonb_build_object('results', 0, 'rows', 0);
  end if;
  null;
  if true then
    perform set_config('unstuck.override', 'tasks' || '/' || pg_trigger_depth(), true);
    update "public"."tasks" t
    set "result" = null
    where t."id" = any (array(
      select o."id"
      from "public"."tasks" o
      where o."status" = 'completed'
        and o."result" is not null
        and o."finished_at" < v_now - unstuck.shortest(p_rules, 'retention_result')
        and o."finished_at" < v_now - unstuck.rule_seconds(p_rules, o."kind", 'retention_result')
      order by o."finished_at"
      limit p_limit
      for update skip locked
    ));
    get diagnostics v_results = row_count;
    perform set_config('unstuck.override', '', true);
  end if;
  -- A foreign key that is checked at the end of the transaction, as each of Django's, would take
  -- all back there.
  set constraints all immediate;
  -- Locks and deletes are in one subtransaction: what is deleted in another one than it was locked
  -- in gets a multixact, and no search learns that it is gone before the next vacuum.
  begin
    v_keys := array(
      select o."id"
      from "public"."tasks" o
      where o."status" = 'completed'
        and o."finished_at" < v_now - unstuck.shortest(p_rules, 'retention_completed')
        and o."finished_at" < v_now - unstuck.rule_seconds(p_rules, o."kind", 'retention_completed')
        and not unstuck.is_kept('tasks', o."id"::text, v_now)
      order by o."finished_at"
      limit p_limit
      for update skip locked
    ) || array(
      select o."id"
      from "public"."tasks" o
      where o."status" = 'failed'
        and o."finished_at" < v_now - unstuck.shortest(p_rules, 'retention_failed')
        and o."finished_at" < v_now - unstuck.rule_seconds(p_rules, o."kind", 'retention_failed')
        and not unstuck.is_kept('tasks', o."id"::text, v_now)
      order by o."finished_at"
      limit p_limit
      for update skip locked
    ) || array(
      select o."id"
      from "public"."tasks" o
      where o."status" = 'cancelled'
        and o."finished_at" < v_now - unstuck.shortest(p_rules, 'retention_cancelled')
        and o."finished_at" < v_now - unstuck.rule_seconds(p_rules, o."kind", 'retention_cancelled')
        and not unstuck.is_kept('tasks', o."id"::text, v_now)
      order by o."finished_at"
      limit p_limit
      for update skip locked
    );
    delete from "public"."tasks" t where t."id" = any (v_keys);
    get diagnostics v_rows = row_count;
  exception when others then
    if v_keys is null or unstuck.stops_batch(sqlstate) then
      raise;
    end if;
    -- Row by row. They are locked no more: who was changed meanwhile may stay.
    v_until := v_now + unstuck.half_of_limit();
    for v_number in 1..cardinality(v_keys) loop
      exit when clock_timestamp() >= v_until;  -- what was done so far must come to its commit
      begin
        perform
        from "public"."tasks" t
        where t."id" = v_keys[v_number]
          and t."finished_at" < v_now - unstuck.rule_seconds(p_rules, t."kind", case
            when t."status" = 'completed' then 'retention_completed'
            when t."status" = 'failed' then 'retention_failed'
            when t."status" = 'cancelled' then 'retention_cancelled'
          end)
        for update skip locked;
        continue when not found;
        v_tried := v_tried || v_keys[v_number];
        delete from "public"."tasks" t where t."id" = v_keys[v_number];
        v_rows := v_rows + found::integer;
      exception when others then
        if unstuck.stops_batch(sqlstate) then
          raise;
        end if;
        perform unstuck.keep('tasks', v_keys[v_number]::text, sqlstate, sqlerrm);
      end;
    end loop;
    v_keys := v_tried;
  end;
  perform unstuck.keep(
    'tasks', t."id"::text, '', 'a trigger or a row security policy of the table keeps the row'
  )
  from "public"."tasks" t
  where t."id" = any (v_keys)
    and not unstuck.is_kept('tasks', t."id"::text, v_now);
  return jsonb_build_object('results', v_results, 'rows', v_rows);
end $$;

-- batch: one batch of a sweep's run, named by the caller. A batch whose answer was lost is not
-- swept again: what it did is read from the ledger, so that each task is reported once. While the
-- first call still runs, the second waits. What workers did last (`turns`) is read once in a second
-- for all batches of the run; where nobody needs it, it is not kept.
create or replace function unstuck.tasks_batch(
  p_rules jsonb,
  p_limit integer,
  p_sweep bigint,
  p_batch uuid,
  p_skip text[] default '{}'
) returns json language plpgsql as $$
declare
  v_now    timestamptz;
  v_last   record;
  v_turns  jsonb;
  v_answer json;
begin
  select s.batch, s.batch_at, s.turns, s.turns_at
  into v_last
  from unstuck.sweeps s
  where s.id = p_sweep
  for update;
  if v_last.batch = p_batch then
    return (
      select json_build_object(
        'unsweepable', '{}'::json[],
        'more', true,
        'rescued', coalesce(json_agg(json_build_object(
          'task_id', a.task_id,
          'kind', a.kind,
          'number', a.number,
          'tries', a.tries,
          'worker', a.worker,
          'reason', a.reason,
          'state', case a.outcome when 'retried' then 'pending' else a.outcome end,
          'cause', a.cause,
          'error', a.error,
          'retry_after', extract(epoch from a.retry_at - a.ended_at),
          'late', 0
        )), '[]')
      )
      from unstuck.attempts a
      where a.watch = 'tasks'
        and a.sweep_id = p_sweep
        and a.ended_at >= v_last.batch_at
    );
  end if;
  v_now := clock_timestamp();
  if v_last.turns_at > v_now - interval '1 second' then
    v_turns := v_last.turns -> 'tasks';
  end if;
  if v_turns is null then
    v_last.turns_at := v_now;
    v_turns := nullif(unstuck.tasks_turns(v_now, p_rules, 'pending_for'), '{}');
  end if;
  perform set_config('unstuck.turns', coalesce(v_turns::text, '{}'), true);
  v_answer := unstuck.tasks_sweep(p_rules, p_limit, p_sweep, null, p_skip);
  perform set_config('unstuck.turns', '', true);
  update unstuck.sweeps s
  set batch = p_batch,
      batch_at = v_now,
      turns = case when v_turns is not null then jsonb_build_object('tasks', v_turns) end,
      turns_at = v_last.turns_at
  where s.id = p_sweep;
  return v_answer;
end $$;

-- status: answers a poll for one task, and heals that task if it is overdue (read-repair). A task
-- that is not of `p_owner`, where one is given, is missing.
create or replace function unstuck.tasks_status(
  p_task text,
  p_rules jsonb,
  p_heal boolean default true,
  p_owner text default null
) returns jsonb language plpgsql as $$
declare
  -- cast here: in a scan of an empty table nobody would see that it is no key
  v_key     constant uuid := p_task::uuid;
  v_now     timestamptz;
  v_task    record;
  v_attempt unstuck.attempts;
  v_jump    record;
  v_ahead   interval;
  v_overdue boolean;
  v_until   timestamptz;
  v_rescued json;
begin
  perform unstuck.heed();
  loop
    v_now := clock_timestamp();
    select
      t."id"::text as id,
      case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end as state,
      t."status"::text as word,
      t."kind" as kind,
      t."owner" as owner,
      t."result" as result,
      t."error_message" as error,
      t."reason" as reason,
      t."scheduled_at" as queued,
      t."scheduled_at" as due,
      t."updated_at" as alive,
      false as withdrawn,
      null::integer as attempts
    into v_task
    from "public"."tasks" t
    where t."id" = v_key;
    if not found or p_owner is not null and v_task.owner is distinct from p_owner then
      return jsonb_build_object('verdict', 'missing');
    end if;
    select a.*
    into v_attempt
    from unstuck.attempts a
    where a.watch = 'tasks'
      and a.task_id = v_task.id
    order by a.number desc
    limit 1;
    if false
      and v_task.state = 'completed'
      and v_attempt.outcome in ('failed', 'cancelled')
    then
      v_task.state := v_attempt.outcome;
    end if;
    select * into v_jump from unstuck.last_jump();
    v_ahead := case when v_task.queued < v_jump.at then v_jump.ahead else '0' end;
    if v_task.state = 'pending' then
      v_until := unstuck.pending_until(v_task.queued + v_ahead, v_task.kind, p_rules, '{}');
      if v_until <= v_now or exists (  -- or it waits for its turn, or while its kind is paused
        select from unstuck.pauses p where p.watch = 'tasks' and p.ended_at is null
      ) then
        v_until := unstuck.pending_until(
          v_task.queued + v_ahead,
          v_task.kind,
          p_rules,
          unstuck.tasks_turns(v_now, p_rules, 'pending_for')
        );
      end if;
    end if;
    v_overdue := case
      when v_task.state in ('pending', 'running')
        and v_attempt.number is not null
        and v_attempt.ended_at is null
      then least(v_attempt.lease_until, v_attempt.deadline_at) <= v_now
        and unstuck.lives_until(v_attempt, unstuck.ready_after()) <= v_now
      when v_task.withdrawn then true
      when v_task.state = 'pending' then v_until <= v_now
      when v_task.state = 'running' then
        v_task.alive <= v_now
          - unstuck.rule_seconds(p_rules, v_task.kind, 'silent_for')
          - case when v_task.alive < v_jump.at then v_jump.ahead else '0' end
      else false
    end;
    exit when not p_heal
      or not coalesce(v_overdue, false)
      or v_rescued is not null
      or current_setting('transaction_read_only')::boolean;  -- a poll is answered there too
    v_rescued := unstuck.tasks_sweep(p_rules, 1, null, v_task.id) -> 'rescued';
  end loop;
  return jsonb_build_object(
    'verdict', 'found',
    'task_id', v_task.id,
    'state', v_task.state,
    'word', v_task.word,
    'kind', v_task.kind,
    'owner', v_task.owner,
    'result', v_task.result,
    'overdue', coalesce(v_overdue, false),
    'rescued', coalesce(v_rescued, '[]'),
    'error', coalesce(
      v_task.error,
      case when v_task.state = 'failed' then v_attempt.error end
    ),
    'reason', coalesce(
      v_task.reason,
      case when v_task.state in ('failed', 'cancelled') then v_attempt.reason end
    ),
    'queued_at', v_task.queued,
    'waited', extract(epoch from v_now - unstuck.finite(v_task.queued)),
    'silent', extract(epoch from v_now - unstuck.finite(v_task.alive)),
    'pending_left', case v_task.state
      when 'pending' then extract(epoch from unstuck.finite(v_until) - v_now)
    end,
    'paused', case v_task.state
      when 'pending' then unstuck.pause_of('tasks', v_task.kind)
    end,
    'due_in', case
      when v_task.state = 'pending' and v_task.due is distinct from 'infinity' then
        greatest(0, extract(epoch from unstuck.finite(v_task.due) - v_now))
    end,
    'attempt', case when v_attempt.number is not null then jsonb_build_object(
      'number', v_attempt.number,
      'tries', v_attempt.tries,
      'of', (
        unstuck.rule_of_row(unstuck.rule(p_rules, v_task.kind), v_task.attempts) ->> 'attempts'
      )::integer,
      'worker', v_attempt.worker,
      'started_at', v_attempt.started_at,
      'beat_at', v_attempt.beat_at,
      'ended_at', v_attempt.ended_at,
      'outcome', v_attempt.outcome,
      'reason', v_attempt.reason,
      'cause', v_attempt.cause,
      'evidence', v_attempt.evidence,
      'progress', v_attempt.progress,
      'age', extract(epoch from v_now - v_attempt.started_at),
      'silent', extract(epoch from v_now - v_attempt.beat_at),
      'ended_ago', extract(epoch from v_now - v_attempt.ended_at),
      'took', extract(epoch from v_attempt.ended_at - v_attempt.started_at),
      'deadline_left', case when v_attempt.ended_at is null then
        extract(epoch from v_attempt.deadline_at - v_now)
      end,
      'lease_left', case when v_attempt.ended_at is null then
        extract(epoch from unstuck.lives_until(
          v_attempt,
          case when v_attempt.lease_until <= v_now then unstuck.ready_after() else '0' end
        ) - v_now)
      end
    ) end
  );
end $$;

-- Whether an index leads to the kinds that wait: our own table has one. Without it each search for
-- a kind would sort the whole queue. The planner knows which index serves; a function that only
-- reads may not ask it.
create or replace function unstuck.tasks_finds_kinds() returns boolean
language plpgsql
set enable_seqscan = off set jit = off set enable_bitmapscan = off set enable_sort = off as $$
declare
  v_plan json;
begin
  if true then
    return true;
  end if;
  execute $query$
    explain (format json)
    select t."kind"
    from "public"."tasks" t
    where t."status" = 'pending'
    order by t."kind"
    limit 1
  $query$
  into v_plan;
  return v_plan::text !~ '"Node Type": "(Incremental )?Sort"|"Filter"';
end $$;

-- What waits for longer than its rule allows, and not for its turn: what `stuck_tasks` says of it.
-- A long queue that moves is not read: where an index leads to the kinds that wait, those whose
-- turn does not come are searched by kind.
create or replace function unstuck.tasks_never_claimed(
  p_now timestamptz,
  p_rules jsonb,
  p_turns jsonb,
  p_limit integer,
  p_after timestamptz,
  p_after_id text
) returns table (at timestamptz, id text, kind text, owner text, until timestamptz)
language plpgsql stable
set enable_seqscan = off set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_jump   record;
  v_kinds  text[];  -- '' is the first; in this order:
  v_bounds timestamptz[];  -- up to when overdue ones may have been queued,
  v_for    interval[];  -- how long they may wait,
  v_most   interval[];  -- whatever goes on,
  v_held   timestamptz[];  -- and when a worker last held one of them
  v_all    record;
  v_least  timestamptz;
  v_before timestamptz;
  v_waits  text[] := '{}';  -- the kinds that wait, where each is searched apart
  v_part   record;
  v_count  bigint;
begin
  select * into v_jump from unstuck.last_jump();
  -- what JSON says is read once, not for each row
  select
    array_agg(b.kind order by b.kind),
    array_agg(b.bound order by b.kind),
    array_agg(unstuck.rule_seconds(p_rules, b.kind, 'pending_for') order by b.kind),
    array_agg(unstuck.pending_at_most(p_rules, b.kind) order by b.kind),
    array_agg((p_turns -> b.kind ->> 'held')::timestamptz order by b.kind),
    min(b.bound),
    max(b.bound)
  into v_kinds, v_bounds, v_for, v_most, v_held, v_least, v_before
  from unstuck.overdue_bounds(p_now, p_rules, p_turns) b;
  select
    (p_turns -> '*' ->> 'held')::timestamptz as held,
    (p_turns -> '*' ->> 'front')::timestamptz as front,
    p_turns -> '*' -> 'pauses' as pauses
  into v_all;
  if v_least < v_before and (
    select count(*)
    from (
      select
      from "public"."tasks" t
      where t."status" = 'pending' and t."scheduled_at" > v_least and t."scheduled_at" <= v_before
      limit 200
    ) w
  ) = 200 and unstuck.tasks_finds_kinds() then
    v_waits := unstuck.tasks_waiting_kinds();
    v_before := v_least;
  end if;
  for v_part in
    select null as kind, null::timestamptz as since, v_before as before
    union all
    select w.kind, v_least, w.bound
    from (
      select k.kind, coalesce(v_bounds[array_position(v_kinds, k.kind)], v_bounds[1]) as bound
      from unnest(v_waits) as k (kind)
    ) w
    where w.bound > v_least
  loop
    if v_part.kind is not null then  -- planned for its kind, which takes less than a millisecond
      perform set_config('plan_cache_mode', 'force_custom_plan', true);
    end if;
    return query
      select
        t."scheduled_at",
        t."id"::text,
        t."kind"::text,
        t."owner"::text,
        c.until
      from "public"."tasks" t
      cross join lateral (
        select
          coalesce(array_position(v_kinds, t."kind"::text), 1) as kind_number,
          t."scheduled_at" + case when t."scheduled_at" < v_jump.at then v_jump.ahead else '0' end as at
        offset 0  -- computed once
      ) q
      cross join lateral (
        select unstuck.waits_until(
          q.at,
          case
            when v_all.pauses is not null then unstuck.paused_time(
              t."kind", least(q.at, '9999-12-31'), statement_timestamp(), v_all.pauses
            )
            else '0'
          end,
          v_for[q.kind_number],
          v_most[q.kind_number],
          v_held[q.kind_number],
          v_all.held,
          v_all.front
        ) as until
      ) c
      where t."status" = 'pending'
        and t."scheduled_at" <= v_part.before
        and (v_part.since is null or t."scheduled_at" > v_part.since)
        and t."scheduled_at" >= p_after
        and (v_part.kind is null or t."kind" = v_part.kind)
        -- of a long queue that moves each row may be read: what costs more comes later. Each in a
        -- CASE: else the planner expects one row, and sorts all that it reads
        and case when t."scheduled_at" <= v_least
          or t."scheduled_at" <= coalesce(
            v_bounds[array_position(v_kinds, t."kind"::text)], v_bounds[1]
          )
        then true end
        and case when c.until <= p_now
          and (t."scheduled_at", t."id"::text) > (p_after, p_after_id)
          and t."id"::text not in (
            select a.task_id
            from unstuck.attempts a
            where a.watch = 'tasks' and a.ended_at is null
          )
        then true end
      order by t."scheduled_at", t."id"::text
      limit p_limit;
    get diagnostics v_count = row_count;
    exit when v_part.kind is null and v_count >= p_limit;  -- what comes is newer
  end loop;
end $$;

-- What is stuck now: the one answer for `check`, the dry run, `stats`, the page, the gauges and the
-- alerts. It is by the rules of the sweep, but not what a sweep could end: a row that others hold
-- is stuck as well. `at` is since when the task is in its state, `until` when it should have ended,
-- and `cause` what happened. The oldest first, after (`p_after`, `p_after_id`). `p_turns` is the
-- answer of `turns`, of one that has asked for it already; `p_was`: only `running` or `pending`
-- ones. No sequential scans, for the reason that sweep.sql gives, and each search in the order of
-- its index, since mostly the first few are asked for.
drop function if exists unstuck.tasks_late(timestamptz, jsonb, integer, timestamptz, text);
drop function if exists unstuck.tasks_stuck_tasks(
  timestamptz, jsonb, integer, timestamptz, text
);
drop function if exists unstuck.tasks_stuck_tasks(
  timestamptz, jsonb, integer, timestamptz, text, jsonb
);
create or replace function unstuck.tasks_stuck_tasks(
  p_now timestamptz,
  p_rules jsonb,
  p_limit integer default null,
  p_after timestamptz default '-infinity',
  p_after_id text default '',
  p_turns jsonb default null,
  p_was text default null
) returns table (
  at timestamptz,
  id text,
  kind text,
  owner text,
  until timestamptz,
  cause text,
  was text
)
language plpgsql stable
set enable_seqscan = off set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_turns  constant jsonb :=
    coalesce(p_turns, unstuck.tasks_turns(p_now, p_rules, 'pending_for'));
  v_silent_before constant timestamptz := p_now - unstuck.shortest(p_rules, 'silent_for');
  v_jump   record;
  v_kinds  text[];  -- '' is the first; in this order:
  v_silent interval[];  -- how long they may be silent
begin
  select * into v_jump from unstuck.last_jump();
  select
    array_agg(b.kind order by b.kind),
    array_agg(unstuck.rule_seconds(p_rules, b.kind, 'silent_for') order by b.kind)
  into v_kinds, v_silent
  from unstuck.overdue_bounds(p_now, p_rules, v_turns) b;
  return query
    select s.*
    from (
      (
        select
          a.started_at as at,
          a.task_id as id,
          t."kind"::text as kind,
          t."owner"::text as owner,
          unstuck.lives_until(a, (select unstuck.ready_after())) as until,
          case when a.deadline_at <= p_now then 'deadline' else 'lease_lost' end as cause,
          case when t."status" = 'processing' then 'running' else 'pending' end as was
        from unstuck.attempts a
        join "public"."tasks" t on t."id" = a.task_id::uuid
        where a.watch = 'tasks'
          and a.ended_at is null
          and least(a.lease_until, a.deadline_at) <= p_now
          and unstuck.lives_until(a, (select unstuck.ready_after())) <= p_now
          and (
            t."status" = 'processing' and p_was is distinct from 'pending'
            or t."status" = 'pending' and p_was is distinct from 'running'
          )
          and (a.started_at, a.task_id) > (p_after, p_after_id)
        order by 1, 2
        limit p_limit
      )
      union all
      (
        select n.*, 'never_claimed', 'pending'
        from unstuck.tasks_never_claimed(p_now, p_rules, v_turns, p_limit, p_after, p_after_id) n
        where p_was is distinct from 'running'
      )
      union all
      (
        select
          t."scheduled_at",
          t."id"::text,
          t."kind"::text,
          t."owner"::text,
          p_now,
          'cancelled',
          case when t."status" = 'pending' then 'pending' else 'running' end
        from "public"."tasks" t
        where false
          and false
          and (p_was is null or p_was = case when t."status" = 'pending' then 'pending' else 'running' end)
          and t."id" in (select q."id" from (select w.* from "public"."tasks" w where w."status" = 'pending' order by w."scheduled_at" limit 20000) q where false)
          and (t."scheduled_at", t."id"::text) > (p_after, p_after_id)
          and t."id"::text not in (
            select a.task_id
            from unstuck.attempts a
            where a.watch = 'tasks' and a.ended_at is null
          )
        order by t."scheduled_at", t."id"::text
        limit p_limit
      )
      union all
      (
        select
          t."updated_at",
          t."id"::text,
          t."kind"::text,
          t."owner"::text,
          s.until,
          'stale',
          'running'
        from "public"."tasks" t
        cross join lateral (
          select t."updated_at" + v_silent[
            coalesce(array_position(v_kinds, t."kind"::text), 1)
          ] as until
          offset 0
        ) s
        where t."status" = 'processing'
          and p_was is distinct from 'pending'
          and t."updated_at" <= v_silent_before
          and s.until <= p_now - case when t."updated_at" < v_jump.at then v_jump.ahead else '0' end
          and t."updated_at" >= p_after
          and (t."updated_at", t."id"::text) > (p_after, p_after_id)
          and t."id"::text not in (
            select a.task_id
            from unstuck.attempts a
            where a.watch = 'tasks' and a.ended_at is null
          )
          and not (false)
        order by t."updated_at", t."id"::text
        limit p_limit
      )
    ) s
    order by 1, 2
    limit p_limit;
end $$;

-- stuck: how many tasks are stuck (at most 20,000 are counted, the oldest first; `most`), what a
-- sweep would do with them, by kind and reason, with the ages of the oldest and the newest, and the
-- first of them. Writes and locks nothing.
create or replace function unstuck.tasks_stuck(p_rules jsonb, p_limit integer default 500)
returns jsonb language plpgsql as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_rules constant jsonb := unstuck.complete_rules(p_rules);
  v_most  constant integer := 20000;
begin
  return (
    with decided as materialized (
      select
        s.at,
        case s.cause
          when 'never_claimed' then unstuck.unclaimed(
            s.id,
            s.kind,
            l.number,
            l.tries,
            s.until = t."scheduled_at" + unstuck.pending_at_most(p_rules, s.kind)
              and s.until > t."scheduled_at" + unstuck.rule_seconds(p_rules, s.kind, 'pending_for'),
            v_now - unstuck.finite(s.until)
          )
          when 'cancelled' then unstuck.withdrawn(s.id, s.kind, l.number, l.tries, s.was)
          when 'stale' then unstuck.decided(
            s.id,
            s.kind,
            false,
            coalesce(l.number, 0) + 1,
            unstuck.lost_try(l.outcome, l.tries, null::integer),
            null,
            unstuck.rule_at_age(
              unstuck.rule_of_row(coalesce(v_rules -> s.kind, v_rules -> '*'), null::integer),
              t."updated_at",
              v_now
            ),
            case when false then 'cancelled' else s.cause end,
            true,
            v_now - unstuck.finite(s.until)
          )
          else unstuck.decided(
            s.id,
            s.kind,
            true,
            l.number,
            l.tries,
            l.worker,
            unstuck.rule_of_row(coalesce(v_rules -> s.kind, v_rules -> '*'), null::integer),
            case when false then 'cancelled' else s.cause end,
            s.was = 'running',
            v_now - unstuck.finite(s.until)
          )
        end as decision,
        s.was,
        s.id
      from unstuck.tasks_stuck_tasks(v_now, p_rules, v_most) s
      join "public"."tasks" t on t."id" = s.id::uuid
      left join lateral (
        select a.number, a.tries, a.worker, a.outcome
        from unstuck.attempts a
        where a.watch = 'tasks' and a.task_id = s.id
        order by a.number desc
        limit 1
      ) l on true
    )
    select jsonb_build_object(
      'most', v_most,
      'count', (select count(*) from decided),
      'groups', coalesce((
        select jsonb_agg(to_jsonb(g) order by g.was, g.state, g.reason, g.kind)
        from (
          select
            (d.decision).kind,
            d.was,
            (d.decision).state,
            (d.decision).reason,
            count(*) as count,
            extract(epoch from v_now - min(unstuck.finite(d.at))) as oldest,
            extract(epoch from v_now - max(unstuck.finite(d.at))) as newest
          from decided d
          group by 1, 2, 3, 4
        ) g
      ), '[]'),
      'tasks', coalesce((
        select jsonb_agg(
          to_jsonb(f.decision) || jsonb_build_object(
            'was', f.was, 'age', extract(epoch from v_now - unstuck.finite(f.at))
          ) order by f.at, f.id
        )
        from (select * from decided d order by d.at, d.id limit p_limit) f
      ), '[]')
    )
  );
end $$;

-- What a sweep would do now, without doing it.
create or replace function unstuck.tasks_preview(p_rules jsonb, p_limit integer default 500)
returns json language sql as $$
  select (unstuck.tasks_stuck(p_rules, p_limit) -> 'tasks')::json
$$;

-- What is open now: counts and ages of tasks by state and kind, attempts that live, overdue ones.
-- Of those that wait at most 20,000 are read, the oldest, however many there are; where there are
-- more, their number is what the planner estimates (`estimated`). The plan is generic: to plan it
-- anew, which a long history makes PostgreSQL do, took longer than to run it. A pause stands still:
-- its time is no part of the age of what waits.
create or replace function unstuck.tasks_open_work(p_rules jsonb) returns jsonb
language plpgsql stable set plan_cache_mode = force_generic_plan
set enable_seqscan = off set jit = off as $$
declare
  v_now    constant timestamptz := clock_timestamp();
  v_most   constant integer := 20000;
  v_open   record;
  v_live   record;
  v_pauses constant jsonb := unstuck.with_pauses('tasks', v_now, p_rules, '{}')
    -> '*' -> 'pauses';
begin
  with waiting as materialized (
    select w.kind, count(*) as count, min(unstuck.finite(w.queued)) as oldest
    from (
      select t."kind" as kind, t."scheduled_at" as queued
      from "public"."tasks" t
      where t."status" = 'pending'
      order by t."scheduled_at"
      limit v_most
    ) w
    group by 1
  ), scale as materialized (
    select case
      when sum(w.count) = v_most then greatest(1, unstuck.estimated_rows(
        $query$select from "public"."tasks" t where t."status" = 'pending'$query$
      ) / v_most)
      else 1
    end as factor
    from waiting w
  )
  select
    s.factor > 1 as is_estimated,
    coalesce((
      select jsonb_agg(jsonb_build_object(
        'state', o.state, 'kind', o.kind, 'count', o.count, 'oldest', o.oldest
      ) order by o.state, o.kind)
      from (
        select
          'pending' as state,
          w.kind,
          round(w.count * s.factor)::bigint as count,
          extract(epoch from v_now - w.oldest - unstuck.paused_time(
            w.kind::text, w.oldest, v_now, v_pauses
          )) as oldest
        from waiting w
        union all
        select
          'running',
          t."kind",
          count(*),
          extract(epoch from v_now - min(unstuck.finite(coalesce(t."started_at", t."updated_at"))))
        from "public"."tasks" t
        where t."status" = 'processing'
        group by 2
      ) o
    ), '[]') as groups
  into v_open
  from scale s;
  select
    coalesce(sum(l.count), 0) as count,
    coalesce(jsonb_object_agg(l.kind, l.count), '{}') as by_kind
  into v_live
  from (
    select a.kind, count(*) as count
    from unstuck.attempts a
    where a.watch = 'tasks' and a.ended_at is null
    group by 1
  ) l;
  return jsonb_build_object(
    'estimated', v_open.is_estimated,
    'open', v_open.groups,
    'live', v_live.count,
    'live_by_kind', v_live.by_kind,
    'overdue', (
      select jsonb_build_object(
        'count', count(*), 'oldest', extract(epoch from v_now - min(unstuck.finite(l.until)))
      )
      from unstuck.tasks_stuck_tasks(v_now, p_rules, 20000) l
    )
  );
end $$;

-- overview: what is open now, and what ended or was refused in the last hour. Reads open rows and
-- the ledger only.
create or replace function unstuck.tasks_overview(p_rules jsonb) returns jsonb
language plpgsql stable set plan_cache_mode = force_generic_plan
set enable_seqscan = off set jit = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  return unstuck.tasks_open_work(p_rules) || jsonb_build_object(
    'ended', coalesce((
      select jsonb_agg(jsonb_build_object(
        'kind', e.kind, 'outcome', e.outcome, 'reason', e.reason, 'count', e.count
      ) order by e.kind, e.outcome, e.reason)
      from (
        select a.kind, a.outcome, a.reason, count(*) as count
        from unstuck.attempts a
        where a.watch = 'tasks' and a.ended_at > v_now - interval '1 hour'
        group by 1, 2, 3
      ) e
    ), '[]'),
    'refused', (
      select count(*)
      from unstuck.refusals r
      where r.watch = 'tasks'
        and r.at > v_now - interval '1 hour'
        and r.source <> 'rehearsal'
    ),
    'last_sweep', (
      select jsonb_build_object(
        'started_at', s.started_at,
        'ago', extract(epoch from v_now - s.started_at),
        'ok', s.ok,
        'counts', s.counts
      )
      from unstuck.sweeps s
      where s.installation = ''
      order by s.id desc
      limit 1
    )
  );
end $$;

-- What a run does last in a watch, in one call: orphans, and what is open then. It does not ask for
-- what ended: that would be read in each run, and nobody needs it there.
create or replace function unstuck.tasks_tidy(p_sweep bigint, p_rules jsonb) returns jsonb
language plpgsql as $$
declare
  v_orphaned constant integer := unstuck.tasks_orphans(p_sweep);
begin
  return jsonb_build_object(
    'orphaned', v_orphaned, 'open', unstuck.tasks_open_work(p_rules)
  );
end $$;

-- pace: whether the queue is slower than its arrivals. Of each kind that waits: how many tasks (the
-- oldest 20,000 are read), since when the oldest, and how many came and were taken in the last
-- `p_seconds`. A task that is put back comes again where its table says when. No sequential scans,
-- for the reason that sweep.sql gives.
create or replace function unstuck.tasks_pace(p_seconds double precision) returns jsonb
language plpgsql stable set enable_seqscan = off set jit = off as $$
declare
  v_now   constant timestamptz := clock_timestamp();
  v_since constant timestamptz := v_now - make_interval(secs => p_seconds);
begin
  return coalesce((
    select jsonb_agg(jsonb_build_object(
      'kind', w.kind,
      'waiting', w.waiting,
      'oldest', w.oldest,
      'came', w.came + coalesce(c.came, 0),
      'taken', coalesce(c.taken, 0)
    ) order by w.kind)
    from (
      select
        o.kind,
        count(*) as waiting,
        coalesce(extract(epoch from v_now - min(unstuck.finite(o.queued))), 0) as oldest,
        count(*) filter (where o.queued > v_since) as came
      from (
        select t."kind" as kind, t."scheduled_at" as queued
        from "public"."tasks" t
        where t."status" = 'pending' and t."scheduled_at" <= v_now
        order by t."scheduled_at"
        limit 20000
      ) o
      group by 1
    ) w
    left join (
      select
        a.kind,
        count(*) as taken,
        count(*) filter (where t."scheduled_at" > v_since) as came
      from unstuck.attempts a
      left join "public"."tasks" t on t."id" = a.task_id::uuid
      where a.watch = 'tasks'
        and (a.ended_at is null or a.ended_at > v_since)
        and a.started_at > v_since
        and a.worker is not null
      group by 1
    ) c on c.kind is not distinct from w.kind
  ), '[]');
end $$;

-- find: tasks by a filter, for operators. No view: it would stand in the way of the owner's
-- `alter table`. `p_filter`: {ids, states, kind, owner, reason, message (the shape of a sentence),
-- sweep_id, older_than (seconds)}, each optional; without states, the open ones. Ordered by key, at
-- most 500, those after `p_after`: so an operation on many tasks reads the table once. No JIT: up
-- to PostgreSQL 17 such expressions for each row of a table that was adopted look so dear that they
-- are compiled (1.2 to 2.9 s for each call with 100,000 tasks on 15, and 14 to 298 ms without).
create or replace function unstuck.tasks_find(
  p_filter jsonb default '{}',
  p_limit integer default 500,
  p_after text default null
) returns json language plpgsql stable set jit = off as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  return coalesce((
    select json_agg(l)
    from (
      select
        v.task_id,
        v.state,
        v.word,
        v.kind,
        v.owner,
        coalesce(v.error, a.error) as error,
        a.number,
        a.tries,
        a.worker,
        a.reason,
        extract(epoch from v_now - unstuck.finite(case v.state
          when 'running' then coalesce(a.started_at, v.started, v.alive)
          when 'pending' then v.queued
          else coalesce(a.ended_at, v.alive)
        end)) as age
      from (
        select
          t."id" as key,
          t."id"::text as task_id,
          case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end as state,
          t."status"::text as word,
          t."kind" as kind,
          t."owner"::text as owner,
          t."scheduled_at" as queued,
          t."scheduled_at" as due,
          t."updated_at" as alive,
          t."started_at" as started,
          t."error_message" as error,
          (t."status" = 'pending' or t."status" = 'processing') as open
        from "public"."tasks" t
      ) v
      left join lateral (
        select
          a.number,
          a.tries,
          a.worker,
          a.started_at,
          a.ended_at,
          a.outcome,
          a.reason,
          a.error,
          a.sweep_id
        from unstuck.attempts a
        where a.watch = 'tasks' and a.task_id = v.task_id
        order by a.number desc
        limit 1
      ) a on true
      where case when p_filter ? 'states' then p_filter -> 'states' ? v.state else v.open end
        and (p_filter ? 'states' or v.open)
        and (
          not p_filter ? 'ids'
          or v.key in (
            select i.id::uuid
            from jsonb_array_elements_text(p_filter -> 'ids') as i (id)
          )
        )
        and (not p_filter ? 'kind' or v.kind = p_filter ->> 'kind')
        and (not p_filter ? 'owner' or v.owner = p_filter ->> 'owner')
        and (not p_filter ? 'reason' or a.reason = p_filter ->> 'reason')
        and (
          not p_filter ? 'message'
          or unstuck.message_shape(a.error) = p_filter ->> 'message'
        )
        -- why the task ended, not how a try went before others ended it
        and (
          not p_filter ?| array['reason', 'message']
          or v.state not in ('completed', 'failed', 'cancelled')
          or a.outcome = v.state
        )
        and (not p_filter ? 'sweep_id' or a.sweep_id = (p_filter ->> 'sweep_id')::bigint)
        and (
          not p_filter ? 'older_than'
          or v_now - make_interval(secs => (p_filter ->> 'older_than')::float8)
            >= case v.state when 'pending' then v.queued else v.alive end
        )
        and (p_after is null or v.key > p_after::uuid)
      order by v.key
      limit least(p_limit, 500)
    ) l
  ), '[]');
end $$;

-- The attempts of one task, the first one first.
create or replace function unstuck.tasks_history(p_task text) returns json
language sql stable as $$
  select coalesce(json_agg(json_build_object(
    'number', a.number,
    'tries', a.tries,
    'worker', a.worker,
    'started_at', a.started_at,
    'ended_at', a.ended_at,
    'age', extract(epoch from clock_timestamp() - a.started_at),
    'took', extract(epoch from a.ended_at - a.started_at),
    'beats', a.beats,
    'outcome', a.outcome,
    'reason', a.reason,
    'cause', a.cause,
    'error', a.error,
    'detail', a.detail,
    'evidence', a.evidence,
    'progress', a.progress,
    'checkpoints', (
      select json_agg(c.name)
      from (
        select jsonb_object_keys(a.checkpoint) as name
        union
        select c.name from unstuck.checkpoints_of('tasks', p_task, a.number) c
      ) c
    ),
    'sweep_id', a.sweep_id
  ) order by a.number), '[]')
  from unstuck.attempts a
  where a.watch = 'tasks'
    and a.task_id = p_task
$$;

-- operate: what a person does to tasks by hand. `p_action`: cancel or fail (open tasks), requeue
-- (running ones, without burning a try), retry (failed and cancelled ones start again). Returns the
-- tasks that moved; the others were not in such a state. The caller names the call (`p_key`), so
-- that one whose answer was lost can be repeated: it would requeue a task twice otherwise.
create or replace function unstuck.tasks_operate(
  p_action text,
  p_ids text[],
  p_error text default null,
  p_key uuid default gen_random_uuid()
) returns json language plpgsql as $$
declare
  v_now     constant timestamptz := clock_timestamp();
  v_state   constant text := case p_action
    when 'cancel' then 'cancelled'
    when 'fail' then 'failed'
    else 'pending'
  end;
  v_outcome constant text := case v_state when 'pending' then 'released' else v_state end;
  v_reason  constant text := case p_action when 'cancel' then 'cancelled' else 'by_hand' end;
  v_error   constant text := coalesce(p_error, unstuck.sentence(v_reason, null, 0));
  v_moved   text[];
begin
  null;
  if false and v_state = 'pending' then
    raise exception 'the watch % has no word for pending: none of its tasks can be put back',
      'tasks' using errcode = 'wrong_object_type', hint = 'Cancel it or fail it.';
  end if;
  insert into unstuck.operations (key, watch, action)
  values (p_key, 'tasks', p_action)
  on conflict do nothing;
  if not found then
    return (select to_json(o.moved) from unstuck.operations o where o.key = p_key);
  end if;
  perform unstuck.tasks_hold(p_ids);
  perform set_config('unstuck.override', 'tasks', true);  -- the fence lets a person pass
  select array_agg(d.id)
  into v_moved
  from (
    select t."id"::text as id
    from "public"."tasks" t
    where t."id" = any (p_ids::uuid[])
      and case p_action
        when 'cancel' then t."status" = 'pending' or t."status" = 'processing' or false
        when 'fail' then t."status" = 'pending' or t."status" = 'processing'
        when 'requeue' then t."status" = 'processing'
        when 'retry' then (t."status" = 'failed' or t."status" = 'cancelled') and not (t.one_active and (exists (select from "public"."tasks" o where o.one_active and o.kind = t.kind and coalesce(o.owner, '') = coalesce(t.owner, '') and (o."status" = 'pending' or o."status" = 'processing')) or exists (select from "public"."tasks" o where o.one_active and o.kind = t.kind and coalesce(o.owner, '') = coalesce(t.owner, '') and o.id = any (p_ids::uuid[]) and o.id < t.id and o."status" in ('failed', 'cancelled'))))
      end
    order by t."id"
  ) d;

  update unstuck.attempts a
  set ended_at = v_now,
      outcome = v_outcome,
      reason = v_reason,
      error = v_error,
      retry_at = case v_state when 'pending' then v_now end
  where a.watch = 'tasks'
    and a.task_id = any (v_moved)
    and a.ended_at is null;
  if v_state <> 'pending' then  -- a task that nobody held has its reason in the ledger too
    insert into unstuck.attempts (
      watch, task_id, number, tries, kind, token,
      started_at, lease, lease_until, deadline_at, beat_at, ended_at,
      outcome, reason, error
    )
    select
      'tasks', m.id, coalesce(l.number, 0) + 1, coalesce(l.tries, 0), t."kind",
      gen_random_uuid(),
      v_now, '0', v_now, v_now, v_now, v_now,
      v_outcome, v_reason, v_error
    from unnest(v_moved) as m (id)
    join "public"."tasks" t on t."id" = m.id::uuid
    left join lateral (
      select a.number, a.tries, a.ended_at
      from unstuck.attempts a
      where a.watch = 'tasks' and a.task_id = m.id
      order by a.number desc
      limit 1
    ) l on true
    where l.ended_at is distinct from v_now;
  end if;

  update "public"."tasks" t
  set "status" = case x.state when 'pending' then 'pending' when 'completed' then 'completed' when 'cancelled' then 'cancelled' else 'failed' end,
    "error_message" = case x.state when 'failed' then x.error end,
    "reason" = case x.state when 'failed' then x.reason end,
    "result" = case x.state when 'completed' then x.result else t."result" end,
    "scheduled_at" = coalesce(x.retry_at, t."scheduled_at"),
    "turn" = case when x.state = 'pending' and t."status" in ('completed', 'failed', 'cancelled') then null else t.turn end,
    "finished_at" = case when x.state <> 'pending' then clock_timestamp() end,
    "updated_at" = clock_timestamp()
  from (
    select
      v_state as state,
      null::jsonb as result,
      v_reason as reason,
      v_error as error,
      v_now as retry_at
  ) x
  where t."id" = any (v_moved::uuid[]);
  if v_state = 'pending' and false then
    perform unstuck.put_back('tasks', v_moved);
  end if;
  if p_action = 'fail' then
    null;
  elsif p_action = 'cancel' then
    null;
  elsif p_action = 'retry' then
    null;
  end if;
  if v_moved is not null and (true or v_outcome in ('failed')) then
    perform unstuck.tasks_tell(array_agg(a.task_id), array_agg(a.number))
    from unstuck.attempts a
    where a.watch = 'tasks'
      and a.task_id = any (v_moved)
      and a.ended_at = v_now;
  end if;
  perform set_config('unstuck.override', '', true);
  update unstuck.operations o
  set moved = v_moved
  where o.key = p_key
    and v_moved is not null;
  return coalesce(to_json(v_moved), '[]');
end $$;

-- Locks tasks and their live attempts, to the end of the transaction. A settle locks the attempt
-- first and then the task; a claim has locked the task when it adds the attempt. So this waits for
-- an attempt only while it holds no task: else it and a settle could wait for each other.
create or replace function unstuck.tasks_hold(p_ids text[]) returns void
language plpgsql as $$
declare
  v_tasks_held boolean;
begin
  loop
    begin
      v_tasks_held := false;
      perform
      from "public"."tasks" t
      where t."id" = any (p_ids::uuid[])
      order by t."id"
      for update;
      v_tasks_held := true;
      perform
      from unstuck.attempts a
      where a.watch = 'tasks'
        and a.task_id = any (p_ids)
        and a.ended_at is null
      order by a.task_id
      for update nowait;
      return;
    exception when lock_not_available then  -- the tasks are free again
      if not v_tasks_held then  -- it was the caller's lock_timeout
        raise;
      end if;
    end;
    perform
    from unstuck.attempts a
    where a.watch = 'tasks'
      and a.task_id = any (p_ids)
      and a.ended_at is null
    order by a.task_id
    for update;
  end loop;
end $$;

-- cancel: what a user does to a task of their own (`p_owner`; null: of anybody). The worker that
-- runs it finds its lease lost. Safe to repeat. Verdict cancelled; ended (too late); or missing,
-- which is also what another user's task is.
create or replace function unstuck.tasks_cancel(p_task text, p_owner text default null)
returns jsonb language plpgsql as $$
declare
  v_key  constant uuid := p_task::uuid;
  v_task record;
  v_last record;
begin
  perform unstuck.tasks_hold(array[p_task]);
  select case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end as state, t."kind" as kind, t."owner" as owner
  into v_task
  from "public"."tasks" t
  where t."id" = v_key;
  if not found or p_owner is not null and v_task.owner is distinct from p_owner then
    return '{"verdict": "missing"}';
  end if;
  if v_task.state is null or v_task.state in ('completed', 'failed', 'cancelled') then
    return jsonb_build_object('verdict', 'ended', 'task_id', p_task, 'state', v_task.state);
  end if;
  perform unstuck.tasks_operate('cancel', array[p_task]);
  select case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end
  into v_task.state
  from "public"."tasks" t
  where t."id" = v_key;
  select a.number, a.tries, a.reason
  into v_last
  from unstuck.attempts a
  where a.watch = 'tasks'
    and a.task_id = p_task
  order by a.number desc
  limit 1;
  return jsonb_build_object(
    'verdict', 'cancelled',
    'task_id', p_task,
    'kind', v_task.kind,
    'state', v_task.state,
    'number', v_last.number,
    'tries', v_last.tries,
    'reason', v_last.reason
  );
end $$;

-- page: the list of the operators' page: stuck tasks first, then running, pending, and ended ones,
-- the newest first. Keyset paging: each section is read in the order of an index, from where the
-- last page ended. However many rows there are, at most `p_limit` are shown and 3,000 looked at;
-- the answer says where to go on.

drop function if exists unstuck.tasks_section(
  integer, timestamptz, jsonb, integer, timestamptz, text, jsonb
);

-- One section, in its order, after (`p_after`, `p_after_id`). Locks nothing. What is stuck is what
-- the next sweep moves. The sections, by number:
--   0 stuck, 1 running, 2 pending: from the table, the oldest first
--   3 ended: from the ledger, the newest first
--   4 the table by key; 5 a range of it, from a key to a key: for tasks that the ledger lacks
-- `fits` says whether kind and owner (of ended ones: kind, reason and message) are as asked for;
-- what does not fit counts as looked at. `since` and `until` are about the time of the order; of
-- running tasks about their start. With `order` = `reverse` sections 2 and 3 run the other way, 3
-- only with a state. `p_turns` is the answer of `turns`; ended tasks need none. No sequential
-- scans, for the reason that sweep.sql gives.
create or replace function unstuck.tasks_section(
  p_section integer,
  p_now timestamptz,
  p_rules jsonb,
  p_limit integer,
  p_after timestamptz default null,
  p_after_id text default null,
  p_filter jsonb default '{}',
  p_turns jsonb default '{}'
) returns table (at timestamptz, id text, fits boolean)
language plpgsql stable
set enable_seqscan = off set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_back constant boolean := p_section in (2, 3)
    and coalesce(p_filter ->> 'order', '') = 'reverse';
  v_at constant timestamptz := coalesce(
    p_after,
    case when (p_section = 3) <> v_back
      then 'infinity'::timestamptz else '-infinity' end
  );
  v_id     constant text := coalesce(p_after_id, '');
  v_since  constant timestamptz := coalesce((p_filter ->> 'since')::timestamptz, '-infinity');
  v_until  constant timestamptz := coalesce((p_filter ->> 'until')::timestamptz, 'infinity');
  v_dated  constant boolean := p_filter ?| array['since', 'until'];
  v_shape  constant text := p_filter ->> 'message';
  v_kind   constant text := p_filter ->> 'kind';
  v_owner  constant text := p_filter ->> 'owner';
  v_state  constant text := p_filter ->> 'state';
  v_reason constant text := p_filter ->> 'reason';
begin
  case p_section
  when 0 then return query
    select
      l.at,
      l.id,
      unstuck.fits(l.kind, v_kind)
        and unstuck.fits(l.owner, v_owner)
        and l.at between v_since and v_until
    from unstuck.tasks_stuck_tasks(
      p_now,
      p_rules,
      p_limit,
      v_at,
      v_id,
      p_turns,
      case when v_state in ('running', 'pending') then v_state end
    ) l
    order by 1, 2;
  when 1 then return query
    select
      t."updated_at",
      t."id"::text,
      unstuck.fits(t."kind", v_kind)
        and unstuck.fits(t."owner"::text, v_owner)
        and (
          not v_dated
          or coalesce(a.started_at, t."started_at", t."updated_at") between v_since and v_until
        )
    from "public"."tasks" t
    left join unstuck.attempts a
      on a.watch = 'tasks' and a.task_id = t."id"::text and a.ended_at is null
    where t."status" = 'processing'
      and t."updated_at" >= v_at
      and (t."updated_at", t."id"::text) > (v_at, v_id)
      and coalesce(
        case
          when a.task_id is null then
            t."updated_at" > p_now - unstuck.rule_seconds(p_rules, t."kind", 'silent_for')
          else
            least(a.lease_until, a.deadline_at) > p_now
            or unstuck.lives_until(a, (select unstuck.ready_after())) > p_now
        end,
        true
      )
    order by t."updated_at", t."id"::text
    limit p_limit;
  when 2 then
    if v_back then return query
    select
      t."scheduled_at",
      t."id"::text,
      unstuck.fits(t."kind", v_kind) and unstuck.fits(t."owner"::text, v_owner)
    from "public"."tasks" t
    where t."status" = 'pending'
      and t."scheduled_at" >= v_since
      and t."scheduled_at" <= least(v_at, v_until)
      and (t."scheduled_at", t."id"::text) < (v_at, v_id)
      and t."scheduled_at" > p_now - unstuck.rule_seconds(p_rules, '*', 'longest_pending_for')
      and unstuck.pending_until(t."scheduled_at", t."kind", p_rules, p_turns) > p_now
      and not exists (
        select from unstuck.attempts a
        where a.watch = 'tasks'
          and a.task_id = t."id"::text
          and a.ended_at is null
          and least(a.lease_until, a.deadline_at) <= p_now
      )
    order by t."scheduled_at" desc, t."id"::text desc
    limit p_limit;
    else return query
    select
      t."scheduled_at",
      t."id"::text,
      unstuck.fits(t."kind", v_kind) and unstuck.fits(t."owner"::text, v_owner)
    from "public"."tasks" t
    where t."status" = 'pending'
      and t."scheduled_at" >= greatest(v_at, v_since)
      and t."scheduled_at" <= v_until
      and (t."scheduled_at", t."id"::text) > (v_at, v_id)
      and t."scheduled_at" > p_now - unstuck.rule_seconds(p_rules, '*', 'longest_pending_for')
      and unstuck.pending_until(t."scheduled_at", t."kind", p_rules, p_turns) > p_now
      and not exists (
        select from unstuck.attempts a
        where a.watch = 'tasks'
          and a.task_id = t."id"::text
          and a.ended_at is null
          and least(a.lease_until, a.deadline_at) <= p_now
      )
    order by t."scheduled_at", t."id"::text
    limit p_limit;
    end if;
  when 3 then
    if v_back then return query execute format(  -- planned for the state: each has its index
      $query$
        select
          a.ended_at,
          a.task_id,
          unstuck.fits(a.kind, $1)
            and unstuck.fits(a.reason, $2)
            and ($3 is null or unstuck.message_shape(a.error) = $3)
        from unstuck.attempts a
        where a.watch = 'tasks'
          and a.outcome = %L
          and a.ended_at >= $4
          and a.ended_at <= $5
          and (a.ended_at > $6 or a.task_id > $7)
          and not exists (
            select from unstuck.attempts n
            where n.watch = a.watch and n.task_id = a.task_id and n.number > a.number
          )
        order by a.ended_at, a.task_id
        limit %s
      $query$,
      v_state,
      p_limit
    ) using v_kind, v_reason, v_shape, greatest(v_at, v_since), v_until, v_at, v_id;
    elsif v_state in ('failed', 'cancelled') then return query
      select
        a.ended_at,
        a.task_id,
        unstuck.fits(a.kind, v_kind)
          and unstuck.fits(a.reason, v_reason)
          and (v_shape is null or unstuck.message_shape(a.error) = v_shape)
      from unstuck.attempts a
      where a.watch = 'tasks'
        and a.outcome in ('failed', 'cancelled')
        and a.outcome = v_state
        and a.ended_at <= least(v_at, v_until)
        and a.ended_at >= v_since
        and (a.ended_at < v_at or a.task_id < v_id)
        and not exists (
          select from unstuck.attempts n
          where n.watch = a.watch and n.task_id = a.task_id and n.number > a.number
        )
      order by a.ended_at desc, a.task_id desc
      limit p_limit;
    else return query
      select
        a.ended_at,
        a.task_id,
        unstuck.fits(a.kind, v_kind)
          and unstuck.fits(a.reason, v_reason)
          and (v_shape is null or unstuck.message_shape(a.error) = v_shape)
      from unstuck.attempts a
      where a.watch = 'tasks'
        and a.outcome in ('completed', 'failed', 'cancelled')
        and (v_state is null or a.outcome = v_state)
        and a.ended_at <= least(v_at, v_until)
        and a.ended_at >= v_since
        and (a.ended_at < v_at or a.task_id < v_id)
        and not exists (
          select from unstuck.attempts n
          where n.watch = a.watch and n.task_id = a.task_id and n.number > a.number
        )
      order by a.ended_at desc, a.task_id desc
      limit p_limit;
    end if;
  when 4 then return query
    select
      null::timestamptz,
      t."id"::text,
      unstuck.fits(t."kind", v_kind) and unstuck.fits(t."owner"::text, v_owner)
    from "public"."tasks" t
    where p_after_id is null or t."id" > p_after_id::uuid
    order by t."id"
    limit p_limit;
  else return query  -- 5: a range of keys
    select
      null::timestamptz,
      t."id"::text,
      unstuck.fits(t."kind", v_kind) and unstuck.fits(t."owner"::text, v_owner)
    from "public"."tasks" t
    where t."id" >= p_after_id::uuid
      and t."id" <= (p_filter ->> 'last')::uuid
    order by t."id"
    limit p_limit;
  end case;
end $$;

-- One page of the list. `p_filter`: {state (one of six, or stuck, open, elsewhere), word (of the
-- table's status), kind, owner, reason, first and last (keys), since and until (times), message
-- (the shape of a sentence), text (in the sentence or the input; the answer has them then), order
-- (`reverse`, with a state)}, each optional. In a table that is not our own, what ended behind the
-- guard comes last, where a filter asks for it. `p_after`: the `next` of the page before.
-- Answers {tasks, next}; a `next` with `searched` goes on behind the rows that were looked at.
-- No hash and no merge joins: with a small table they would read all of it, and such a plan is kept
-- while it grows.
create or replace function unstuck.tasks_page(
  p_filter jsonb,
  p_rules jsonb,
  p_limit integer default 50,
  p_after jsonb default null
) returns jsonb
language plpgsql stable
set enable_seqscan = off set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_now      constant timestamptz := clock_timestamp();
  v_state    constant text := p_filter ->> 'state';
  v_ended    constant boolean := coalesce(v_state in ('completed', 'failed', 'cancelled'), false);
  v_filtered constant boolean :=
    p_filter ?| array[
      'kind', 'owner', 'reason', 'first', 'word', 'text', 'message', 'since', 'until'
    ]
    or v_state in ('resting', 'elsewhere');
  v_sections constant integer[] := case
    when p_filter ? 'first' then array[5]
    when v_state = 'stuck' then array[0]
    when v_state = 'running' then array[0, 1]
    when v_state = 'pending' then array[0, 2]
    when v_state = 'open' then array[0, 1, 2]
    when v_state in ('resting', 'elsewhere') then array[4]
    when v_ended then array[3]
    else array[0, 1, 2, 3]
  end || case
    when not true
      and (v_ended or v_filtered and v_state is null)
      and not p_filter ?| array['first', 'reason', 'message']
    then array[4]
    else '{}'
  end;
  v_turns   constant jsonb := case
    when not v_ended then unstuck.tasks_turns(v_now, p_rules, 'pending_for')
  end;
  v_limit   constant integer := least(p_limit, 500) + 1;
  v_text    constant text := lower(p_filter ->> 'text');
  v_budget  integer := case
    when v_text is not null then 1000
    when p_filter ? 'reason' then 2000
    else 3000
  end;
  v_section integer;
  v_at      timestamptz;
  v_id      text;
  v_seen    record;
  v_ids     text[] := '{}';
  v_ats     timestamptz[] := '{}';
  v_from    integer[] := '{}';
  v_more    record;
  v_next    jsonb;
  v_take    integer;
  v_shown   integer;
begin
  foreach v_section in array v_sections loop
    continue when v_section < (p_after ->> 'section')::integer;
    if v_section = (p_after ->> 'section')::integer then
      v_at := (p_after ->> 'at')::timestamptz;
      v_id := p_after ->> 'id';
    else
      v_at := null;
      v_id := p_filter ->> 'first';
    end if;
    v_take := case
      when v_section = 4 and (v_ended or v_state is null) then least(v_budget, 1000)
      when v_filtered then v_budget
      else v_limit - cardinality(v_ids)
    end;
    select array_agg(s.at) as ats, array_agg(s.id) as ids, array_agg(s.fits) as fits
    into v_seen
    from unstuck.tasks_section(
      v_section, v_now, p_rules, v_take, v_at, v_id, p_filter, v_turns
    ) s;
    if not v_filtered and v_section < 3 then  -- all that was read is shown
      v_more := v_seen;
    else
      select array_agg(f.at order by f.n) as ats, array_agg(f.id order by f.n) as ids
      into v_more
      from (
        select s.at, s.id, s.n
        from (
          select u.*
          from unnest(v_seen.ats, v_seen.ids, v_seen.fits) with ordinality as u (at, id, fits, n)
          where u.fits
        ) s
        join "public"."tasks" t on t."id" = s.id::uuid
        left join lateral (
          select a.reason, a.outcome::text, a.error, a.ended_at
          from unstuck.attempts a
          where a.watch = 'tasks' and a.task_id = s.id
          order by a.number desc
          limit 1
        ) l on true
        where (not p_filter ? 'owner' or t."owner"::text = p_filter ->> 'owner')
          -- started again by a person: it is shown where it waits
          and (v_section <> 3 or not (t."status" = 'processing' or t."status" = 'pending') is true)
          and (not p_filter ? 'reason' or l.reason = p_filter ->> 'reason')
          and (
            v_section <= 3
            or not p_filter ?| array['since', 'until']
            or coalesce(l.ended_at, t."finished_at", t."updated_at", t."scheduled_at") between
              coalesce((p_filter ->> 'since')::timestamptz, '-infinity')
              and coalesce((p_filter ->> 'until')::timestamptz, 'infinity')
          )
          and (
            v_text is null
            or position(v_text in lower(coalesce(t."error_message", l.error, ''))) > 0
            or position(v_text in lower(coalesce(case when pg_column_size(t."input") <= 8192 then t."input"::text end, ''))) > 0
          )
          and (not p_filter ? 'word' or t."status"::text = p_filter ->> 'word')
          and case
            when v_section = 4 and v_state is distinct from 'resting' then
              case when p_filter ? 'state' then l.outcome is distinct from case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end
                -- the ledger's have been shown, whatever they are now
                else (l.outcome in ('completed', 'failed', 'cancelled')) is not true
              end
              and (t."status" = 'failed' or t."status" = 'cancelled' or case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end = 'completed')
              and (not v_ended or case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end = v_state)
            when v_state is null or v_state in ('stuck', 'open') then true
            else case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end = v_state
          end
        order by s.n
        limit v_limit - cardinality(v_ids)
      ) f;
    end if;
    v_ids := v_ids || v_more.ids;
    v_ats := v_ats || v_more.ats;
    v_from := v_from || array_fill(v_section, array[coalesce(cardinality(v_more.ids), 0)]);
    exit when cardinality(v_ids) >= v_limit;
    v_budget := v_budget - coalesce(cardinality(v_seen.ids), 0);
    if coalesce(cardinality(v_seen.ids), 0) >= v_take then  -- looked at enough: go on from here
      v_next := jsonb_build_object(
        'section', v_section,
        'at', v_seen.ats[v_take],
        'id', v_seen.ids[v_take],
        'searched', true
      );
      exit;
    end if;
  end loop;
  v_shown := least(cardinality(v_ids), v_limit - 1);
  if cardinality(v_ids) >= v_limit then
    v_next := jsonb_build_object(
      'section', v_from[v_shown], 'at', v_ats[v_shown], 'id', v_ids[v_shown]
    );
  end if;
  return jsonb_build_object('next', v_next, 'tasks', coalesce((
    select jsonb_agg(jsonb_build_object(
      'task_id', d.id,
      'state', d.state,
      'word', d.word,
      'kind', d.kind,
      'owner', d.owner,
      'error', d.error,
      'label', d.label,
      'searched', d.searched,
      'number', d.number,
      'worker', d.worker,
      'reason', d.reason,
      'progress', d.progress,
      'since', extract(epoch from unstuck.finite(d.since)),
      'age', extract(epoch from v_now - unstuck.finite(d.since)),
      'waited', extract(epoch from d.waited),
      'took', extract(epoch from d.took),
      'late', case when d.until <= v_now then
        coalesce(extract(epoch from v_now - unstuck.finite(d.until)), 0)
      end
    ) order by d.n)
    from (
      select
        s.n,
        s.id,
        case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end as state,
        t."status"::text as word,
        t."kind" as kind,
        t."owner"::text as owner,
        left(null::text, 300) as label,
        case when v_text is not null then case when pg_column_size(t."input") <= 8192 then t."input"::text end end as searched,
        l.number,
        l.worker,
        case when t."status" = 'failed' then coalesce(t."error_message", l.error) end as error,
        case when t."status" = 'processing' then null else coalesce(t."reason", l.reason) end as reason,
        case when t."status" = 'processing' then l.progress end as progress,
        case
          when t."status" = 'processing' then coalesce(
            case when l.ended_at is null then l.started_at end, t."started_at", t."updated_at"
          )
          when t."status" = 'pending' then t."scheduled_at"
          else coalesce(l.ended_at, t."finished_at", t."updated_at")
        end as since,
        case when l.number = 1 and not t."status" = 'pending' and isfinite(t."scheduled_at") then
          greatest(l.began_at - t."scheduled_at", '0')
        end as waited,
        case
          when t."status" = 'processing' or t."status" = 'pending' then null
          when l.number is not null then l.ended_at - l.began_at
          when t."finished_at" >= t."started_at" then
            unstuck.finite(t."finished_at") - unstuck.finite(t."started_at")
        end as took,
        case
          when l.number is not null
            and l.ended_at is null
            and (t."status" = 'processing' or t."status" = 'pending')
          then l.lives_until
          when false then v_now
          when t."status" = 'pending' then
            unstuck.pending_until(t."scheduled_at", t."kind", p_rules, v_turns)
          when t."status" = 'processing' then
            least(t."updated_at", '9999-12-31')
              + unstuck.rule_seconds(p_rules, t."kind", 'silent_for')
        end as until
      from unnest(v_ids[:v_shown]) with ordinality as s (id, n)
      join "public"."tasks" t on t."id" = s.id::uuid
      left join lateral (
        select a.*, case
          when a.ended_at is null then unstuck.lives_until(a, (select unstuck.ready_after()))
        end as lives_until,
        case  -- a run without the guard began when its row says so, not when a sweep ended it
          when a.lease = '0' and a.number = 1 then least(unstuck.finite(t."started_at"), a.started_at)
          else a.started_at
        end as began_at
        from unstuck.attempts a
        where a.watch = 'tasks' and a.task_id = s.id
        order by a.number desc
        limit 1
      ) l on true
    ) d
  ), '[]'));
end $$;

-- The failures since a time, by the shape of their sentence, the most frequent first: of the 2,000
-- latest. Answers {seen, most, groups: [{message, example, kinds, reasons, count, ago}]}.
create or replace function unstuck.tasks_failures(p_since float8 default 86400) returns jsonb
language plpgsql stable
set enable_seqscan = off set jit = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_now  constant timestamptz := clock_timestamp();
  v_most constant integer := 2000;
begin
  return (
    with failed as materialized (
      select a.error, a.kind, a.reason, a.ended_at
      from unstuck.attempts a
      where a.watch = 'tasks'
        and a.outcome in ('failed', 'cancelled')
        and a.outcome = 'failed'
        and a.ended_at >= v_now - make_interval(secs => p_since)
        and not exists (
          select from unstuck.attempts n
          where n.watch = a.watch and n.task_id = a.task_id and n.number > a.number
        )
      order by a.ended_at desc
      limit v_most
    )
    select jsonb_build_object(
      'seen', (select count(*) from failed),
      'most', v_most,
      'groups', coalesce((
        select jsonb_agg(to_jsonb(g) order by g.count desc, g.ago)
        from (
          select
            unstuck.message_shape(f.error) as message,
            left((array_agg(f.error order by f.ended_at desc))[1], 300) as example,
            array_agg(distinct f.kind) as kinds,
            array_agg(distinct f.reason) as reasons,
            count(*) as count,
            extract(epoch from v_now - max(f.ended_at)) as ago
          from failed f
          where f.error is not null
          group by 1
          order by 5 desc, 6
          limit 20
        ) g
      ), '[]')
    )
  );
end $$;

-- How many tasks are in a state, counted up to 1,000 (the answer is 1,001 where there are more).
-- Planned for the state: those that were cancelled have an index of their own.
create or replace function unstuck.tasks_count(p_state text) returns integer
language plpgsql stable
set enable_seqscan = off set jit = off
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_custom_plan as $$
declare
  v_most  constant integer := 1001;
  v_count integer;
begin
  case p_state
  when 'pending' then
    select count(*) into v_count
    from (select from "public"."tasks" t where t."status" = 'pending' limit v_most) s;
  when 'running' then
    select count(*) into v_count
    from (select from "public"."tasks" t where t."status" = 'processing' limit v_most) s;
  when 'failed', 'cancelled' then
    select count(*) into v_count
    from (
      select
      from unstuck.attempts a
      where a.watch = 'tasks'
        and a.outcome in ('failed', 'cancelled')
        and a.outcome = p_state
        and not exists (
          select from unstuck.attempts n
          where n.watch = a.watch and n.task_id = a.task_id and n.number > a.number
        )
      order by a.ended_at desc
      limit v_most
    ) s;
  else
    v_count := null;
  end case;
  return v_count;
end $$;

-- pulse: what the operators' page shows first: how many tasks are stuck, what is open, the last
-- sweep. Bounded, since it is asked every 2 seconds: at most 1,000 rows of a state are read, the
-- oldest first, and the answer has that bound (`most`). Reads open rows and the ledger, and locks
-- nothing.
create or replace function unstuck.tasks_pulse(p_rules jsonb) returns jsonb
language plpgsql stable set plan_cache_mode = force_generic_plan
set enable_seqscan = off set jit = off as $$
declare
  v_now  constant timestamptz := clock_timestamp();
  v_most constant integer := 1000;
begin
  return jsonb_build_object(
    'most', v_most,
    'stuck', (
      select jsonb_build_object(
        'count', count(*),
        'oldest', extract(epoch from v_now - min(unstuck.finite(s.at))),
        'unjudged', (
          select count(*)
          from (
            select from "public"."tasks" t
            where t."status" = 'pending' and t."scheduled_at" is null
            union all
            select from "public"."tasks" t
            where t."status" = 'processing'
              and t."updated_at" is null
              and not exists (
                select from unstuck.attempts a
                where a.watch = 'tasks' and a.task_id = t."id"::text and a.ended_at is null
              )
            limit v_most
          ) u
        )
      )
      from unstuck.tasks_stuck_tasks(v_now, p_rules, v_most) s
    ),
    'open', coalesce((
      select jsonb_agg(jsonb_build_object(
        'state', o.state, 'kind', o.kind, 'count', o.count, 'oldest', o.oldest
      ) order by o.state desc, o.count desc, o.kind)
      from (
        select
          'pending' as state,
          p.kind,
          count(*) as count,
          extract(epoch from v_now - min(unstuck.finite(p.since))) as oldest
        from (
          select t."kind" as kind, t."scheduled_at" as since
          from "public"."tasks" t
          where t."status" = 'pending'
          order by t."scheduled_at"
          limit v_most
        ) p
        group by p.kind
        union all
        select 'running', r.kind, count(*), extract(epoch from v_now - min(unstuck.finite(r.since)))
        from (
          select t."kind" as kind, coalesce(t."started_at", t."updated_at") as since
          from "public"."tasks" t
          where t."status" = 'processing'
          order by t."updated_at"
          limit v_most
        ) r
        group by r.kind
      ) o
    ), '[]'),
    'last_sweep', (
      select jsonb_build_object(
        'id', s.id,
        'ago', extract(epoch from v_now - s.started_at),
        'ok', s.ok,
        'counts', s.counts,
        'error', s.error,
        'running', s.ended_at is null and s.until > v_now
      )
      from unstuck.sweeps s
      where s.installation = ''
      order by s.id desc
      limit 1
    ),
    'last_good', (
      select extract(epoch from v_now - g.started_at)
      from (
        select s.id, s.started_at, s.ok
        from unstuck.sweeps s
        where s.installation = ''
        order by s.id desc
        limit 1000
      ) g
      where g.ok
      order by g.id desc
      limit 1
    )
  );
end $$;

-- The last `p_half_hours`: how attempts ended (at most 200 of each half hour are read: a sample
-- where `more`, and `about` is then how many there were, at the pace of the sample), of which kinds
-- they were, how long the first ones of a task waited for a worker (at most 20 of each half hour),
-- and how long it took from the last sign of life of an attempt to its rescue by a sweep.
create or replace function unstuck.tasks_day(p_half_hours integer default 48) returns jsonb
language plpgsql stable set enable_seqscan = off set jit = off as $$
declare
  v_step  constant interval := '30 min';
  v_each  constant integer := 200;
  v_begin constant timestamptz :=
    date_bin(v_step, clock_timestamp(), '2000-01-01') - (p_half_hours - 1) * v_step;
begin
  return jsonb_build_object(
    'begin', extract(epoch from v_begin),
    'step', extract(epoch from v_step),
    'ended', (
      select jsonb_agg(jsonb_build_object(
        'completed', e.completed,
        'failed', e.failed,
        'retried', e.retried,
        'more', e.seen >= v_each,
        'about', case
          when e.seen < v_each then e.seen
          else round(
            e.seen * extract(epoch from v_step) / greatest(1, extract(epoch from
              least(e.latest, clock_timestamp()) - (v_begin + b.n * v_step)))
          )
        end,
        'kinds', e.kinds
      ) order by b.n)
      from generate_series(0, p_half_hours - 1) as b (n)
      cross join lateral (
        select
          count(*) filter (where s.outcome = 'completed') as completed,
          count(*) filter (where s.outcome = 'failed') as failed,
          count(*) filter (where s.outcome in ('retried', 'released')) as retried,
          count(*) as seen,
          max(s.ended_at) as latest,
          coalesce(jsonb_agg(distinct s.kind), '[]') as kinds
        from (
          select a.outcome, a.kind, a.ended_at
          from unstuck.attempts a
          where a.ended_at >= v_begin + b.n * v_step
            and a.ended_at < v_begin + (b.n + 1) * v_step
            and a.watch = 'tasks'
          order by a.ended_at
          limit v_each
        ) s
      ) e
    ),
    'waits', (
      select jsonb_build_object(
        'count', count(*),
        'p50', percentile_cont(0.5) within group (order by w.seconds),
        'p95', percentile_cont(0.95) within group (order by w.seconds)
      )
      from generate_series(0, p_half_hours - 1) as b (n)
      cross join lateral (
        select extract(epoch from s.started_at - (
          select unstuck.finite(t."scheduled_at")
          from "public"."tasks" t
          where t."id" = s.task_id::uuid
        )) as seconds
        from (
          select a.task_id, a.started_at, a.number, a.lease, a.reason
          from unstuck.attempts a
          where a.ended_at >= v_begin + b.n * v_step
            and a.ended_at < v_begin + (b.n + 1) * v_step
            and a.watch = 'tasks'
          order by a.ended_at
          limit 20
        ) s
        where s.number = 1
          and (s.lease > '0' or s.reason = 'never_claimed')  -- else nobody knows when it was taken
      ) w
      where w.seconds >= 0
    ),
    'rescued', coalesce((
      select jsonb_agg(jsonb_build_object(
        'n', r.n, 'count', r.count, 'p50', r.p50, 'max', r.max
      ) order by r.n)
      from (
        select
          floor(
            extract(epoch from s.ended_at - v_begin) / extract(epoch from v_step)
          )::integer as n,
          count(*) as count,
          percentile_cont(0.5) within group (order by s.took) as p50,
          max(s.took) as max
        from (
          select a.ended_at, extract(epoch from a.ended_at - a.beat_at) as took
          from unstuck.attempts a
          where a.sweep_id >= (
            select coalesce(min(w.id), 0)
            from (
              select w.id
              from unstuck.sweeps w
              where w.started_at >= v_begin
              order by w.id desc
              limit 3000
            ) w
          )
            and a.sweep_id > 0
            and a.watch = 'tasks'
            and a.ended_at >= v_begin
            and a.beat_at < a.ended_at
          order by a.sweep_id desc
          limit 5000
        ) s
        group by 1
      ) r
    ), '[]')
  );
end $$;

-- timeline: all that is known of one task's attempts, to draw them: times in seconds since 1970.
-- The last 50 attempts. `unguarded`: what the row says of a task that runs, or ended, without one.
create or replace function unstuck.tasks_timeline(p_task text) returns jsonb
language sql stable as $$
  select jsonb_build_object(
    'now', extract(epoch from clock_timestamp()),
    'created', (
      select extract(epoch from unstuck.finite(t.created_at))
      from "public"."tasks" t
      where t."id" = p_task::uuid
    ),
    'due', (
      select extract(epoch from unstuck.finite(t."scheduled_at"))
      from "public"."tasks" t
      where t."id" = p_task::uuid and t."status" = 'pending'
    ),
    'parent', (
      select t.metadata ->> 'parent'
      from "public"."tasks" t
      where t."id" = p_task::uuid
    ),
    'label', (
      select left(null::text, 300)
      from "public"."tasks" t
      where t."id" = p_task::uuid
    ),
    'unguarded', (
      select jsonb_build_object(
        'started', extract(epoch from unstuck.finite(t."started_at")),
        'alive', extract(epoch from unstuck.finite(t."updated_at")),
        'ended', case when not t."status" = 'processing' then
          extract(epoch from unstuck.finite(coalesce(t."finished_at", t."updated_at")))
        end
      )
      from "public"."tasks" t
      where t."id" = p_task::uuid
        and (
          t."status" = 'processing'
          or t."status" = 'failed'
          or t."status" = 'cancelled'
          or case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end = 'completed'
        )
        and not exists (
          select from unstuck.attempts a where a.watch = 'tasks' and a.task_id = p_task
        )
    ),
    'attempts', coalesce((
      select jsonb_agg(jsonb_build_object(
        'number', a.number,
        'tries', a.tries,
        'worker', a.worker,
        'trace', a.trace,
        'started', extract(epoch from coalesce(r.started_at, a.started_at)),
        'beat', extract(epoch from coalesce(r.alive_at, a.beat_at)),
        'beats', a.beats,
        'lease', extract(epoch from a.lease),
        'lease_until', extract(epoch from a.lease_until),
        'deadline', extract(epoch from a.deadline_at),
        'ended', extract(epoch from a.ended_at),
        'retry_at', extract(epoch from a.retry_at),
        'outcome', a.outcome,
        'reason', a.reason,
        'cause', a.cause,
        'error', a.error,
        'detail', a.detail,
        'progress', a.progress,
        'sweep_id', a.sweep_id,
        'checkpoints', a.checkpoint_at || (
          select coalesce(jsonb_object_agg(c.name, extract(epoch from c.at)), '{}')
          from unstuck.checkpoints c
          where c.watch = 'tasks' and c.task_id = p_task and c.number = a.number
        )
      ) order by a.number)
      from (
        select *
        from unstuck.attempts a
        where a.watch = 'tasks' and a.task_id = p_task
        order by a.number desc
        limit 50
      ) a
      left join lateral (  -- a run without the guard, which a sweep ended
        select
          least(unstuck.finite(t."started_at"), a.started_at) as started_at,
          least(unstuck.finite(t."updated_at"), a.beat_at) as alive_at
        from "public"."tasks" t
        where a.lease = '0'
          and a.number = 1
          and t."id" = p_task::uuid
          and t."started_at" is not null
          and not t."status" = 'pending'
      ) r on true
    ), '[]'),
    'refusals', coalesce((
      select jsonb_agg(jsonb_build_object(
        'at', extract(epoch from r.at),
        'source', r.source,
        'wanted', r.wanted,
        'because', r.because,
        'writer', r.writer
      ) order by r.id)
      from (
        select *
        from unstuck.refusals r
        where r.watch = 'tasks' and r.task_id = p_task
        order by r.id desc
        limit 50
      ) r
    ), '[]')
  )
$$;

-- What the list never shows: input and result, and the data of the last attempt's checkpoints.
create or replace function unstuck.tasks_payload(p_task text) returns jsonb
language sql stable as $$
  select jsonb_build_object(
    'input', t."input",
    'result', t."result",
    'checkpoints', (
      select a.checkpoint || unstuck.saved('tasks', p_task, a.number)
      from unstuck.attempts a
      where a.watch = 'tasks' and a.task_id = p_task
      order by a.number desc
      limit 1
    )
  )
  from "public"."tasks" t
  where t."id" = p_task::uuid
$$;

-- What one sweep did to tasks, by task, at most 500. `undo`: the task is as that sweep left it, and
-- failed. With `p_undo` only those.
create or replace function unstuck.tasks_swept(
  p_sweep bigint,
  p_limit integer default 500,
  p_after text default '',
  p_undo boolean default false
) returns jsonb language sql stable as $$
  select coalesce(jsonb_agg(to_jsonb(d) order by d.task_id), '[]')
  from (
    select
      a.task_id,
      a.number,
      a.kind,
      a.worker,
      a.outcome,
      a.reason,
      a.cause,
      extract(epoch from a.ended_at - a.beat_at) as silent,
      case when t."status" = 'pending' then 'pending' when t."status" = 'processing' then 'running' when t."status" = 'completed' then 'completed' when t."status" = 'failed' then 'failed' when t."status" = 'cancelled' then 'cancelled' end as state,
      t."status"::text as word,
      coalesce(t."status" = 'failed' and l.number = a.number, false) as undo
    from unstuck.attempts a
    join "public"."tasks" t on t."id" = a.task_id::uuid
    cross join lateral (
      select max(n.number) as number
      from unstuck.attempts n
      where n.watch = a.watch and n.task_id = a.task_id
    ) l
    where a.watch = 'tasks'
      and a.sweep_id = p_sweep
      and a.sweep_id > 0
      and a.task_id > p_after
      and (not p_undo or t."status" = 'failed' and l.number = a.number)
    order by a.task_id
    limit least(p_limit, 500)
  ) d
$$;

-- fence: refuses foreign writes that would leave a terminal state, rewrite how a task ended, or end
-- a task that an attempt holds; records what it refused in unstuck.refusals.
-- Unstuck's own statements have ended the attempt before they update the row. They also set
-- unstuck.override, and so the trigger does not fire for them. That of an operator is the watch;
-- that of settle and sweep is valid at one trigger depth only: updates made by the user's own
-- triggers run one level deeper and are checked. Any role may set such a variable; it counts for
-- those alone who may use our schema.
-- With `fence: observe` it is a rehearsal: it writes down what it would refuse, and lets it pass.
-- A change between two status values of the same state (rendering -> uploading) is allowed. So is a
-- note on a task that has ended, in any other column; the time of its end stays, since some tables
-- have a trigger that sets it at each update.
create or replace function unstuck.tasks_fence() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_because text;
begin
  if old."status" in ('completed', 'failed', 'cancelled') then
    if (case when old."status" = 'pending' then 'pending' when old."status" = 'processing' then 'running' when old."status" = 'completed' then 'completed' when old."status" = 'failed' then 'failed' when old."status" = 'cancelled' then 'cancelled' end is not distinct from case when new."status" = 'pending' then 'pending' when new."status" = 'processing' then 'running' when new."status" = 'completed' then 'completed' when new."status" = 'failed' then 'failed' when new."status" = 'cancelled' then 'cancelled' end) and not (old."result" is distinct from new."result" or old."error_message" is distinct from new."error_message" or old."reason" is distinct from new."reason") then
      if not false then
        new."finished_at" := old."finished_at";
      end if;
      return new;
    end if;
    v_because := 'ended';
  elsif (
    case when old."status" = 'pending' then 'pending' when old."status" = 'processing' then 'running' when old."status" = 'completed' then 'completed' when old."status" = 'failed' then 'failed' when old."status" = 'cancelled' then 'cancelled' end is distinct from case when new."status" = 'pending' then 'pending' when new."status" = 'processing' then 'running' when new."status" = 'completed' then 'completed' when new."status" = 'failed' then 'failed' when new."status" = 'cancelled' then 'cancelled' end
    or old."id" is distinct from new."id"  -- its attempt is found by its key
  ) and exists (
    select from unstuck.attempts a
    where a.watch = 'tasks' and a.task_id = old."id"::text and a.ended_at is null
  ) then
    v_because := 'held';
  else
    if new."status" = 'pending' and not (old."status" = 'pending') then
      new."scheduled_at" := greatest(new."scheduled_at", clock_timestamp()); new.turn := null;
    end if;
    return new;
  end if;
  perform unstuck.refused(
    'tasks',
    old."id"::text,
    case when false then 'rehearsal' else 'fence' end,
    new."status"::text,
    v_because,
    null,
    coalesce(nullif(current_setting('application_name', true), ''), session_user)
  );
  if false then
    return new;
  end if;
  raise warning 'unstuck: task % stays %: it is %', old."id", old."status", v_because
    using hint = format(
      'Call unstuck.%s_operate(%L, array[%L]) to start an ended task again; cancel a held one.',
      'tasks', 'retry', old."id"::text
    );
  return null;
end $$;

-- The condition is short: each statement reads and prepares it anew (one that compared states took
-- a quarter of claim and settle). The depth is cast to text: `||` with a number is a function in
-- SQL, whose body would be read anew as well.
select unstuck.keep_trigger('"public"."tasks"', 'unstuck_fence', $trigger$
before update on "public"."tasks"
for each row when (
  not (old."status" = 'pending') and (
    current_setting('unstuck.override', true) in ('tasks', 'tasks/' || pg_trigger_depth()::text)
    and has_schema_privilege('unstuck', 'usage')
  ) is not true
) execute function unstuck.tasks_fence()
$trigger$);

-- not wanted by the policy: observe
do $$
begin
  if exists (
    select from pg_trigger
    where tgrelid = '"public"."tasks"'::regclass
      and tgname = 'unstuck_observe'
      and tgfoid = to_regprocedure('unstuck.tasks_observe()')
  ) then
    drop trigger unstuck_observe on "public"."tasks";
    delete from unstuck.observed where watch = 'tasks';
  end if;
end $$;

-- not wanted by the policy: put_back
do $$
begin
  if exists (
    select from pg_trigger
    where tgrelid = '"public"."tasks"'::regclass
      and tgname = 'unstuck_put_back'
      and tgfoid = to_regprocedure('unstuck.tasks_put_back()')
  ) then
    drop trigger unstuck_put_back on "public"."tasks";
    null;
  end if;
end $$;


-- grants: our schema is for its owner and, on Supabase, for its service role; for nobody else.
-- Comes last, each time. PostgreSQL lets everybody execute a new function, and a default privilege
-- of one schema cannot take that away; but nobody else may use the schema, so what is made here
-- later is out of reach.
revoke all on schema unstuck from public;
revoke all on all tables in schema unstuck from public;
revoke execute on all routines in schema unstuck from public;

do $$
begin
  if to_regrole('anon') is null
    or to_regrole('authenticated') is null
    or to_regrole('service_role') is null
  then
    return;
  end if;
  revoke all on schema unstuck from anon, authenticated;
  revoke all on all tables in schema unstuck from anon, authenticated;
  revoke execute on all routines in schema unstuck from anon, authenticated;
  grant usage on schema unstuck to service_role;
  grant select, insert, update, delete on all tables in schema unstuck to service_role;
  grant execute on all routines in schema unstuck to service_role;
  if to_regclass('unstuck.migrations') is not null then
    revoke insert, update, delete on unstuck.migrations from service_role;
  end if;
end $$;

-- grants_table: of a table that we made, what row security does not keep: where default privileges
-- are generous, as Supabase's are, anybody could empty it or put a trigger on it.
do $$
declare
  v_role  text;
  v_right text;
begin
  foreach v_role in array array['anon', 'authenticated'] loop
    foreach v_right in array array['truncate', 'references', 'trigger', 'maintain'] loop
      continue when to_regrole(v_role) is null;
      continue when v_right = 'maintain' and current_setting('server_version_num')::int < 170000;
      execute format('revoke %s on "public"."tasks" from %I', v_right, v_role);
    end loop;
  end loop;
end $$;

