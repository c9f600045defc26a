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
